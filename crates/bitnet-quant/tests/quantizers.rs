//! Quantizers and metrics: what they promise about scale, codes and error.

#![allow(clippy::unwrap_used)]

use bitnet_quant::{
    AbsMean, Bits, ErrorMetrics, Granularity, IntQuantizer, QuantError, Symmetry, TernaryScale,
    absmean, is_ternary, quantize_absmax_i8, quantize_absmean, ternarize,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn pieces<'a>(values: &'a [f32], cuts: &[usize]) -> Vec<&'a [f32]> {
    let mut rest = values;
    let mut pieces = Vec::new();
    for &cut in cuts {
        let (piece, after) = rest.split_at(cut.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

proptest! {
    #[test]
    fn absmean_does_not_feel_the_cuts(
        values in vec(-1e6f32..1e6, 0..300),
        cuts in vec(0usize..40, 0..12),
    ) {
        let (mut mean, mut ternary) = (AbsMean::new(), TernaryScale::new());
        for piece in pieces(&values, &cuts) {
            mean.add(piece);
            ternary.add(piece);
        }
        prop_assert_eq!(mean.scale(), absmean(&values));
        prop_assert_eq!(ternary.scale(), is_ternary(&values));
        let exact = values.iter().map(|v| f64::from(v.abs())).sum::<f64>() / values.len().max(1) as f64;
        let found = f64::from(absmean(&values).unwrap());
        prop_assert!((found - exact.max(1e-5)).abs() <= 1e-7 * found);
    }

    #[test]
    fn ternary_codes_are_the_nearest(values in vec(-2.0f32..2.0, 1..300)) {
        let mut codes = vec![9; values.len()];
        let scale = quantize_absmean(&values, &mut codes).unwrap();
        for (&value, &code) in values.iter().zip(&codes) {
            let distance = |code: i8| (value - f32::from(code) * scale).abs();
            let nearest = (-1..=1).map(distance).fold(f32::INFINITY, f32::min);
            prop_assert!(distance(code) <= nearest + 1e-6 * scale);
        }
    }

    #[test]
    fn what_is_ternary_is_found_out(codes in vec(-1i8..=1, 0..200), scale in 1e-30f32..1e30) {
        let values: Vec<f32> = codes.iter().map(|&c| f32::from(c) * scale).collect();
        let expected = if codes.iter().all(|&c| c == 0) { 0.0 } else { scale };
        prop_assert_eq!(is_ternary(&values), Some(expected));
        let mut other = values.clone();
        other.extend([scale, 1.001 * scale]);
        prop_assert_eq!(is_ternary(&other), None);
    }

    #[test]
    fn activations_are_within_half_a_step(x in prop_oneof![vec(any::<f32>(), 0..100), vec(prop::num::f32::ANY, 0..6)]) {
        let mut q = vec![99; x.len()];
        match quantize_absmax_i8(&x, &mut q) {
            Ok(s) => {
                let most = x.iter().fold(1e-5f32, |m, v| m.max(v.abs()));
                prop_assert_eq!(s, 127.0 / most);
                for (x, &q) in x.iter().zip(&q) {
                    let exact = f64::from(*x) * 127.0 / f64::from(most);
                    prop_assert!((exact - f64::from(q)).abs() <= 0.5 + 1e-4);
                }
            }
            Err(_) => {
                prop_assert!(x.iter().any(|v| !v.is_finite()));
                prop_assert!(q.iter().all(|&q| q == 99));
            }
        }
    }

    #[test]
    fn integers_are_within_half_a_step(
        (rows, cols, values) in (0usize..5, 0usize..23).prop_flat_map(|(rows, cols)| {
            (Just(rows), Just(cols), vec(-4.0f32..9.0, rows * cols))
        }),
        bits in select(&[Bits::Two, Bits::Four, Bits::Eight]),
        symmetry in select(&[Symmetry::Symmetric, Symmetry::Asymmetric]),
        granularity in select(&[
            Granularity::Tensor,
            Granularity::Channel,
            Granularity::Group(1),
            Granularity::Group(5),
            Granularity::Group(usize::MAX),
        ]),
    ) {
        let quantizer = IntQuantizer { bits, symmetry, granularity };
        let quantized = quantizer.quantize(&values, rows, cols).unwrap();
        let row_bytes = (cols * bits.count()).div_ceil(8);
        prop_assert_eq!(quantized.packed().len(), rows * row_bytes);
        let decoded = quantized.dequantize();
        prop_assert_eq!(decoded.len(), values.len());
        let scales: Vec<f32> = quantized.scales().collect();
        let groups = match granularity {
            Granularity::Group(len) => cols.div_ceil(len),
            _ => 1,
        };
        for (i, (x, y)) in values.iter().zip(&decoded).enumerate() {
            let scale = match granularity {
                Granularity::Tensor => scales[0],
                Granularity::Channel => scales[i / cols],
                Granularity::Group(len) => scales[i / cols * groups + i % cols / len],
            };
            prop_assert!((x - y).abs() <= 0.5001 * scale, "{x} {y} {scale}");
        }
    }

    #[test]
    fn integers_of_any_size_are_handled(values in prop_oneof![vec(any::<f32>(), 12), vec(-1e-42f32..1e-42, 12), vec(prop::num::f32::ANY, 12)]) {
        for symmetry in [Symmetry::Symmetric, Symmetry::Asymmetric] {
            for bits in [Bits::Two, Bits::Four, Bits::Eight] {
                let quantizer = IntQuantizer { bits, symmetry, granularity: Granularity::Group(3) };
                if let Ok(quantized) = quantizer.quantize(&values, 2, 6) {
                    prop_assert!(values.iter().all(|v| v.is_finite()));
                    prop_assert!(quantized.dequantize().iter().all(|v| v.is_finite()));
                }
            }
        }
    }

    #[test]
    fn more_noise_is_worse(
        signal in vec(-1.0f32..1.0, 1..50),
        noise in vec(0.01f32..1.0, 50),
        (small, factor) in (0.01f32..0.5, 1.5f32..4.0),
    ) {
        let noisy = |amount: f32| -> Vec<f32> {
            signal.iter().zip(&noise).map(|(x, n)| x + amount * n).collect()
        };
        let quiet = ErrorMetrics::between(&signal, &noisy(small)).unwrap();
        let loud = ErrorMetrics::between(&signal, &noisy(small * factor)).unwrap();
        prop_assert!(quiet.mse < loud.mse);
        prop_assert!(quiet.max_error < loud.max_error);
        prop_assert!(quiet.sqnr_db >= loud.sqnr_db);
        prop_assert!((-1.0..=1.0).contains(&loud.cosine));
    }
}

#[test]
fn absmean_is_not_idempotent() {
    let weights = [2.0, -1.0, 0.5, -0.5, 0.0, 0.25, -1.5, 2.25];
    let mut codes = [0; 8];
    let scale = quantize_absmean(&weights, &mut codes).unwrap();
    let ternary: Vec<f32> = codes.iter().map(|&c| f32::from(c) * scale).collect();
    let mut again = [0; 8];
    let shrunk = quantize_absmean(&ternary, &mut again).unwrap();
    assert_eq!(again, codes);
    assert_eq!(shrunk, 0.5 * scale); // half of the codes are not 0
    assert_eq!(is_ternary(&ternary), Some(scale));
    assert_eq!(is_ternary(&weights), None);
}

#[test]
fn tiny_and_missing_weights_become_zeros() {
    let mut codes = [9; 4];
    assert_eq!(
        quantize_absmean(&[1e-34, -1e-34, 0.0, 1e-40], &mut codes),
        Ok(1e-5)
    );
    assert_eq!(codes, [0; 4]);
    assert_eq!(quantize_absmean(&[], &mut []), Ok(1e-5));
    assert_eq!(is_ternary(&[]), Some(0.0));
    assert_eq!(is_ternary(&[0.0, -0.0]), Some(0.0));
}

#[test]
fn weights_that_are_no_numbers_are_refused() {
    let number = |result: Result<f32, QuantError>| {
        assert!(
            matches!(result, Err(QuantError::Number { .. })),
            "{result:?}"
        );
    };
    for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        number(absmean(&[1.0, bad]));
        number(quantize_absmean(&[bad], &mut [0]));
        number(ternarize(&[bad], 1.0, &mut [0]).map(|()| 0.0));
        number(quantize_absmax_i8(&[0.0, bad], &mut [0; 2]));
        assert_eq!(is_ternary(&[1.0, bad]), None);
    }
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-40] {
        number(ternarize(&[1.0], scale, &mut [0]).map(|()| 0.0));
    }
    assert_eq!(absmean(&[f32::MAX; 100]), Ok(f32::MAX));
    assert!(matches!(
        quantize_absmean(&[1.0], &mut []),
        Err(QuantError::Shape { .. })
    ));
    assert!(matches!(
        quantize_absmax_i8(&[1.0], &mut []),
        Err(QuantError::Shape { .. })
    ));
}

