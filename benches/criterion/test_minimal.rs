//! The smallest benchmark there is: it shows that the benches run at all.

use criterion::{Criterion, criterion_group, criterion_main};

fn minimal(criterion: &mut Criterion) {
    criterion.bench_function("minimal/add", |bencher| bencher.iter(|| 1 + 1));
}

criterion_group!(benches, minimal);
criterion_main!(benches);
