//! Tables of a mapped file are used where they lie.

use crate::harness::*;
use bitnet_core::gpu::GpuOptions;
use bitnet_core::{
    Backend, HybridMemoryPool, Input, OutputRequest, Pending, Tag, VocabularyWeights, WeightMatrix,
};
use bitnet_quant::Format;

/// Logits of a table that is embedding and head, and of the same in a mapped file; and how many bytes of weights the device
/// has then.
fn tables(format: Format, rows: usize, cols: usize) -> [(Vec<f32>, usize); 2] {
    let mut numbers = Numbers(61);
    let values = numbers.floats(rows * cols);
    let copied = table(&values, cols, format)
        .with_output_scale(0.75)
        .expect("a finite scale");
    // Bytes that are mapped can be given back.
    let mapped = copied.clone().with_reclaim(|_| {});
    [copied, mapped].map(logits)
}

fn logits(embedding: WeightMatrix) -> (Vec<f32>, usize) {
    let pool = HybridMemoryPool::default();
    let gpu = open(GpuOptions {
        pool: pool.clone(),
        ..GpuOptions::default()
    });
    let before = pool.zero_copy().stats();
    let (is_mapped, cols) = (embedding.is_mapped(), embedding.cols());
    let weights = VocabularyWeights {
        embedding_scale: 1.0,
        embedding_rotation: None,
        head_rotation: None,
        activations: bitnet_core::Activations::F32,
        embedding,
        ..vocabulary(&vec![0.0; cols], cols)
    };
    let (embedding, head) = gpu.load_vocabulary(weights).expect("a vocabulary");
    let moved = pool.zero_copy().stats();
    let lent = moved.zero_copy.operations - before.zero_copy.operations;
    assert!(is_mapped || lent == 0);
    let bytes = gpu.memory().tag(Tag::Weights).in_use;
    let mut state = gpu.state(&NO_LAYERS, 1, None).expect("a state");
    let request = OutputRequest::Logits { rows: 1 };
    let mut batch = batch(Input::Tokens(&[1]), &mut state, request);
    let x = gpu.embed(&embedding, &mut batch).expect("rows");
    let outputs = gpu.outputs(x, &head, &mut batch).and_then(Pending::now);
    (outputs.expect("outputs").remove(0).into_logits(), bytes)
}

#[test]
fn floats_are_used_where_they_lie() {
    for format in [Format::F32, Format::F16, Format::Bf16] {
        let [(copied, there), (lent, taken)] = tables(format, 37, 64);
        assert_same(&lent, &copied, &format.to_string());
        // The norm is copied in either case.
        let bytes = 37 * format.row_bytes(64).expect("a row");
        assert!(
            there >= taken + bytes && taken < bytes,
            "{format}: {there} and {taken} bytes"
        );
    }
}

#[test]
fn what_must_be_moved_is_copied() {
    // Rows that are no whole vectors, and scales that stand between the bytes.
    for (format, cols) in [(Format::F16, 60), (Format::Q8_0, 64)] {
        let [(copied, there), (other, taken)] = tables(format, 5, cols);
        assert_same(&other, &copied, &format.to_string());
        assert_eq!(there, taken, "{format}");
    }
}
