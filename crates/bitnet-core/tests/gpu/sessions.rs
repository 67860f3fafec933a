//! Several sessions, and several batches of one under way at a time.

use crate::harness::*;
use bitnet_core::gpu::GpuBackend;
use bitnet_core::{
    Activations, Backend, Candidate, Gate, Heads, Input, Pending, Rope, RopePairs, Top,
};
use bitnet_quant::Format;

const HEADS: Heads = Heads {
    query: 4,
    kv: 2,
    dim: 16,
};
const WIDTH: usize = 64;
const FFN: usize = 160;
const VOCABULARY: usize = 300;
const LAYERS: usize = 3;

/// A small model with random weights.
struct Model<B: Backend> {
    table: B::Table,
    layers: Vec<[B::Matrix; 7]>,
    gains: [B::Gain; 3],
    rope: Rope,
}

impl<B: Backend> Model<B> {
    fn new(backend: &B) -> Self {
        let mut numbers = Numbers(41);
        let table = table(&numbers.floats(VOCABULARY * WIDTH), WIDTH, Format::F16);
        let kv = HEADS.kv * HEADS.dim;
        let layers = (0..LAYERS).map(|layer| {
            let shapes = [
                (WIDTH, WIDTH),
                (kv, WIDTH),
                (kv, WIDTH),
                (WIDTH, WIDTH),
                (FFN, WIDTH),
                (FFN, WIDTH),
                (WIDTH, FFN),
            ];
            shapes.map(|(rows, cols)| {
                let matrix = ternary(&mut numbers, TERNARY[2 * layer], rows, cols);
                let matrix = matrix.with_output_scale(0.3).expect("a finite scale");
                backend.matrix(matrix).expect("a matrix")
            })
        });
        let layers = layers.collect();
        let gains = [WIDTH, WIDTH, FFN].map(|len| {
            let gains: Vec<f32> = numbers.floats(len).iter().map(|x| 1.0 + 0.3 * x).collect();
            backend.gain(gains).expect("gains")
        });
        Self {
            table: backend
                .head_table(table, bitnet_core::HeadMode::Full)
                .expect("a table"),
            layers,
            gains,
            rope: Rope {
                pairs: RopePairs::HalfSplit,
                dims: HEADS.dim,
                base: 10_000.0,
                divisors: Vec::new(),
            },
        }
    }

    fn forward(
        &self,
        backend: &B,
        input: Input<'_>,
        first: usize,
        cache: &mut B::Cache,
    ) -> B::Hidden {
        let [one, two, three] = &self.gains;
        let int8 = Activations::Int8;
        let rotations = backend
            .rotations(&self.rope, first, input.len())
            .expect("rotations");
        let mut x = backend.embed(&self.table, input, cache).expect("rows");
        for (index, [q, k, v, o, gate, up, down]) in self.layers.iter().enumerate() {
            let a = backend
                .norm_quantize(&x, Some(norm(one)), int8)
                .expect("activations");
            let mut products = backend
                .matmul(&a, &[q, k, v])
                .expect("products")
                .into_iter();
            let mut next = || products.next().expect("three");
            let (mut q, k, v) = (next(), next(), next());
            backend
                .rope_append(&mut q, k, v, None, &rotations, cache, index)
                .expect("appended");
            let attention = backend.attention(&q, cache, index).expect("attention");
            let a = backend
                .norm_quantize(&attention, Some(norm(two)), int8)
                .expect("activations");
            backend.matmul_add(&a, o, &mut x).expect("a sum");
            let a = backend
                .norm_quantize(&x, Some(norm(one)), int8)
                .expect("activations");
            let mut products = backend
                .matmul(&a, &[gate, up])
                .expect("products")
                .into_iter();
            let mut next = || products.next().expect("two");
            let (gate, up) = (next(), next());
            let a = backend
                .gate_norm_quantize(gate, up, Gate::Relu2, Some(norm(three)), int8)
                .expect("activations");
            backend.matmul_add(&a, down, &mut x).expect("a sum");
        }
        x
    }

    fn top(
        &self,
        backend: &B,
        x: &B::Hidden,
        cache: &mut B::Cache,
    ) -> Pending<Vec<Vec<Candidate>>> {
        let top = Top {
            count: 1,
            also: &[],
        };
        backend
            .head_top(x, 0, norm(&self.gains[0]), &self.table, &top, cache)
            .expect("under way")
    }

    /// Token by token after `prompt`: each is asked for once the one before is known.
    fn greedy(&self, backend: &B, prompt: &[u32], count: usize) -> Vec<u32> {
        let mut cache = backend
            .cache(LAYERS, HEADS, prompt.len() + count)
            .expect("a cache");
        let mut tokens = prompt.to_vec();
        let mut first = 0;
        while tokens.len() < prompt.len() + count {
            let input = tokens[first..].to_vec();
            let x = self.forward(backend, Input::Tokens(&input), first, &mut cache);
            let answer = self.top(backend, &x, &mut cache).now().expect("a token");
            first = tokens.len();
            tokens.push(answer.last().expect("a row")[0].id);
        }
        tokens.split_off(prompt.len())
    }
}

