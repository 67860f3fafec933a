//! Every kind of tensor operation on a medium size, beside candle where it has the operation.

use bitnet_benchmarks::{operations, register, settings};
use criterion::{Criterion, criterion_group, criterion_main};

fn operations(criterion: &mut Criterion) {
    register(criterion, "tensor", &operations::all());
}

criterion_group! {
    name = benches;
    config = settings();
    targets = operations
}
criterion_main!(benches);