#[test]
fn silent_tokens_are_zeros() {
    let mut q = [9; 3];
    let s = quantize_absmax_i8(&[0.0, -0.0, 1e-30], &mut q).unwrap();
    assert_eq!((s, q), (127.0 / 1e-5, [0; 3]));
    assert_eq!(quantize_absmax_i8(&[], &mut []), Ok(127.0 / 1e-5));
    // At the floor and just below.
    quantize_absmax_i8(&[1e-5, -0.5e-5, 0.0], &mut q).unwrap();
    assert_eq!(q, [127, -64, 0]);
}

#[test]
fn integers_by_hand() {
    let quantizer = |bits, symmetry, granularity| IntQuantizer {
        bits,
        symmetry,
        granularity,
    };
    // Four 2-bit codes to a byte: zero is 2, so −1 0 1 1 → 1 2 3 3.
    let two = quantizer(Bits::Two, Symmetry::Symmetric, Granularity::Tensor);
    let quantized = two.quantize(&[-0.5, 0.1, 0.5, 0.4, -0.3], 1, 5).unwrap();
    assert_eq!(quantized.packed(), [0b11_11_10_01, 0b01]);
    assert_eq!(quantized.dequantize(), [-0.5, 0.0, 0.5, 0.5, -0.5]);
    // 0…15 are their own codes; two to a byte.
    let four = quantizer(Bits::Four, Symmetry::Asymmetric, Granularity::Channel);
    let quantized = four
        .quantize(&[0.0, 15.0, 7.0, -15.0, 0.0, -3.0], 2, 3)
        .unwrap();
    assert_eq!(quantized.packed(), [0xf0, 0x07, 0xf0, 0x0c]);
    assert_eq!(quantized.zeros().collect::<Vec<_>>(), [0, 15]);
    assert_eq!(quantized.dequantize(), [0.0, 15.0, 7.0, -15.0, 0.0, -3.0]);
    let eight = quantizer(Bits::Eight, Symmetry::Symmetric, Granularity::Group(2));
    let quantized = eight.quantize(&[-127.0, 1.0, 254.0], 1, 3).unwrap();
    assert_eq!(quantized.packed(), [1, 129, 255]);
    assert_eq!(quantized.scales().collect::<Vec<_>>(), [1.0, 2.0]);
    // Only zeros.
    let quantized = four.quantize(&[0.0; 6], 2, 3).unwrap();
    assert_eq!(quantized.dequantize(), [0.0; 6]);
}