/// The same, with all tokens under way before the first is known.
fn ahead(model: &Model<GpuBackend>, gpu: &GpuBackend, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut cache = gpu
        .cache(LAYERS, HEADS, prompt.len() + count)
        .expect("a cache");
    let mut waiting = Vec::new();
    let mut first = 0;
    for index in 0..count {
        let input = if index == 0 {
            Input::Tokens(prompt)
        } else {
            Input::Chosen
        };
        let x = model.forward(gpu, input, first, &mut cache);
        first += input.len();
        waiting.push(model.top(gpu, &x, &mut cache));
    }
    let answers = waiting
        .into_iter()
        .map(|answer| answer.now().expect("a token"));
    answers
        .map(|rows| rows.last().expect("a row")[0].id)
        .collect()
}

#[test]
fn a_batch_begins_with_a_token_that_nobody_knows_yet() {
    for (name, gpu) in gpus() {
        assert!(gpu.runs_ahead());
        let model = Model::new(gpu);
        let prompt = [5, 17, 299, 0, 8, 8, 120];
        let known = model.greedy(gpu, &prompt, 24);
        assert_eq!(ahead(&model, gpu, &prompt, 24), known, "{name}");
        // Beyond the first buffers of the cache.
        assert_eq!(
            ahead(&model, gpu, &prompt[..1], 280),
            model.greedy(gpu, &prompt[..1], 280),
            "{name}"
        );
    }
}

#[test]
fn sessions_do_not_meet() {
    for (name, gpu) in gpus() {
        let model = Model::new(gpu);
        let prompts = [&[1, 2, 3][..], &[250, 7, 7, 9, 11, 40]];
        let alone = prompts.map(|prompt| model.greedy(gpu, prompt, 12));
        // From two threads.
        let together = std::thread::scope(|scope| {
            let handles = prompts.map(|prompt| scope.spawn(|| model.greedy(gpu, prompt, 12)));
            handles.map(|handle| handle.join().expect("tokens"))
        });
        assert_eq!(together, alone, "{name}");
        // In turns, both under way.
        let mut caches = prompts.map(|_| gpu.cache(LAYERS, HEADS, 40).expect("a cache"));
        let mut found = [Vec::new(), Vec::new()];
        let mut firsts = [0, 0];
        for index in 0..12 {
            let mut waiting = Vec::new();
            for session in 0..2 {
                let input = if index == 0 {
                    Input::Tokens(prompts[session])
                } else {
                    Input::Chosen
                };
                let cache = &mut caches[session];
                let x = model.forward(gpu, input, firsts[session], cache);
                firsts[session] += input.len();
                waiting.push(model.top(gpu, &x, cache));
            }
            for (found, answer) in found.iter_mut().zip(waiting) {
                found.push(answer.now().expect("a token").last().expect("a row")[0].id);
            }
        }
        assert_eq!(found, alone, "{name}");
    }
}

#[test]
fn what_was_forgotten_does_not_count() {
    let (_, gpu) = gpus()[0];
    let model = Model::new(gpu);
    let mut cache = gpu.cache(LAYERS, HEADS, 40).expect("a cache");
    let ask = |input: &[u32], first: usize, cache: &mut _| {
        let x = model.forward(gpu, Input::Tokens(input), first, cache);
        let rows = gpu.head(&x, input.len() - 1, norm(&model.gains[0]), &model.table);
        rows.and_then(Pending::now).expect("logits")
    };
    let expected = ask(&[3, 1, 4, 1, 5], 0, &mut cache);
    gpu.truncate(&mut cache, 2);
    ask(&[9, 9, 9], 2, &mut cache);
    gpu.truncate(&mut cache, 3);
    gpu.truncate(&mut cache, 2);
    let x = model.forward(gpu, Input::Tokens(&[4, 1]), 2, &mut cache);
    gpu.run(x).expect("run");
    let found = ask(&[5], 4, &mut cache);
    assert_close(&found, &expected, 1e-3, "after a detour");
}

#[test]
fn a_small_model_is_close_to_the_cpus() {
    let mut agreed = 0;
    let mut all = 0;
    for (_, gpu) in gpus() {
        let (model, cpu) = (Model::new(gpu), cpu());
        let reference = Model::new(&cpu);
        let tokens: Vec<u32> = (0..80).map(|i| i * 37 % VOCABULARY as u32).collect();
        let ask = |logits: Vec<f32>| -> Vec<usize> {
            let best = |row: &[f32]| {
                let best = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]));
                best.expect("a vocabulary")
            };
            logits.chunks(VOCABULARY).map(best).collect()
        };
        let mut cache = gpu.cache(LAYERS, HEADS, 80).expect("a cache");
        let x = model.forward(gpu, Input::Tokens(&tokens), 0, &mut cache);
        let found = gpu.head(&x, 0, norm(&model.gains[0]), &model.table);
        let found = ask(found.and_then(Pending::now).expect("logits"));
        let mut cache = cpu.cache(LAYERS, HEADS, 80).expect("a cache");
        let x = reference.forward(&cpu, Input::Tokens(&tokens), 0, &mut cache);
        let expected = cpu.head(&x, 0, norm(&reference.gains[0]), &reference.table);
        let expected = ask(expected.and_then(Pending::now).expect("logits"));
        agreed += found.iter().zip(&expected).filter(|(a, b)| a == b).count();
        all += expected.len();
    }
    assert!(agreed * 10 >= all * 9, "{agreed} of {all} agree");
}
