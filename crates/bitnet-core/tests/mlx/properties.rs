//! Random and edge shapes of products and sublayers, beside the CPU.

use super::MLX;
use super::mixers::{attend, attention, row_width, state};
use super::rows::run;
use crate::parity::harness::*;
use bitnet_core::{
    Activations, AttentionHeads, Backend, FeedForwardWeights, Gate, GatedWeights, Input,
    NormWeights, OutputRequest, Rope, RopePairs, VocabularyWeights, WeightMatrix,
};
use bitnet_quant::Format;
use proptest::prelude::*;

/// f32 sums in another order.
const FLOATS: f32 = 2e-5;
/// A number at a half may round to either side, which moves a product by one step of one column.
const ROUNDED: f32 = 0.05;
/// Angles are products of f32, off by 6·10⁻⁸ of a position.
const ROTATED: f32 = 1e-4;

fn any_format() -> impl Strategy<Value = Format> {
    proptest::sample::select([&TERNARY[..], &DENSE[..]].concat())
}

fn any_activations() -> impl Strategy<Value = Activations> {
    proptest::sample::select(&[Activations::Int8, Activations::F32])
}

fn weights(numbers: &mut Numbers, format: Format, rows: usize, cols: usize) -> WeightMatrix {
    if format.is_ternary() {
        ternary(numbers, format, rows, cols)
    } else {
        table(&numbers.floats(rows * cols), cols, format)
    }
}

fn tolerance(activations: Activations, format: Format) -> f32 {
    if activations == Activations::Int8 && format.is_ternary() {
        ROUNDED
    } else {
        FLOATS
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn products_are_close(
        seed: u64,
        format in any_format(),
        activations in any_activations(),
        (tokens, cols, rows) in (1usize..6, 1usize..300, 1usize..160),
    ) {
        let mut numbers = Numbers(seed);
        let x = numbers.floats(tokens * cols);
        let matrix = weights(&mut numbers, format, rows, cols);
        let mut expected = vec![0.0; tokens * rows];
        cpu().multiply(&x, &matrix, activations, &mut expected).expect("a product");
        let x = MLX.prepare_rows(&x, cols, activations).expect("rows");
        let matrix = MLX.resident(&matrix).expect("a matrix");
        let found = MLX.multiply_prepared(&x, &matrix).expect("a product");
        let found = MLX.fetch(&found).expect("numbers");
        let what = format!("{format}, {tokens}×{cols}×{rows}");
        assert_close(&found, &expected, tolerance(activations, format), &what);
    }

    #[test]
    fn feed_forward_sublayers_are_close(
        seed: u64,
        format in any_format(),
        activations in any_activations(),
        (tokens, cols, width) in (1usize..6, 1usize..300, 1usize..160),
        normed: bool,
        function in proptest::sample::select(&[Gate::Relu2, Gate::Silu]),
    ) {
        let mut numbers = Numbers(seed);
        let x = numbers.floats(tokens * cols);
        let sublayer = FeedForwardWeights::Gated(GatedWeights {
            output_norm: None,
            function,
            activations,
            norm: normed.then(|| norm(&numbers.floats(cols))),
            gate: weights(&mut numbers, format, width, cols).into(),
            up: weights(&mut numbers, format, width, cols).into(),
            down: projection(weights(&mut numbers, format, cols, width)),
        });
        let found = fed(&*MLX, &sublayer, &x, cols);
        let expected = fed(&cpu(), &sublayer, &x, cols);
        let what = format!("{format}, {tokens}×{cols}×{width}");
        // The gate squares.
        assert_close(&found, &expected, 4.0 * tolerance(activations, format), &what);
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
        let heads = AttentionHeads { query: kv * shared, kv, dim: 2 * half };
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
        let tokens: usize = steps.iter().sum();
        let x = numbers.floats(tokens * row_width(heads));
        let (weights, cpu) = (attention(heads, &rope), cpu());
        let found = attend(&*MLX, &mut state(&*MLX, heads, tokens), &weights, &x, &steps);
        let expected = attend(&cpu, &mut state(&cpu, heads, tokens), &weights, &x, &steps);
        assert_close(&found, &expected, ROTATED, &format!("{heads:?}, {rope:?}, {steps:?}"));
    }

    #[test]
    fn heads_are_close(
        seed: u64,
        format in any_format(),
        (tokens, cols, more) in (1usize..4, 1usize..300, 0usize..200),
    ) {
        let mut numbers = Numbers(seed);
        let rows = tokens + more;
        let x = numbers.floats(rows * cols);
        let vocabulary = VocabularyWeights {
            embedding_scale: 1.0,
            embedding_rotation: None,
            head_rotation: None,
            activations: bitnet_core::Activations::F32,
            norm: NormWeights { eps: 1e-3, ..norm(&numbers.floats(cols)) },
            head: Some(weights(&mut numbers, format, rows, cols)),
            ..vocabulary(&x, cols)
        };
        let found = logits(&*MLX, &vocabulary, tokens);
        let expected = logits(&cpu(), &vocabulary, tokens);
        assert_close(&found, &expected, FLOATS, &format!("{format}, {tokens}×{cols}×{rows}"));
    }
}

/// The rows of `x` after a feed-forward sublayer.
fn fed<B: Backend>(backend: &B, weights: &FeedForwardWeights, x: &[f32], cols: usize) -> Vec<f32> {
    let sublayer = backend
        .load_feed_forward(weights.clone())
        .expect("a sublayer");
    let mut state = backend.state(&[], x.len() / cols, None).expect("a state");
    run(backend, &mut state, x, cols, |hidden, _| {
        backend.feed_forward(hidden, &sublayer).expect("fed");
    })
}

/// Logits of the first `rows` tokens, through no layer.
fn logits<B: Backend>(backend: &B, weights: &VocabularyWeights, rows: usize) -> Vec<f32> {
    let (embedding, head) = backend
        .load_vocabulary(weights.clone())
        .expect("a vocabulary");
    let tokens: Vec<u32> = (0..rows as u32).collect();
    let mut state = backend.state(&[], rows, None).expect("a state");
    let mut batch = batch(
        Input::Tokens(&tokens),
        &mut state,
        OutputRequest::Logits { rows },
    );
    let hidden = backend.embed(&embedding, &mut batch).expect("rows");
    let outputs = backend.outputs(hidden, &head, &mut batch);
    let mut outputs = outputs.and_then(|pending| pending.now()).expect("outputs");
    outputs.pop().expect("one span").into_logits()
}
