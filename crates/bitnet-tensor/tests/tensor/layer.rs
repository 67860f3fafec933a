//! The ternary layer against exact sums, and against the transformer's own operation.

use super::{CPU, floats, pool};
use bitnet_core::cpu::CpuBackend;
use bitnet_core::{Activations, Bytes, HybridMemoryPool, Tag, WeightMatrix};
use bitnet_quant::{Format, quantize_absmax_i8, quantize_absmean};
use bitnet_tensor::{BitLinear, BitNetDType, BitNetTensor};
use proptest::prelude::*;
use std::sync::{Arc, LazyLock};

static BACKEND: LazyLock<Arc<CpuBackend>> =
    LazyLock::new(|| Arc::new(CpuBackend::new(Some(2), None).unwrap()));

proptest! {
    #[test]
    fn products_are_those_of_the_integers(
        (tokens, rows, cols) in (0usize..6, 1usize..9, 1usize..300),
        seed in any::<u64>(),
        biased in any::<bool>(),
    ) {
        let weight = BitNetTensor::randn(&[rows, cols], seed, CPU, pool()).unwrap();
        let x = BitNetTensor::randn(&[tokens, cols], !seed, CPU, pool()).unwrap();
        let bias = BitNetTensor::randn(&[rows], seed ^ 1, CPU, pool()).unwrap();
        let layer = BitLinear::from_f32(&weight, biased.then(|| bias.clone()), BACKEND.clone()).unwrap();
        let found = layer.forward(&x).unwrap();
        prop_assert_eq!(found.shape(), &[tokens, rows]);

        let mut codes = vec![0; rows * cols];
        let scale = quantize_absmean(&weight.to_vec::<f32>().unwrap(), &mut codes).unwrap();
        let (x, bias) = (x.to_vec::<f32>().unwrap(), bias.to_vec::<f32>().unwrap());
        let mut expected = Vec::new();
        for x in x.chunks(cols) {
            let mut q = vec![0; cols];
            let s = quantize_absmax_i8(x, &mut q).unwrap();
            for (codes, bias) in codes.chunks(cols).zip(&bias) {
                let sum: i32 = codes.iter().zip(&q).map(|(c, q)| i32::from(*c) * i32::from(*q)).sum();
                let product = sum as f32 / s * scale;
                expected.push(if biased { product + bias } else { product });
            }
        }
        prop_assert_eq!(found.to_vec::<f32>().unwrap(), expected);
    }
}

#[test]
fn leading_axes_strides_and_types_do_not_matter() {
    let weight = BitNetTensor::randn(&[5, 64], 1, CPU, pool()).unwrap();
    let layer = BitLinear::from_f32(&weight, None, BACKEND.clone()).unwrap();
    let x = BitNetTensor::randn(&[2, 3, 64], 2, CPU, pool()).unwrap();
    let y = layer.forward(&x).unwrap();
    assert_eq!(y.shape(), [2, 3, 5]);
    let flat = layer.forward(&x.reshape(&[6, 64]).unwrap()).unwrap();
    assert_eq!(flat.to_vec::<f32>().unwrap(), y.to_vec::<f32>().unwrap());
    let turned = layer.forward(&x.transpose(0, 1).unwrap()).unwrap();
    let back = turned.transpose(0, 1).unwrap();
    assert_eq!(back.to_vec::<f32>().unwrap(), y.to_vec::<f32>().unwrap());
    let row = layer
        .forward(&x.select(0, 1).unwrap().select(0, 2).unwrap())
        .unwrap();
    assert_eq!(
        row.to_vec::<f32>().unwrap(),
        y.to_vec::<f32>().unwrap()[25..]
    );
    let half = layer
        .forward(&x.to_dtype(BitNetDType::BF16).unwrap())
        .unwrap();
    assert_eq!(half.dtype(), BitNetDType::BF16);
}

