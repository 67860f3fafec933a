//! The GPU's kernels on the shapes of BitNet b1.58 2B-4T, as a model uses them: products that wait for each other, a layer
//! of one token and of a prompt, the head with its likeliest token. What runs is sent ahead and waited for once, so that times
//! are the device's. The most powerful adapter is measured; standard error says which one that is. One that computes on the
//! CPU would take hours for these shapes, and gets small ones.

use bitnet_benchmarks::settings;
use bitnet_core::gpu::{GpuOptions, WgpuBackend};
use bitnet_core::{
    Activations, Backend, Bytes, Gate, HeadMode, Heads, Input, Norm, Pending, Rope, RopePairs, Top,
    WeightMatrix,
};
use bitnet_quant::{Format, I2sLayout};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::cell::OnceCell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

type Hidden = <WgpuBackend as Backend>::Hidden;
type Cache = <WgpuBackend as Backend>::Cache;
type Matrix = <WgpuBackend as Backend>::Matrix;
type Gain = <WgpuBackend as Backend>::Gain;
type Table = <WgpuBackend as Backend>::Table;

/// Widths of a model.
#[derive(Clone, Copy)]
struct Shape {
    hidden: usize,
    feed_forward: usize,
    heads: Heads,
    vocabulary: usize,
}

const WHOLE: Shape = Shape {
    hidden: 2560,
    feed_forward: 6912,
    heads: Heads {
        query: 20,
        kv: 5,
        dim: 128,
    },
    vocabulary: 128_256,
};

/// Enough to see everything run.
const FEW: Shape = Shape {
    hidden: 256,
    feed_forward: 512,
    heads: Heads {
        query: 4,
        kv: 2,
        dim: 64,
    },
    vocabulary: 1000,
};

/// Layers with weights of their own: together more than a GPU's caches hold.
const LAYERS: usize = 8;
const PROMPT: usize = 512;
const CONTEXT: usize = 2048;
const EPS: f32 = 1e-5;
/// Answers that are not read yet.
const AHEAD: usize = 4;
/// How long a device works before it is timed.
const WARMING: Duration = Duration::from_millis(100);

struct Layer {
    query: Matrix,
    key: Matrix,
    value: Matrix,
    output: Matrix,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

/// A device with the layers of a model.
struct Bench {
    backend: WgpuBackend,
    shape: Shape,
    layers: Vec<Layer>,
    embedding: Table,
    narrow: Gain,
    wide: Gain,
    rope: Rope,
}

fn packed(format: Format, rows: usize, cols: usize) -> WeightMatrix {
    let bytes = rows * format.row_bytes(cols).expect("whole blocks");
    // No code is 3, and no scale is infinite.
    let data = Bytes::from(vec![0x21; bytes]);
    WeightMatrix::new("w", format, (rows, cols, cols), 1.0, data).expect("a matching size")
}

impl Bench {
    fn new(backend: WgpuBackend, shape: Shape) -> Self {
        let ternary = |rows, cols| {
            let weights = packed(Format::I2s(I2sLayout::A), rows, cols);
            backend.matrix(weights).expect("a matrix")
        };
        let kv = shape.heads.kv * shape.heads.dim;
        let layers = (0..LAYERS).map(|_| Layer {
            query: ternary(shape.hidden, shape.hidden),
            key: ternary(kv, shape.hidden),
            value: ternary(kv, shape.hidden),
            output: ternary(shape.hidden, shape.hidden),
            gate: ternary(shape.feed_forward, shape.hidden),
            up: ternary(shape.feed_forward, shape.hidden),
            down: ternary(shape.hidden, shape.feed_forward),
        });
        let layers = layers.collect();
        let embedding = packed(Format::F16, 1, shape.hidden);
        let gain = |len| backend.gain(vec![1.0; len]).expect("gains");
        Self {
            layers,
            embedding: backend.table(embedding).expect("a table"),
            narrow: gain(shape.hidden),
            wide: gain(shape.feed_forward),
            rope: Rope {
                pairs: RopePairs::HalfSplit,
                dims: shape.heads.dim,
                base: 500_000.0,
                divisors: Vec::new(),
                magnitude: 1.0,
            },
            shape,
            backend,
        }
    }

    fn head(&self, format: Format) -> Table {
        let weights = packed(format, self.shape.vocabulary, self.shape.hidden);
        let table = self.backend.head_table(weights, HeadMode::Full);
        table.expect("a table")
    }

