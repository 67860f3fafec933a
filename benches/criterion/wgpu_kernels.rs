//! The GPU's kernels on the shapes of BitNet b1.58 2B-4T, as a model uses them: sublayers and layers of one token and of a
//! prompt, the head with its likeliest token. Batches are sent ahead and waited for once, so that times are the device's. The most powerful adapter is measured; standard error says which one that is. One that computes on the
//! CPU would take hours for these shapes, and gets small ones.

use bitnet_benchmarks::settings;
use bitnet_core::gpu::{
    GpuEmbedding, GpuFeedForward, GpuHidden, GpuLmHead, GpuMixer, GpuOptions, GpuState, WgpuBackend,
};
use bitnet_core::{
    Activations, AttentionHeads, AttentionWeights, Backend, Batch, Bytes, FeedForwardWeights, Gate,
    GatedWeights, Input, LmHeadMode, MixerState, MixerWeights, NormWeights, OutputRequest, Pending,
    Projection, Rope, RopePairs, SequenceState, Span, Top, VocabularyWeights, WeightMatrix,
};
use bitnet_quant::{Format, I2sLayout};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::cell::OnceCell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Widths of a model.
#[derive(Clone, Copy)]
struct Shape {
    hidden: usize,
    feed_forward: usize,
    heads: AttentionHeads,
    vocabulary: usize,
}

