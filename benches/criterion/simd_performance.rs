//! SIMD kernels beside the same arithmetic one element at a time, and beside candle.

use bitnet_benchmarks::{elementwise, register, settings};
use criterion::{Criterion, criterion_group, criterion_main};

fn kernels(criterion: &mut Criterion) {
    register(criterion, "simd", &elementwise::all());
}

criterion_group! {
    name = benches;
    config = settings();
    targets = kernels
}
criterion_main!(benches);
