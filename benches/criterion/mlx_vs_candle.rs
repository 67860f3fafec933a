//! Matrix products on every backend found, beside candle: f32 and ternary.
//!
//! Named for the comparison it was first meant for: on Apple Silicon, with the feature `mlx` (`benches/apple.md`). Elsewhere
//! the CPU kernels stand alone beside candle, and what is missing is said.

use bitnet_benchmarks::matmul::{self, Product};
use bitnet_benchmarks::{register, settings};
use criterion::{Criterion, criterion_group, criterion_main};

fn products(criterion: &mut Criterion) {
    for missing in matmul::missing_backends() {
        eprintln!("not measured: {missing}");
    }
    let squares = [64, 128, 256, 512, 1024, 2048].map(Product::square);
    register(criterion, "float_matmul", &squares.map(matmul::float));
    register(criterion, "ternary_matmul", &squares.map(matmul::ternary));
    let layers = [1, 512].map(|tokens| Product {
        tokens,
        cols: 2560,
        rows: 2560,
    });
    register(criterion, "ternary_layer", &layers.map(matmul::ternary));
}

criterion_group! {
    name = benches;
    config = settings();
    targets = products
}
criterion_main!(benches);