#[test]
fn float_activations_are_not_rounded() {
    let weight = floats(&[0.5, -0.5, 0.0, 0.5], &[2, 2]);
    let layer = BitLinear::from_f32(&weight, None, BACKEND.clone()).unwrap();
    assert_eq!(
        layer.weights().scale(),
        0.5,
        "ternary weights keep their scale"
    );
    let layer = layer.with_activations(Activations::F32);
    let x = floats(&[1.0, 0.001], &[1, 2]);
    assert_eq!(
        layer.forward(&x).unwrap().to_vec::<f32>().unwrap(),
        [0.4995, 0.0005]
    );
}

#[test]
fn any_packed_matrix_will_do() {
    let codes: Vec<i8> = (0..2 * 256).map(|i| (i * 7 % 3) as i8 - 1).collect();
    let x = BitNetTensor::rand(&[4, 256], (-1.0, 1.0), 3, CPU, pool()).unwrap();
    let mut results = Vec::new();
    for format in [Format::Tq1_0, Format::Tq2_0, Format::Q2_0] {
        let mut data = Vec::new();
        for codes in codes.chunks(256) {
            let mut row = vec![0; format.row_bytes(256).unwrap()];
            let scales = vec![0.5; 256 / format.block_len()];
            format.encode_codes(codes, &scales, &mut row).unwrap();
            data.extend(row);
        }
        let weights =
            WeightMatrix::new("w", format, (2, 256, 256), 1.0, Bytes::from(data)).unwrap();
        let layer = BitLinear::new(weights, None, BACKEND.clone()).unwrap();
        assert!(format!("{layer:?}").contains("in: 256"));
        results.push(layer.forward(&x).unwrap().to_vec::<f32>().unwrap());
    }
    assert_eq!(results[0], results[1]);
    let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-4;
    assert!(results[0].iter().zip(&results[2]).all(close));
}

#[test]
fn misfits_are_refused() {
    let weight = floats(&[0.5, -0.5, 0.0, 0.5, 0.0, 0.0], &[2, 3]);
    let make = |weight: &BitNetTensor, bias| BitLinear::from_f32(weight, bias, BACKEND.clone());
    let layer = make(&weight, None).unwrap();
    let error = layer
        .forward(&floats(&[0.0; 4], &[2, 2]))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("[…, 3]") && error.contains("[2, 2]"),
        "{error}"
    );
    assert!(
        layer
            .forward(&BitNetTensor::scalar(0f32, CPU, pool()).unwrap())
            .is_err()
    );
    let whole = BitNetTensor::zeros(&[1, 3], BitNetDType::I8, CPU, pool()).unwrap();
    assert!(layer.forward(&whole).is_err());
    assert!(make(&weight, Some(floats(&[0.0; 3], &[3]))).is_err());
    assert!(make(&weight.flatten().unwrap(), None).is_err());
    assert!(make(&floats(&[], &[0, 3]), None).is_err());
    assert!(make(&floats(&[f32::NAN], &[1, 1]), None).is_err());
    let zeros = make(&floats(&[0.0; 2], &[1, 2]), None).unwrap();
    assert_eq!(
        zeros
            .forward(&floats(&[1.0, 2.0], &[2]))
            .unwrap()
            .to_vec::<f32>()
            .unwrap(),
        [0.0]
    );
}

#[test]
fn activations_and_products_are_not_copied() {
    const TOKENS: usize = 8;
    const COLS: usize = 256;
    let scratch = HybridMemoryPool::default();
    let backend = CpuBackend::with_pool(Some(1), None, scratch.clone()).unwrap();
    let weight = BitNetTensor::randn(&[64, COLS], 1, CPU, pool()).unwrap();
    let layer = BitLinear::from_f32(&weight, None, Arc::new(backend)).unwrap();
    let x = BitNetTensor::randn(&[TOKENS, COLS], 2, CPU, pool()).unwrap();
    let taken = |layer: BitLinear| {
        let bytes = || scratch.stats().tag(Tag::Activation).allocated;
        let before = bytes();
        layer.forward(&x).unwrap();
        bytes() - before
    };
    // Rounded to a byte each, with a few sums.
    assert!(taken(layer.clone()) < 2 * (TOKENS * COLS) as u64);
    assert_eq!(taken(layer.with_activations(Activations::F32)), 0);
}
