//! Rows of a batch, from given numbers to numbers that can be compared.

use crate::parity::harness::*;
use bitnet_core::{Backend, Batch, Input, NormWeights, OutputRequest, VocabularyWeights};

/// An embedding that has the rows of `x`, and a head whose logits are the rows that it is given, in its first columns.
pub(crate) fn transparent(x: &[f32], cols: usize) -> VocabularyWeights {
    let rows = cols.max(x.len() / cols);
    let mut embedding = x.to_vec();
    embedding.resize(rows * cols, 0.0);
    VocabularyWeights {
        embedding_scale: 1.0,
        embedding_rotation: None,
        head_rotation: None,
        activations: bitnet_core::Activations::F32,
        norm: transparent_norm(cols),
        head: Some(into_columns(0, cols, rows)),
        ..vocabulary(&embedding, cols)
    }
}

/// A norm that divides rows by 2⁵⁰ = √(2¹⁰⁰ + mean of squares), then multiplies them by it.
fn transparent_norm(cols: usize) -> NormWeights {
    NormWeights {
        name: "norm".into(),
        weight: vec![2f32.powi(50); cols],
        eps: 2f32.powi(100),
    }
}

/// Runs `work` on the next rows of a sequence, those of `x`, and returns them.
pub(crate) fn run<B: Backend>(
    backend: &B,
    state: &mut B::State,
    x: &[f32],
    cols: usize,
    work: impl FnOnce(&mut B::Hidden, &mut Batch<'_, B::State>),
) -> Vec<f32> {
    let (embedding, head) = backend
        .load_vocabulary(transparent(x, cols))
        .expect("a vocabulary");
    let rows = x.len() / cols;
    let tokens: Vec<u32> = (0..rows as u32).collect();
    let mut batch = batch(
        Input::Tokens(&tokens),
        state,
        OutputRequest::Logits { rows },
    );
    let mut hidden = backend.embed(&embedding, &mut batch).expect("rows");
    work(&mut hidden, &mut batch);
    let outputs = backend.outputs(hidden, &head, &mut batch);
    let mut outputs = outputs.and_then(|pending| pending.now()).expect("outputs");
    let logits = outputs.pop().expect("one span").into_logits();
    let vocabulary = logits.len() / rows;
    let rows = logits.chunks_exact(vocabulary);
    rows.flat_map(|row| &row[..cols]).copied().collect()
}
