//! How the criterion benches of this package are set up: short enough that all of them run in a few minutes.

use crate::comparison::Comparison;
use criterion::{BenchmarkId, Criterion};
use std::time::Duration;

/// Criterion without plots and with short measuring times; the command line may ask for more.
pub fn settings() -> Criterion {
    Criterion::default()
        .without_plots()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .configure_from_args()
}

/// Registers every contender of `comparisons` as a benchmark of the group `group`.
///
/// # Panics
/// If the inputs of a benchmark that runs cannot be made: criterion has no other way to fail.
pub fn register(criterion: &mut Criterion, group: &str, comparisons: &[Comparison]) {
    let mut group = criterion.benchmark_group(group);
    for comparison in comparisons {
        if let Some(throughput) = &comparison.throughput {
            group.throughput(throughput.clone());
        }
        for contender in &comparison.contenders {
            let id = BenchmarkId::new(&comparison.name, &contender.label);
            // Criterion calls this for every sample: the inputs are made at the first.
            let mut prepared = None;
            group.bench_function(id, |bencher| {
                let work = prepared.get_or_insert_with(|| {
                    contender
                        .prepare()
                        .unwrap_or_else(|error| panic!("{}: {error:#}", comparison.name))
                });
                bencher.iter_custom(work);
            });
        }
    }
    group.finish();
}
