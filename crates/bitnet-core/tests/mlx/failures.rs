//! What is refused, and how.

use super::MLX;
use crate::parity::harness::*;
use bitnet_core::{
    Activations, Backend, Bytes, Error, Gate, Heads, Input, Rope, RopePairs, WeightMatrix,
};
use bitnet_quant::{Format, I2sLayout};

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
        for error in [
            MLX.matrix(weights.clone()).map(drop).expect_err("refused"),
            MLX.table(weights).map(drop).expect_err("refused"),
        ] {
            assert!(matches!(error, Error::Value { .. }), "{error}");
            assert!(error.to_string().contains("row 0"), "{error}");
        }
    }
    let error = MLX
        .gain(vec![1.0, f32::NAN])
        .map(drop)
        .expect_err("refused");
    assert!(error.to_string().contains("norm gain 1"), "{error}");
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let mut numbers = Numbers(51);
    let heads = Heads {
        query: 3,
        kv: 2,
        dim: 4,
    };
    let refused = |error: Error, of: &str| {
        let said = error.to_string();
        assert!(matches!(error, Error::Shape { .. }), "{said}");
        assert!(said.contains(of), "{said}");
    };
    refused(
        MLX.cache(1, heads, 8).map(drop).expect_err("heads"),
        "heads",
    );
    let rows = |width: usize| alone(&*MLX, &vec![0.5; 2 * width], width);
    let gain = MLX.gain(vec![1.0; 5]).expect("gains");
    let error = MLX.norm_quantize(&rows(4), Some(norm(&gain)), Activations::Int8);
    refused(error.map(drop).expect_err("gains"), "norm gain");
    let error = MLX.gate_norm_quantize(rows(4), rows(6), Gate::Silu, None, Activations::Int8);
    refused(error.map(drop).expect_err("up"), "up projection");
    let matrix = ternary(&mut numbers, TERNARY[0], 7, 6);
    let matrix = MLX.matrix(matrix).expect("a matrix");
    let a = MLX
        .norm_quantize(&rows(6), None, Activations::Int8)
        .expect("activations");
    refused(
        MLX.matmul_add(&a, &matrix, &mut rows(6))
            .expect_err("a sum"),
        "w",
    );
    let table = MLX
        .table(table(&[1.0; 12], 4, Format::F32))
        .expect("a table");
    let four = MLX.gain(vec![1.0; 6]).expect("gains");
    let error = MLX.head(&rows(6), 0, norm(&four), &table);
    refused(error.map(drop).expect_err("a head"), "table");
}

#[test]
fn positions_that_do_not_follow_are_refused() {
    let heads = Heads {
        query: 1,
        kv: 1,
        dim: 4,
    };
    let rope = Rope {
        pairs: RopePairs::HalfSplit,
        dims: 4,
        base: 10_000.0,
        divisors: Vec::new(),
        magnitude: 1.0,
    };
    let mut cache = MLX.cache(1, heads, 8).expect("a cache");
    let mut append = |first: usize, layer: usize, count: usize| {
        let rows = || alone(&*MLX, &vec![0.5; 4 * count], 4);
        let rotations = MLX.rotations(&rope, first, count).expect("rotations");
        let mut q = rows();
        let outcome = MLX.rope_append(&mut q, rows(), rows(), None, &rotations, &mut cache, layer);
        outcome.and_then(|()| MLX.attention(&q, &cache, layer).map(drop))
    };
    append(0, 0, 2).expect("the first two");
    for (first, layer, count, message) in [
        (3, 0, 1, "3 positions"),
        (0, 1, 2, "layer 1"),
        (2, 0, 7, "at most 8"),
    ] {
        let error = append(first, layer, count)
            .expect_err("refused")
            .to_string();
        assert!(error.contains(message), "{error}");
    }
    append(2, 0, 1).expect("the next");
    let error = MLX.read_layer(&cache, 7).map(drop).expect_err("no layer");
    assert!(error.to_string().contains("layer 7"), "{error}");
}

/// What MLX itself complains of comes back as an error, and the next operation works.
#[test]
fn complaints_of_mlx_are_errors() {
    let heads = Heads {
        query: 1,
        kv: 1,
        dim: 3,
    };
    // Three columns are no pairs; the check for them is MLX's.
    let rope = Rope {
        pairs: RopePairs::HalfSplit,
        dims: 8,
        base: 10_000.0,
        divisors: Vec::new(),
        magnitude: 1.0,
    };
    let mut cache = MLX.cache(1, heads, 8).expect("a cache");
    let rows = || alone(&*MLX, &[0.5; 3], 3);
    let rotations = MLX.rotations(&rope, 0, 1).expect("rotations");
    let mut q = rows();
    let outcome = MLX.rope_append(&mut q, rows(), rows(), None, &rotations, &mut cache, 0);
    let outcome = outcome.and_then(|()| MLX.fetch(&q).map(drop));
    let error = outcome.expect_err("eight of three columns");
    assert!(matches!(error, Error::Mlx { .. }), "{error}");
    assert_eq!(MLX.look(alone(&*MLX, &[1.0, 2.0], 2)), [1.0, 2.0]);
    let error = MLX.embed(
        &MLX.table(table(&[1.0; 4], 4, Format::F32))
            .expect("a table"),
        Input::Chosen,
        &cache,
    );
    assert!(error.is_err());
}
