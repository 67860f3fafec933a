//! Every kernel on the shapes of BitNet b1.58 2B-4T: bytes per second of one token's products and of the head,
//! multiply-accumulates per second of a prompt's. First come the machine's limits, on one thread like all others;
//! `cargo xtask kernels` compares with them.

use bitnet_benchmarks::layers::{Extent, Stage};
use bitnet_benchmarks::{register, settings};
use criterion::{Criterion, criterion_group, criterion_main};

fn kernels(criterion: &mut Criterion) {
    // `cargo bench` says so; `cargo test` only wants to see everything run.
    let measures = std::env::args().any(|argument| argument == "--bench");
    let extent = if measures { Extent::Whole } else { Extent::Few };
    for stage in Stage::ALL {
        let group = format!("kernels_{}", stage.name());
        // The head is limited as decode is.
        if measures && stage != Stage::Head {
            register(criterion, &group, &[stage.limit()]);
        }
        for kernel in stage.kernels() {
            // One at a time: their matrices would not fit into memory together.
            match kernel.comparison(extent, &[]) {
                Ok(comparison) => register(criterion, &group, &[comparison]),
                Err(error) => panic!("{}: {error:#}", kernel.name()),
            }
        }
    }
}

criterion_group! {
    name = benches;
    config = settings();
    targets = kernels
}
criterion_main!(benches);
