//! Quantizers and codecs of packed formats.

use bitnet_benchmarks::{quantization, register, settings};
use criterion::{Criterion, criterion_group, criterion_main};

fn quantization(criterion: &mut Criterion) {
    register(criterion, "quantize", &quantization::quantizers());
    register(criterion, "codec", &quantization::codecs());
}

criterion_group! {
    name = benches;
    config = settings();
    targets = quantization
}
criterion_main!(benches);