    fn norm<'a>(&self, gain: &'a Gain) -> Option<Norm<'a, Gain>> {
        Some(Norm { gain, eps: EPS })
    }

    fn cache(&self, capacity: usize) -> Cache {
        self.backend
            .cache(LAYERS, self.shape.heads, capacity)
            .expect("a cache")
    }

    fn begin(&self, tokens: usize, cache: &Cache) -> Hidden {
        let tokens = vec![0; tokens];
        let input = Input::Tokens(&tokens);
        self.backend
            .embed(&self.embedding, input, cache)
            .expect("rows")
    }

    fn attend(&self, x: &mut Hidden, layer: usize, tokens: usize, first: usize, cache: &mut Cache) {
        let (backend, weights) = (&self.backend, &self.layers[layer]);
        let int8 = Activations::Int8;
        let a = backend.norm_quantize(x, self.norm(&self.narrow), int8);
        let matrices = [&weights.query, &weights.key, &weights.value];
        let products = backend.matmul(&a.expect("activations"), &matrices);
        let mut products = products.expect("products").into_iter();
        let mut next = || products.next().expect("three");
        let (mut q, k, v) = (next(), next(), next());
        let rotations = backend.rotations(&self.rope, first, tokens);
        let rotations = rotations.expect("rotations");
        backend
            .rope_append(&mut q, k, v, None, &rotations, cache, layer)
            .expect("appended");
        let attention = backend.attention(&q, cache, layer).expect("attention");
        let a = backend.norm_quantize(&attention, self.norm(&self.narrow), int8);
        let a = a.expect("activations");
        backend.matmul_add(&a, &weights.output, x).expect("a sum");
    }

    fn feed(&self, x: &mut Hidden, layer: usize) {
        let (backend, weights) = (&self.backend, &self.layers[layer]);
        let int8 = Activations::Int8;
        let a = backend.norm_quantize(x, self.norm(&self.narrow), int8);
        let products = backend.matmul(&a.expect("activations"), &[&weights.gate, &weights.up]);
        let mut products = products.expect("products");
        let (up, gate) = (products.pop().expect("two"), products.pop().expect("two"));
        let norm = self.norm(&self.wide);
        let a = backend.gate_norm_quantize(gate, up, Gate::Relu2, norm, int8);
        let a = a.expect("activations");
        backend.matmul_add(&a, &weights.down, x).expect("a sum");
    }

    fn project(&self, x: &mut Hidden, layer: usize) {
        let a = self
            .backend
            .norm_quantize(x, self.norm(&self.narrow), Activations::Int8);
        self.backend
            .matmul_add(&a.expect("activations"), &self.layers[layer].output, x)
            .expect("a sum");
    }

    /// Batches to an iteration, so that the one wait at the end counts little.
    fn repeat(&self) -> u32 {
        if self.backend.adapter().is_hardware() {
            16
        } else {
            1
        }
    }

    /// Runs something until the clock of the device has risen: it idles at a fraction of it.
    fn warm(&self, mut run: impl FnMut()) {
        let begin = Instant::now();
        run();
        while self.backend.adapter().is_hardware() && begin.elapsed() < WARMING {
            run();
        }
    }

    /// The time of `count` batches of `tokens` tokens behind `first` others; `work` adds to the rows of a batch.
    fn time(
        &self,
        count: u64,
        (tokens, first): (usize, usize),
        work: impl Fn(&mut Hidden, &mut Cache),
    ) -> Duration {
        let mut cache = self.cache(first + tokens);
        // What lies before does not matter, but that it is there.
        for start in (0..first).step_by(PROMPT) {
            let tokens = PROMPT.min(first - start);
            let mut x = self.begin(tokens, &cache);
            for layer in 0..LAYERS {
                self.attend(&mut x, layer, tokens, start, &mut cache);
            }
            self.backend.run(x).expect("run");
        }
        let mut run = |wait: bool| {
            let mut x = self.begin(tokens, &cache);
            work(&mut x, &mut cache);
            if wait {
                let rows = self.backend.fetch(&x).and_then(Pending::now);
                rows.expect("rows");
            } else {
                self.backend.run(x).expect("run");
            }
            self.backend.truncate(&mut cache, first);
        };
        self.warm(|| run(true));
        let repeat = self.repeat();
        let count = count * u64::from(repeat);
        let begin = Instant::now();
        for index in 0..count {
            run(index + 1 == count);
        }
        begin.elapsed() / repeat
    }
}

