//! The smallest benchmark there is: it shows that the benches run at all.

use bitnet_benchmarks::settings;
use criterion::{Criterion, criterion_group, criterion_main};

fn minimal(criterion: &mut Criterion) {
    criterion.bench_function("minimal/add", |bencher| bencher.iter(|| 1 + 1));
}

criterion_group! {
    name = benches;
    config = settings();
    targets = minimal
}
criterion_main!(benches);