const WHOLE: Shape = Shape {
    hidden: 2560,
    feed_forward: 6912,
    heads: AttentionHeads {
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
    heads: AttentionHeads {
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
/// Outputs that are not read yet.
const AHEAD: usize = 4;
/// How long a device works before it is timed.
const WARMING: Duration = Duration::from_millis(100);

/// A device with the layers of a model.
struct Bench {
    backend: WgpuBackend,
    shape: Shape,
    layers: Vec<(GpuMixer, GpuFeedForward)>,
    /// A vocabulary of one token.
    vocabulary: (GpuEmbedding, GpuLmHead),
}

fn packed(format: Format, rows: usize, cols: usize) -> WeightMatrix {
    let bytes = rows * format.row_bytes(cols).expect("whole blocks");
    // No code is 3, and no scale is infinite.
    let data = Bytes::from(vec![0x21; bytes]);
    WeightMatrix::new("w", format, (rows, cols, cols), 1.0, data).expect("a matching size")
}

fn ternary(rows: usize, cols: usize) -> WeightMatrix {
    packed(Format::I2s(I2sLayout::A), rows, cols)
}

fn norm(width: usize) -> NormWeights {
    NormWeights {
        name: "norm".into(),
        weight: vec![1.0; width],
        eps: EPS,
    }
}

fn mixer(shape: Shape) -> MixerWeights {
    let Shape { hidden, heads, .. } = shape;
    MixerWeights::Attention(AttentionWeights {
        output_norm: None,
        gated: false,
        heads,
        rope: Some(Rope {
            pairs: RopePairs::HalfSplit,
            dims: heads.dim,
            base: 500_000.0,
            divisors: Vec::new(),
            magnitude: 1.0,
        }),
        window: None,
        activations: Activations::Int8,
        norm: Some(norm(hidden)),
        query: ternary(heads.query_width(), hidden).into(),
        key: ternary(heads.kv_width(), hidden).into(),
        value: ternary(heads.kv_width(), hidden).into(),
        head_norms: None,
        output: Projection {
            rotation: None,
            norm: Some(norm(heads.query_width())),
            matrix: ternary(hidden, heads.query_width()),
        },
    })
}

fn feed_forward(shape: Shape) -> FeedForwardWeights {
    let Shape {
        hidden,
        feed_forward,
        ..
    } = shape;
    FeedForwardWeights::Gated(GatedWeights {
        output_norm: None,
        function: Gate::Relu2,
        activations: Activations::Int8,
        norm: Some(norm(hidden)),
        gate: ternary(feed_forward, hidden).into(),
        up: ternary(feed_forward, hidden).into(),
        down: Projection {
            rotation: None,
            norm: Some(norm(feed_forward)),
            matrix: ternary(hidden, feed_forward),
        },
    })
}

/// A batch of one span.
fn batch<'a>(
    tokens: &'a [u32],
    state: &'a mut GpuState,
    outputs: OutputRequest<'a>,
) -> Batch<'a, GpuState> {
    let span = Span {
        input: Input::Tokens(tokens),
        state,
        outputs,
    };
    Batch::new(vec![span]).expect("a batch")
}

impl Bench {
    fn new(backend: WgpuBackend, shape: Shape) -> Self {
        let layers = (0..LAYERS).map(|_| {
            let feed_forward = backend.load_feed_forward(feed_forward(shape));
            (
                backend.load_mixer(mixer(shape)).expect("a mixer"),
                feed_forward.expect("a sublayer"),
            )
        });
        Self {
            layers: layers.collect(),
            vocabulary: vocabulary(&backend, packed(Format::F16, 1, shape.hidden)),
            shape,
            backend,
        }
    }

    fn state(&self, capacity: usize) -> GpuState {
        let layers = [MixerState::KeysValues(self.shape.heads); LAYERS];
        self.backend
            .state(&layers, capacity, None)
            .expect("a state")
    }

    fn mix(&self, x: &mut GpuHidden, layer: usize, batch: &mut Batch<'_, GpuState>) {
        let (mixer, _) = &self.layers[layer];
        self.backend.mixer(x, mixer, layer, batch).expect("mixed");
    }

    fn feed(&self, x: &mut GpuHidden, layer: usize) {
        let (_, feed_forward) = &self.layers[layer];
        self.backend.feed_forward(x, feed_forward).expect("fed");
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
        work: impl Fn(&mut GpuHidden, &mut Batch<'_, GpuState>),
    ) -> Duration {
        let (embedding, head) = &self.vocabulary;
        let mut state = self.state(first + tokens);
        // The positions before it need not be anything, but must be there.
        for start in (0..first).step_by(PROMPT) {
            let tokens = vec![0; PROMPT.min(first - start)];
            let mut batch = batch(&tokens, &mut state, OutputRequest::Nothing);
            let mut x = self.backend.embed(embedding, &mut batch).expect("rows");
            for layer in 0..LAYERS {
                self.mix(&mut x, layer, &mut batch);
            }
            let outputs = self.backend.outputs(x, head, &mut batch);
            drop(outputs.expect("under way"));
        }
        let tokens = vec![0; tokens];
        let mut run = |wait: bool| {
            let mut batch = batch(&tokens, &mut state, OutputRequest::Nothing);
            let mut x = self.backend.embed(embedding, &mut batch).expect("rows");
            work(&mut x, &mut batch);
            if wait {
                let rows = self.backend.fetch(x).and_then(Pending::now);
                rows.expect("rows");
            } else {
                let outputs = self.backend.outputs(x, head, &mut batch);
                drop(outputs.expect("under way"));
            }
            state.truncate(first);
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

/// A vocabulary whose embedding is the head.
fn vocabulary(backend: &WgpuBackend, embedding: WeightMatrix) -> (GpuEmbedding, GpuLmHead) {
    let weights = VocabularyWeights {
        embedding_scale: 1.0,
        embedding_rotation: None,
        head_rotation: None,
        activations: bitnet_core::Activations::F32,
        norm: norm(embedding.cols()),
        embedding,
        head: None,
        mode: LmHeadMode::Full,
    };
    backend.load_vocabulary(weights).expect("a vocabulary")
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
    let mix = 2 * shape.hidden * (shape.heads.query_width() + shape.heads.kv_width());
    let feed = 3 * shape.hidden * shape.feed_forward;
    let layer = mix + feed;

    let mut group = criterion.benchmark_group(format!("wgpu_decode{shapes}"));
    group.throughput(Throughput::Bytes(mix as u64 / 4));
    group.bench_function("mixer", |bencher| {
        bencher.iter_custom(|count| {
            let bench = bench();
            per_layer(bench.time(count, (1, 0), |x, batch| {
                (0..LAYERS).for_each(|layer| bench.mix(x, layer, batch));
            }))
        });
    });
    group.throughput(Throughput::Bytes(feed as u64 / 4));
    group.bench_function("feed-forward", |bencher| {
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
                per_layer(bench.time(count, (1, first), |x, batch| {
                    for layer in 0..LAYERS {
                        bench.mix(x, layer, batch);
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
            per_layer(bench.time(count, (prompt, 0), |x, batch| {
                for layer in 0..LAYERS {
                    bench.mix(x, layer, batch);
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
                let table = table.get_or_init(|| {
                    let weights = packed(format, shape.vocabulary, shape.hidden);
                    vocabulary(&bench.backend, weights)
                });
                heads(bench, table, count)
            });
        });
    }
    group.finish();
}

/// The time of `count` heads with their likeliest tokens.
fn heads(bench: &Bench, (embedding, head): &(GpuEmbedding, GpuLmHead), count: u64) -> Duration {
    let backend = &bench.backend;
    let mut state = bench.state(1);
    let mut run = || {
        let top = Top {
            count: 1,
            also: &[],
        };
        let mut batch = batch(&[0], &mut state, OutputRequest::Top { rows: 1, top });
        let x = backend.embed(embedding, &mut batch).expect("rows");
        let outputs = backend.outputs(x, head, &mut batch);
        state.truncate(0);
        outputs.expect("under way")
    };
    bench.warm(|| drop(run().now().expect("a token")));
    let repeat = bench.repeat();
    let begin = Instant::now();
    // Read as a model reads them, a few behind: an output that nobody reads keeps the memory it comes in.
    let mut outputs = VecDeque::new();
    for _ in 0..count * u64::from(repeat) {
        if outputs.len() == AHEAD {
            let output = outputs.pop_front().map(Pending::now);
            output.transpose().expect("a token");
        }
        outputs.push_back(run());
    }
    for output in outputs {
        output.now().expect("a token");
    }
    begin.elapsed() / repeat
}

criterion_group! {
    name = benches;
    config = settings();
    targets = kernels
}
criterion_main!(benches);
