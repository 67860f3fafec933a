//! Sessions of a small model.

use super::harness::*;
use bitnet_core::{
    Activations, Backend, Candidate, Gate, Heads, Input, Pending, Rope, RopePairs, Top,
};
use bitnet_quant::Format;

pub(crate) const HEADS: Heads = Heads {
    query: 4,
    kv: 2,
    dim: 16,
};
const WIDTH: usize = 64;
const FFN: usize = 160;
const VOCABULARY: usize = 300;
pub(crate) const LAYERS: usize = 3;

/// A small model with random weights.
pub(crate) struct Model<B: Backend> {
    table: B::Table,
    layers: Vec<[B::Matrix; 7]>,
    gains: [B::Gain; 3],
    rope: Rope,
}

impl<B: Backend> Model<B> {
    pub(crate) fn new(backend: &B) -> Self {
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
                magnitude: 1.0,
            },
        }
    }

    pub(crate) fn forward(
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

    pub(crate) fn top(
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
    pub(crate) fn greedy(&self, backend: &B, prompt: &[u32], count: usize) -> Vec<u32> {
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

/// What two sessions say, each alone and the same on two threads.
pub(crate) fn two_threads_do_not_meet<B: Look>(
    backend: &B,
    model: &Model<B>,
    prompts: [&[u32]; 2],
) -> [Vec<u32>; 2] {
    let alone = prompts.map(|prompt| model.greedy(backend, prompt, 12));
    let together = std::thread::scope(|scope| {
        let handles = prompts.map(|prompt| scope.spawn(|| model.greedy(backend, prompt, 12)));
        handles.map(|handle| handle.join().expect("tokens"))
    });
    assert_eq!(together, alone);
    alone
}

pub(crate) fn what_was_forgotten_does_not_count<B: Look>(gpu: &B) {
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

pub(crate) fn a_small_model_is_close_to_the_cpus<B: Look>(others: &[Other<'_, B>]) {
    let mut agreed = 0;
    let mut all = 0;
    for other in others {
        let gpu = other.backend;
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
