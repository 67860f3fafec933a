//! Weights and shapes that are refused.

use super::{Numbers, table, ternary};
use bitnet_core::cpu::{CpuBackend, Isa};
use bitnet_core::{
    Activations, Backend, Batch, Bytes, FeedForwardWeights, Gate, GatedWeights, Input, LmHeadMode,
    NormWeights, OutputRequest, Projection, Span, VocabularyWeights, WeightMatrix,
};
use bitnet_quant::{Format, I2sLayout};

fn norm(weight: Vec<f32>) -> NormWeights {
    NormWeights {
        name: "blk.0.norm".into(),
        weight,
        eps: 1e-5,
    }
}

fn vocabulary(embedding: WeightMatrix, weight: Vec<f32>) -> VocabularyWeights {
    VocabularyWeights {
        embedding_scale: 1.0,
        embedding_rotation: None,
        head_rotation: None,
        activations: bitnet_core::Activations::F32,
        embedding,
        norm: norm(weight),
        head: None,
        mode: LmHeadMode::Full,
    }
}

#[test]
fn bad_weights_are_refused() {
    let backend = CpuBackend::new(Some(2), None).expect("a backend");
    let mut data = vec![0u8; 64 * 100];
    data[64 * 77 + 3] = 0b0000_1100;
    let format = Format::I2s(I2sLayout::A);
    let matrix = WeightMatrix::new("blk.0.ffn_up", format, (100, 256, 256), 1.0, data.into());
    let matrix = matrix.expect("a matching size");
    let check = |error: String| {
        assert!(
            error.contains("blk.0.ffn_up") && error.contains("row 77"),
            "{error}"
        );
    };
    check(
        backend
            .resident(matrix.clone())
            .expect_err("code 3")
            .to_string(),
    );
    let (fine, _) = ternary(&mut Numbers(2), format, 100, 256);
    let (down, _) = ternary(&mut Numbers(3), format, 256, 128);
    let down = WeightMatrix::new("down", format, (256, 100, 128), 1.0, down.data().clone());
    let sublayer = GatedWeights {
        output_norm: None,
        function: Gate::Relu2,
        activations: Activations::Int8,
        norm: None,
        gate: fine.into(),
        up: matrix.into(),
        down: Projection {
            rotation: None,
            norm: None,
            matrix: down.expect("a matching size"),
        },
    };
    let error = backend.load_feed_forward(FeedForwardWeights::Gated(sublayer));
    check(error.expect_err("code 3").to_string());
    let head = Bytes::from([1.0, f32::NAN].map(f32::to_le_bytes).concat());
    let head = WeightMatrix::new("output", Format::F32, (2, 1, 1), 1.0, head);
    let head = head.expect("a matching size");
    assert!(
        backend
            .load_vocabulary(vocabulary(head, vec![1.0]))
            .is_err()
    );
    let fine = table(&[1.0; 4], 2, Format::F32);
    let error = backend.load_vocabulary(vocabulary(fine, vec![1.0, f32::INFINITY]));
    let error = error.expect_err("an infinite norm weight").to_string();
    assert!(
        error.contains("blk.0.norm") && error.contains("norm weight 1"),
        "{error}"
    );
}

#[test]
fn wrong_shapes_are_errors() {
    let backend = CpuBackend::new(Some(1), None).expect("a backend");
    let x = [1.0; 256];
    let rows = backend
        .prepare_rows(&x, 256, Activations::Int8)
        .expect("rows");
    let (matrix, _) = ternary(&mut Numbers(1), Format::Tq2_0, 3, 512);
    let error = backend.multiply_prepared(&rows, &matrix, &mut [0.0; 3]);
    let error = error.expect_err("another width").to_string();
    assert!(error.contains("512") && error.contains("256"), "{error}");
    let (matrix, _) = ternary(&mut Numbers(1), Format::Tq2_0, 3, 256);
    for room in [2, 4] {
        let out = &mut vec![0.0; room];
        assert!(backend.multiply_prepared(&rows, &matrix, out).is_err());
        assert!(
            backend
                .multiply(&x, &matrix, Activations::Int8, out)
                .is_err()
        );
    }
    let out = &mut [0.0; 3];
    assert!(
        backend
            .multiply(&x[1..], &matrix, Activations::Int8, out)
            .is_err()
    );
    let fine = table(&x, 256, Format::F32);
    let error = backend.load_vocabulary(vocabulary(fine.clone(), vec![1.0; 3]));
    assert!(error.is_err(), "a norm of three weights");
    let (embedding, _) = backend
        .load_vocabulary(vocabulary(fine, vec![1.0; 256]))
        .expect("a vocabulary");
    let mut state = backend.state(&[], 1, None).expect("a state");
    let mut batch = Batch::new(vec![Span {
        input: Input::Tokens(&[1]),
        state: &mut state,
        outputs: OutputRequest::Nothing,
    }])
    .expect("a batch");
    let error = backend.embed(&embedding, &mut batch);
    let error = error.expect_err("a token past the table").to_string();
    assert!(error.contains("vocabulary"), "{error}");
    assert!(WeightMatrix::new("w", Format::F32, (2, 2, 2), 1.0, Bytes::new()).is_err());
    assert!(WeightMatrix::new("w", Format::F32, (0, 2, 2), 1.0, Bytes::new()).is_err());
    let not_finite = Bytes::from_static(&[0; 4]);
    assert!(WeightMatrix::new("w", Format::F32, (1, 1, 1), f32::NAN, not_finite).is_err());
    assert!(CpuBackend::new(Some(0), None).is_err());
    assert!("nonesuch".parse::<Isa>().is_err());
}
