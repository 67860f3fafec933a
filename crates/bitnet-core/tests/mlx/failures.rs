//! What is refused, and how.

use super::MLX;
use super::mixers::{attend, attention, row_width, state, whole_rope};
use crate::parity::harness::*;
use bitnet_core::{
    Activations, AttentionHeads, Backend, Batch, Bytes, Error, FeedForwardWeights, Gate,
    GatedWeights, Input, OutputRequest, SequenceState, Span, VocabularyWeights, WeightMatrix,
};
use bitnet_quant::{Format, I2sLayout};
use mlx_rs::Array;

const HEADS: AttentionHeads = AttentionHeads {
    query: 2,
    kv: 1,
    dim: 4,
};

#[test]
fn weights_that_are_no_numbers_are_refused() {
    let half = Format::F16;
    let mut bytes = vec![0u8; half.row_bytes(64).expect("a row")];
    bytes[11] = 0x7e;
    let not_a_number = WeightMatrix::new("w", half, (1, 64, 64), 1.0, bytes.into());
    let mut block = vec![0u8; Format::Tq2_0.row_bytes(256).expect("a block")];
    let end = block.len();
    block[end - 1] = 0x7e;
    block[end - 2] = 1;
    let bad_scale = WeightMatrix::new("w", Format::Tq2_0, (1, 256, 256), 1.0, block.into());
    let layout = Format::I2s(I2sLayout::A);
    let codes = Bytes::from(vec![0xffu8; layout.row_bytes(128).expect("a block")]);
    let bad_codes = WeightMatrix::new("w", layout, (1, 128, 128), 1.0, codes);
    for weights in [not_a_number, bad_scale, bad_codes] {
        let weights = weights.expect("a matrix");
        let cols = weights.cols();
        let error = MLX.resident(&weights).map(drop).expect_err("refused");
        refused_value(&error, "row 0");
        let vocabulary = VocabularyWeights {
            embedding_scale: 1.0,
            embedding_rotation: None,
            head_rotation: None,
            activations: bitnet_core::Activations::F32,
            embedding: weights,
            ..vocabulary(&vec![0.0; cols], cols)
        };
        let error = MLX.load_vocabulary(vocabulary).map(drop);
        refused_value(&error.expect_err("refused"), "row 0");
    }
    let mut vocabulary = vocabulary(&[0.0; 2], 2);
    vocabulary.norm.weight[1] = f32::NAN;
    let error = MLX.load_vocabulary(vocabulary).map(drop);
    refused_value(&error.expect_err("refused"), "norm weight 1");
}

fn refused_value(error: &Error, of: &str) {
    assert!(matches!(error, Error::Value { .. }), "{error}");
    assert!(error.to_string().contains(of), "{error}");
}

fn refused_shape(error: &Error, of: &str) {
    assert!(matches!(error, Error::Shape { .. }), "{error}");
    assert!(error.to_string().contains(of), "{error}");
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let uneven = AttentionHeads {
        query: 3,
        kv: 2,
        dim: 4,
    };
    let layers = [bitnet_core::MixerState::KeysValues(uneven)];
    let error = MLX.state(&layers, 8, None).map(drop);
    refused_shape(&error.expect_err("heads"), "heads");
    let mut numbers = Numbers(51);
    let matrix = ternary(&mut numbers, TERNARY[0], 7, 6);
    let matrix = MLX.resident(&matrix).expect("a matrix");
    let x = MLX.prepare_rows(&[0.5; 8], 4, Activations::Int8);
    let error = MLX.multiply_prepared(&x.expect("rows"), &matrix).map(drop);
    refused_shape(&error.expect_err("another width"), "width 6");
    for (count, width) in [(7, 4), (0, 4), (4, 0)] {
        let error = MLX.prepare_rows(&vec![0.5; count], width, Activations::Int8);
        refused_shape(&error.map(drop).expect_err("no rows"), "at least one row");
    }
    // Rows of another model.
    let square = || ternary(&mut Numbers(52), TERNARY[0], 6, 6);
    let feed_forward = MLX.load_feed_forward(FeedForwardWeights::Gated(GatedWeights {
        output_norm: None,
        function: Gate::Silu,
        activations: Activations::Int8,
        norm: None,
        gate: square().into(),
        up: square().into(),
        down: projection(square()),
    }));
    let feed_forward = feed_forward.expect("a sublayer");
    let mixer = MLX
        .load_mixer(attention(HEADS, &whole_rope(HEADS, 10_000.0)))
        .expect("a mixer");
    let (embedding, head) = MLX
        .load_vocabulary(vocabulary(&[0.5; 8], 4))
        .expect("a vocabulary");
    let (_, other_head) = MLX
        .load_vocabulary(vocabulary(&[0.5; 12], 6))
        .expect("a vocabulary");
    let mut state = state(&*MLX, HEADS, 8);
    let mut span = batch(Input::Tokens(&[0, 1]), &mut state, OutputRequest::Nothing);
    let mut rows = MLX.embed(&embedding, &mut span).expect("rows");
    let error = MLX.feed_forward(&mut rows, &feed_forward);
    refused_shape(&error.expect_err("a sublayer"), "width 6");
    let error = MLX.mixer(&mut rows, &mixer, 0, &mut span);
    refused_shape(&error.expect_err("a mixer"), "width 16");
    let error = MLX.outputs(rows, &other_head, &mut span).map(drop);
    refused_shape(&error.expect_err("a head"), "width 6");
    // Rows of another batch.
    let rows = MLX.embed(&embedding, &mut span).expect("rows");
    drop(span);
    let mut span = batch(Input::Tokens(&[0]), &mut state, OutputRequest::Nothing);
    let error = MLX.outputs(rows, &head, &mut span).map(drop);
    refused_shape(&error.expect_err("a batch"), "1 rows");
    drop(span);
    assert!(state.is_empty());
}

