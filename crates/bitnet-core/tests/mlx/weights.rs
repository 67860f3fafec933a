//! Weights: lent, counted, given back.

use super::MLX;
use crate::parity::harness::*;
use bitnet_core::mlx::MlxBackend;
use bitnet_core::{
    Backend, Bytes, HybridMemoryPool, Input, OutputRequest, Sublayer, VocabularyWeights,
    WeightMatrix,
};
use bitnet_quant::Format;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that count how often they are dropped.
struct Counted(Vec<u8>, Arc<AtomicUsize>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

/// A table that is both embedding and head.
fn shared_table(embedding: WeightMatrix) -> VocabularyWeights {
    let cols = embedding.cols();
    VocabularyWeights {
        embedding_scale: 1.0,
        embedding_rotation: None,
        head_rotation: None,
        activations: bitnet_core::Activations::F32,
        embedding,
        ..vocabulary(&vec![0.0; cols], cols)
    }
}

#[test]
fn lent_memory_is_given_back_once() {
    for format in [Format::F32, Format::F16, Format::Bf16, Format::Q8_0] {
        let dropped = Arc::new(AtomicUsize::new(0));
        let values = Numbers(61).floats(8 * 64);
        let original = table(&values, 64, format);
        let bytes = Counted(original.data().to_vec(), Arc::clone(&dropped));
        let shape = (8, 64, 64);
        let weights =
            WeightMatrix::new("w", format, shape, 1.0, Bytes::from_owner(bytes)).expect("a matrix");
        let (embedding, head) = MLX
            .load_vocabulary(shared_table(weights))
            .expect("a vocabulary");
        let mut state = MLX.state(&[], 8, None).expect("a state");
        let mut batch = batch(Input::Tokens(&[7, 0]), &mut state, OutputRequest::Nothing);
        let rows = MLX.embed(&embedding, &mut batch).expect("rows");
        // Recorded rows keep the table that they need.
        drop((embedding, head));
        let found = MLX.fetch(&rows).expect("numbers");
        assert_eq!(dropped.load(Ordering::SeqCst), 1, "{format}");
        let mut expected = vec![0.0; 128];
        for (row, out) in [7, 0].into_iter().zip(expected.chunks_exact_mut(64)) {
            format
                .decode_row(original.row(row), 1.0, out)
                .expect("a row");
        }
        assert_same(&found, &expected, &format.to_string());
    }
}

#[test]
fn bytes_that_moved_are_counted() {
    let pool = HybridMemoryPool::default();
    let mlx = MlxBackend::with_pool(pool.clone()).expect("MLX");
    let before = pool.zero_copy().stats();
    let weights = table(&[0.5; 64 * 64], 64, Format::F32);
    let (_, head) = mlx
        .load_vocabulary(shared_table(weights))
        .expect("a vocabulary");
    let copied = pool.zero_copy().stats();
    // It lies in no pages that could be shared.
    assert_eq!(copied.operations(), before.operations() + 1);
    assert_eq!(copied.copied.bytes - before.copied.bytes, 64 * 64 * 4);
    assert_eq!(head.bytes(), 64 * 64 * 4);
    // 2 bits for a weight, and two numbers for each 128 of them.
    let matrix = ternary(&mut Numbers(62), TERNARY[0], 16, 256);
    let matrix = mlx.resident(&matrix).expect("a matrix");
    assert_eq!(matrix.bytes(), 16 * (64 + 2 * 8));
    // A Mac takes the pages; Linux's CPUs copy.
    let moved = pool.zero_copy().stats();
    let bytes = if cfg!(target_os = "macos") {
        moved.zero_copy.bytes - copied.zero_copy.bytes
    } else {
        moved.copied.bytes - copied.copied.bytes
    };
    assert_eq!(bytes, matrix.bytes() as u64);
}