fn kernels(criterion: &mut Criterion) {
    // `cargo bench` says so; `cargo test` only wants to see everything run.
    let options = GpuOptions {
        software: true,
        ..GpuOptions::default()
    };
    let backend = WgpuBackend::new(&options).expect("a GPU, or Mesa's lavapipe");
    let measures = std::env::args().any(|argument| argument == "--bench");
    let whole = measures && backend.adapter().is_hardware();
    let (shape, prompt, context, shapes) = if whole {
        (WHOLE, PROMPT, CONTEXT, "")
    } else {
        (FEW, 20, 300, ", small shapes")
    };
    eprintln!("{}{shapes}", backend.describe());
    let bench = OnceCell::new();
    let bench = || bench.get_or_init(|| Bench::new(backend.clone(), shape));
    let per_layer = |time: Duration| time / LAYERS as u32;
    let kv = shape.heads.kv * shape.heads.dim;
    let square = shape.hidden * shape.hidden;
    let feed = 3 * shape.hidden * shape.feed_forward;
    let layer = 2 * square + 2 * kv * shape.hidden + feed;

    let mut group = criterion.benchmark_group(format!("wgpu_decode{shapes}"));
    group.throughput(Throughput::Bytes(square as u64 / 4));
    group.bench_function("norm, round, output projection, add", |bencher| {
        bencher.iter_custom(|count| {
            let bench = bench();
            per_layer(bench.time(count, (1, 0), |x, _| {
                (0..LAYERS).for_each(|layer| bench.project(x, layer));
            }))
        });
    });
    group.throughput(Throughput::Bytes(feed as u64 / 4));
    group.bench_function("feed-forward block", |bencher| {
        bencher.iter_custom(|count| {
            let bench = bench();
            per_layer(bench.time(count, (1, 0), |x, _| {
                (0..LAYERS).for_each(|layer| bench.feed(x, layer));
            }))
        });
    });
    group.throughput(Throughput::Bytes(layer as u64 / 4));
    for first in [0, context] {
        group.bench_function(format!("layer behind {first}"), |bencher| {
            bencher.iter_custom(|count| {
                let bench = bench();
                per_layer(bench.time(count, (1, first), |x, cache| {
                    for layer in 0..LAYERS {
                        bench.attend(x, layer, 1, first, cache);
                        bench.feed(x, layer);
                    }
                }))
            });
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group(format!("wgpu_prompt{shapes}"));
    group.throughput(Throughput::Elements((layer * prompt) as u64));
    group.bench_function(format!("layer of {prompt} tokens"), |bencher| {
        bencher.iter_custom(|count| {
            let bench = bench();
            per_layer(bench.time(count, (prompt, 0), |x, cache| {
                for layer in 0..LAYERS {
                    bench.attend(x, layer, prompt, 0, cache);
                    bench.feed(x, layer);
                }
            }))
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group(format!("wgpu_head{shapes}"));
    for format in [Format::F16, Format::Q8_0, Format::Q6K] {
        let bytes = shape.vocabulary * format.row_bytes(shape.hidden).expect("whole blocks");
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("{format} and the likeliest"), |bencher| {
            // Once: while a table is brought there, the device's clock falls.
            let table = OnceCell::new();
            bencher.iter_custom(|count| {
                let bench = bench();
                heads(bench, table.get_or_init(|| bench.head(format)), count)
            });
        });
    }
    group.finish();
}

/// The time of `count` heads with their likeliest tokens.
fn heads(bench: &Bench, table: &Table, count: u64) -> Duration {
    let backend = &bench.backend;
    let mut cache = bench.cache(1);
    let mut run = || {
        let x = bench.begin(1, &cache);
        let norm = Norm {
            gain: &bench.narrow,
            eps: EPS,
        };
        let top = Top {
            count: 1,
            also: &[],
        };
        let answer = backend.head_top(&x, 0, norm, table, &top, &mut cache);
        answer.expect("under way")
    };
    bench.warm(|| drop(run().now().expect("a token")));
    let repeat = bench.repeat();
    let begin = Instant::now();
    // Read as a model reads them, a few behind: an answer that nobody reads keeps the memory it comes in.
    let mut answers = VecDeque::new();
    for _ in 0..count * u64::from(repeat) {
        if answers.len() == AHEAD {
            let answer = answers.pop_front().map(Pending::now);
            answer.transpose().expect("a token");
        }
        answers.push_back(run());
    }
    for answer in answers {
        answer.now().expect("a token");
    }
    begin.elapsed() / repeat
}

criterion_group! {
    name = benches;
    config = settings();
    targets = kernels
}
criterion_main!(benches);