#[test]
fn states_that_do_not_fit_are_refused() {
    let cols = row_width(HEADS);
    let weights = attention(HEADS, &whole_rope(HEADS, 10_000.0));
    let mixer = MLX.load_mixer(weights.clone()).expect("a mixer");
    let x = Numbers(53).floats(5 * cols);
    let (embedding, _) = MLX
        .load_vocabulary(vocabulary(&x, cols))
        .expect("a vocabulary");
    let other = AttentionHeads { query: 1, ..HEADS };
    let mut other = state(&*MLX, other, 8);
    let mut span = batch(Input::Tokens(&[0]), &mut other, OutputRequest::Nothing);
    let mut rows = MLX.embed(&embedding, &mut span).expect("rows");
    let error = MLX.mixer(&mut rows, &mixer, 0, &mut span);
    refused_shape(&error.expect_err("other heads"), "query: 1");

    let mut own = state(&*MLX, HEADS, 8);
    let expected = attend(&*MLX, &mut own, &weights, &x, &[2, 3]);
    let mut own = state(&*MLX, HEADS, 8);
    attend(&*MLX, &mut own, &weights, &x[..2 * cols], &[2]);
    // A batch that fails leaves the state as it was.
    let mut span = batch(Input::Tokens(&[4, 3, 2]), &mut own, OutputRequest::Nothing);
    let mut rows = MLX.embed(&embedding, &mut span).expect("rows");
    MLX.mixer(&mut rows, &mixer, 0, &mut span).expect("mixed");
    let error = MLX.mixer(&mut rows, &mixer, 1, &mut span);
    refused_shape(&error.expect_err("no layer"), "layer 1");
    drop(span);
    assert_eq!(own.len(), 2);
    let found = attend(&*MLX, &mut own, &weights, &x[2 * cols..], &[3]);
    assert_same(&found, &expected[2 * cols..], "after a failed batch");
    let snapshots = MLX.snapshots().expect("snapshots");
    let error = snapshots.read_layer(&own, 7).map(drop);
    refused_shape(&error.expect_err("no layer"), "layer 7");

    // Several sequences, and tokens that are not known yet.
    let mut two = [(); 2].map(|()| state(&*MLX, HEADS, 8));
    let spans = two.iter_mut().map(|state| Span {
        input: Input::Tokens(&[1]),
        state,
        outputs: OutputRequest::Nothing,
    });
    let mut spans = Batch::new(spans.collect()).expect("a batch");
    let several = MLX.embed(&embedding, &mut spans).map(drop);
    let mut ahead = batch(Input::LastArgmax, &mut own, OutputRequest::Nothing);
    let unknown = MLX.embed(&embedding, &mut ahead).map(drop);
    for (error, of) in [(several, "one sequence at a time"), (unknown, "look-ahead")] {
        let error = error.expect_err("refused");
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains(of), "{error}");
    }
}

/// An error of MLX itself comes back as one, and the next operation works.
#[test]
fn errors_of_mlx_are_errors() {
    let what = MLX.scope(|| {
        let [two, three] =
            [2, 3].map(|count| Array::from_slice(&vec![1f32; count], &[count as i32]));
        let error = two.add(three).expect_err("shapes that differ");
        error.what().to_owned()
    });
    assert!(what.contains("shape"), "{what}");
    let weights = attention(HEADS, &whole_rope(HEADS, 10_000.0));
    let x = vec![0.0; row_width(HEADS)];
    let mut small = state(&*MLX, HEADS, 1);
    assert_same(&attend(&*MLX, &mut small, &weights, &x, &[1]), &x, "zeros");
}
