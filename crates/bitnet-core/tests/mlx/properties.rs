//! Random and edge shapes of every operation, beside the CPU.

use super::MLX;
use crate::parity::harness::*;
use bitnet_core::{Activations, Backend, Gate, HeadMode, Heads, Norm, Pending, Rope, RopePairs};
use bitnet_quant::Format;
use proptest::prelude::*;

/// f32 sums in another order.
const FLOATS: f32 = 2e-5;
/// A number at a half may round to either side, which moves a product by one step of one column.
const ROUNDED: f32 = 0.05;
/// Angles are products of f32, off by 6·10⁻⁸ of a position.
const TURNED: f32 = 1e-4;

fn any_format() -> impl Strategy<Value = Format> {
    proptest::sample::select([TERNARY, DENSE].concat())
}

fn weights(
    numbers: &mut Numbers,
    format: Format,
    rows: usize,
    cols: usize,
) -> bitnet_core::WeightMatrix {
    if format.is_ternary() {
        ternary(numbers, format, rows, cols)
    } else {
        table(&numbers.floats(rows * cols), cols, format)
    }
}

/// Norm, rounding, product, gate, product.
struct Layer<'a> {
    x: &'a [f32],
    matrices: [&'a bitnet_core::WeightMatrix; 3],
    gains: Option<[&'a [f32]; 2]>,
    activations: Activations,
    function: Gate,
}

impl Layer<'_> {
    fn run<B: Look>(&self, backend: &B) -> [Vec<f32>; 2] {
        let [gate, up, down] = self
            .matrices
            .map(|matrix| backend.matrix(matrix.clone()).expect("a matrix"));
        let gains = self
            .gains
            .map(|gains| gains.map(|gains| backend.gain(gains.to_vec()).expect("gains")));
        let rows = alone(backend, self.x, self.matrices[0].cols());
        let first = gains.as_ref().map(|[gains, _]| norm(gains));
        let a = backend.norm_quantize(&rows, first, self.activations);
        let a = a.expect("activations");
        let products = backend.matmul(&a, &[&gate, &gate, &up]);
        let products = products.expect("products");
        let [product, gate, up]: [B::Hidden; 3] = products.try_into().ok().expect("three");
        let second = gains.as_ref().map(|[_, gains]| norm(gains));
        let a = backend.gate_norm_quantize(gate, up, self.function, second, self.activations);
        let a = a.expect("activations");
        let down = backend.matmul(&a, &[&down]).expect("a product").remove(0);
        [backend.look(product), backend.look(down)]
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn layers_are_close(
        seed: u64,
        format in any_format(),
        (tokens, cols, width, rows) in (1usize..6, 1usize..300, 1usize..160, 1usize..40),
        normed: bool,
        int8: bool,
        relu: bool,
    ) {
        let mut numbers = Numbers(seed);
        let x = numbers.floats(tokens * cols);
        let matrices = [(width, cols), (width, cols), (rows, width)]
            .map(|(rows, cols)| weights(&mut numbers, format, rows, cols));
        let gains = [numbers.floats(cols), numbers.floats(width)];
        let job = Layer {
            x: &x,
            matrices: matrices.each_ref(),
            gains: normed.then(|| gains.each_ref().map(|gains| &gains[..])),
            activations: if int8 { Activations::Int8 } else { Activations::F32 },
            function: if relu { Gate::Relu2 } else { Gate::Silu },
        };
        let (found, expected) = (job.run(&*MLX), job.run(&cpu()));
        let what = format!("{format}, {tokens}×{cols}×{width}×{rows}");
        let tolerance = if int8 && format.is_ternary() { ROUNDED } else { FLOATS };
        assert_close(&found[0], &expected[0], tolerance, &what);
        // What passed a gate was squared, and a norm may have made much of little.
        if !normed {
            assert_close(&found[1], &expected[1], 4.0 * tolerance, &format!("{what}, gated"));
        }
    }

    #[test]
    fn attention_is_close(
        seed: u64,
        (kv, shared, half) in (1usize..4, 1usize..4, 1usize..40),
        cut in 0usize..40,
        steps in proptest::collection::vec(1usize..40, 1..5),
        interleaved: bool,
        divided: bool,
        scaled: bool,
    ) {
        let heads = Heads { query: kv * shared, kv, dim: 2 * half };
        let dims = 2 * (half - cut % (half + 1));
        let mut numbers = Numbers(seed);
        let divisors = (0..dims / 2).map(|_| 1.0 + numbers.below(8) as f32);
        let rope = Rope {
            pairs: if interleaved { RopePairs::Interleaved } else { RopePairs::HalfSplit },
            dims,
            base: 10_000.0,
            divisors: if divided { divisors.collect() } else { Vec::new() },
            magnitude: if scaled { 1.138_629_4 } else { 1.0 },
        };
        let widths = [heads.query, kv, kv].map(|count| count * heads.dim);
        let cols: usize = widths.iter().sum();
        let tokens: usize = steps.iter().sum();
        let x = numbers.floats(tokens * cols);
        let found = attend(&*MLX, heads, &rope, widths, &x, &steps);
        let expected = attend(&cpu(), heads, &rope, widths, &x, &steps);
        assert_close(&found, &expected, TURNED, &format!("{heads:?}, {rope:?}, {steps:?}"));
    }

    #[test]
    fn heads_are_close(
        seed: u64,
        format in any_format(),
        (tokens, cols, rows) in (1usize..4, 1usize..300, 1usize..200),
    ) {
        let mut numbers = Numbers(seed);
        let weights = weights(&mut numbers, format, rows, cols);
        let x = numbers.floats(tokens * cols);
        let gains = numbers.floats(cols);
        let found = head(&*MLX, &weights, &x, &gains);
        let expected = head(&cpu(), &weights, &x, &gains);
        assert_close(&found, &expected, FLOATS, &format!("{format}, {tokens}×{cols}×{rows}"));
    }
}

fn head<B: Backend>(
    backend: &B,
    weights: &bitnet_core::WeightMatrix,
    x: &[f32],
    gains: &[f32],
) -> Vec<f32> {
    let rows = alone(backend, x, weights.cols());
    let gain = backend.gain(gains.to_vec()).expect("gains");
    let table = backend.head_table(weights.clone(), HeadMode::Full);
    let norm = Norm {
        gain: &gain,
        eps: 1e-3,
    };
    let logits = backend.head(&rows, 0, norm, &table.expect("a table"));
    logits.and_then(Pending::now).expect("logits")
}

fn attend<B: Look>(
    backend: &B,
    heads: Heads,
    rope: &Rope,
    widths: [usize; 3],
    x: &[f32],
    steps: &[usize],
) -> Vec<f32> {
    let cols: usize = widths.iter().sum();
    let mut cache = backend.cache(1, heads, x.len() / cols).expect("a cache");
    let mut first = 0;
    let mut found = Vec::new();
    for &step in steps {
        let rows = batch(backend, &x[first * cols..][..step * cols], cols, &cache);
        let parts = columns(backend, &rows, cols, &widths);
        let [mut q, k, v]: [B::Hidden; 3] = parts.try_into().ok().expect("three");
        let rotations = backend.rotations(rope, first, step).expect("rotations");
        backend
            .rope_append(&mut q, k, v, None, &rotations, &mut cache, 0)
            .expect("appended");
        found.extend(backend.look(backend.attention(&q, &cache, 0).expect("attention")));
        first += step;
    }
    found
}