#[test]
fn integers_refuse_what_does_not_fit() {
    let quantizer = IntQuantizer {
        bits: Bits::Four,
        symmetry: Symmetry::Asymmetric,
        granularity: Granularity::Group(0),
    };
    assert!(matches!(
        quantizer.quantize(&[1.0], 1, 1),
        Err(QuantError::Number { .. })
    ));
    let quantizer = IntQuantizer {
        granularity: Granularity::Channel,
        ..quantizer
    };
    assert!(matches!(
        quantizer.quantize(&[1.0], 1, 2),
        Err(QuantError::Shape { .. })
    ));
    assert!(matches!(
        quantizer.quantize(&[], usize::MAX, 2),
        Err(QuantError::Shape { .. })
    ));
    assert!(matches!(
        quantizer.quantize(&[f32::NAN], 1, 1),
        Err(QuantError::Number { .. })
    ));
    assert_eq!(
        quantizer.quantize(&[], usize::MAX, 0).unwrap().dequantize(),
        []
    );
    assert_eq!(Bits::try_from(8), Ok(Bits::Eight));
    assert!(Bits::try_from(3).is_err());
}

#[test]
fn metrics_of_nothing_and_zero() {
    let metrics = |a: &[f32], b: &[f32]| ErrorMetrics::between(a, b).unwrap();
    let perfect = ErrorMetrics {
        mse: 0.0,
        sqnr_db: f64::INFINITY,
        cosine: 1.0,
        max_error: 0.0,
    };
    assert_eq!(metrics(&[], &[]), perfect);
    assert_eq!(metrics(&[0.0; 3], &[0.0; 3]), perfect);
    assert_eq!(
        metrics(&[0.0, 0.0], &[2.0, 0.0]),
        ErrorMetrics {
            mse: 2.0,
            sqnr_db: f64::NEG_INFINITY,
            cosine: 0.0,
            max_error: 2.0,
        }
    );
    let lost = metrics(&[3.0, 4.0], &[0.0, 0.0]);
    assert_eq!((lost.sqnr_db, lost.cosine, lost.mse), (0.0, 0.0, 12.5));
    let opposite = metrics(&[1.0, 2.0], &[-1.0, -2.0]);
    assert!((opposite.cosine + 1.0).abs() < 1e-12);
    assert!(
        metrics(&[1.0, f32::NAN, 1.0], &[1.0, 1.0, 3.0])
            .max_error
            .is_nan()
    );
    assert!(matches!(
        ErrorMetrics::between(&[1.0], &[]),
        Err(QuantError::Shape { .. })
    ));
}
