//! Making tensors and taking memory: the pool beside candle and the system's allocator.

use bitnet_benchmarks::{creation, register, settings};
use criterion::{Criterion, criterion_group, criterion_main};

fn creation(criterion: &mut Criterion) {
    register(criterion, "create", &creation::zeros());
    register(criterion, "pool", &creation::BLOCKS.map(creation::block));
}

criterion_group! {
    name = benches;
    config = settings();
    targets = creation
}
criterion_main!(benches);
