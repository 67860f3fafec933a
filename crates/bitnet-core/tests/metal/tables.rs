//! Tables of a mapped file are used where they lie.

use crate::harness::*;
use bitnet_core::gpu::GpuOptions;
use bitnet_core::{Activations, Backend, HybridMemoryPool, Tag, WeightMatrix};
use bitnet_quant::Format;

/// The product of a row with a table, and with the same in a mapped file; and how many bytes of weights the device has then.
fn products(format: Format, rows: usize, cols: usize) -> [(Vec<f32>, usize); 2] {
    let mut numbers = Numbers(61);
    let values = numbers.floats(rows * cols);
    let copied = table(&values, cols, format)
        .with_output_scale(0.75)
        .expect("a finite scale");
    // What is mapped can be given back.
    let mapped = copied.clone().with_reclaim(|_| {});
    let x = numbers.floats(cols);
    [copied, mapped].map(|matrix| product(matrix, &x))
}

fn product(matrix: WeightMatrix, x: &[f32]) -> (Vec<f32>, usize) {
    let pool = HybridMemoryPool::default();
    let gpu = open(GpuOptions {
        pool: pool.clone(),
        ..GpuOptions::default()
    });
    let before = pool.zero_copy().stats();
    let is_mapped = matrix.is_mapped();
    let weights = gpu.matrix(matrix).expect("a matrix");
    let moved = pool.zero_copy().stats();
    let lent = moved.zero_copy.operations - before.zero_copy.operations;
    assert!(is_mapped || lent == 0);
    let bytes = gpu.memory().tag(Tag::Weights).in_use;
    let rows = alone(&gpu, x, x.len());
    let a = gpu
        .norm_quantize(&rows, None, Activations::F32)
        .expect("activations");
    let mut products = gpu.matmul(&a, &[&weights]).expect("a product");
    (gpu.look(products.remove(0)), bytes)
}

#[test]
fn floats_are_used_where_they_lie() {
    for format in [Format::F32, Format::F16, Format::Bf16] {
        let [(copied, there), (lent, taken)] = products(format, 37, 64);
        assert_same(&lent, &copied, &format.to_string());
        assert!(
            there > 0 && taken == 0,
            "{format}: {there} and {taken} bytes"
        );
    }
}

#[test]
fn what_must_be_moved_is_copied() {
    // Rows that are no whole vectors, and scales that stand between the bytes.
    for (format, cols) in [(Format::F16, 60), (Format::Q8_0, 64)] {
        let [(copied, there), (other, taken)] = products(format, 5, cols);
        assert_same(&other, &copied, &format.to_string());
        assert_eq!(there, taken, "{format}");
    }
}
