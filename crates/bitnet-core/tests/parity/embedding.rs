//! Embeddings.

use super::harness::*;
use bitnet_core::{Batch, Input, OutputRequest, Span, VocabularyWeights, WeightMatrix};

pub(crate) fn rows<B: Rows>(others: &[Other<'_, B>]) {
    let mut numbers = Numbers(11);
    for format in DENSE.into_iter().chain(TERNARY) {
        for cols in [256, 512, 84] {
            let rows = 1 + numbers.below(150);
            let weights = if format.is_ternary() {
                ternary(&mut numbers, format, rows, cols)
            } else {
                table(&numbers.floats(rows * cols), cols, format)
            };
            let ids: Vec<u32> = (0..9).map(|_| numbers.below(rows) as u32).collect();
            let expected = embedded(&cpu(), &weights, &ids);
            for other in others {
                let found = embedded(other.backend, &weights, &ids);
                let what = format!("{}, {format}, {rows}×{cols}", other.name);
                assert_same(&found, &expected, &what);
            }
        }
    }
}

fn embedded<B: Rows>(backend: &B, weights: &WeightMatrix, ids: &[u32]) -> Vec<f32> {
    let weights = VocabularyWeights {
        embedding_scale: 1.0,
        embedding_rotation: None,
        head_rotation: None,
        activations: bitnet_core::Activations::F32,
        embedding: weights.clone(),
        ..vocabulary(&vec![0.0; weights.cols()], weights.cols())
    };
    let (embedding, _) = backend.load_vocabulary(weights).expect("a vocabulary");
    let mut state = backend.state(&NO_LAYERS, ids.len(), None).expect("a state");
    let mut batch = batch(Input::Tokens(ids), &mut state, OutputRequest::Nothing);
    let x = backend.embed(&embedding, &mut batch).expect("rows");
    backend.rows(x)
}

/// Tokens past the last row, none at all, and the likeliest token where none was found.
pub(crate) fn refusals<B: Rows>(backend: &B) {
    let (embedding, _) = backend
        .load_vocabulary(vocabulary(&[1.0; 12], 4))
        .expect("a vocabulary");
    let mut state = backend.state(&NO_LAYERS, 8, None).expect("a state");
    for (input, message) in [
        (Input::Tokens(&[0, 3]), "vocabulary"),
        (Input::Tokens(&[]), "at least one"),
        (Input::Tokens(&[0; 9]), "at most 8 positions"),
        (Input::LastArgmax, ""),
    ] {
        let span = Span {
            input,
            state: &mut state,
            outputs: OutputRequest::Nothing,
        };
        let error =
            Batch::new(vec![span]).and_then(|mut batch| backend.embed(&embedding, &mut batch));
        let error = error.map(drop).expect_err("not embedded").to_string();
        assert!(error.contains(message), "{error}");
    }
    // It is as it was.
    let mut batch = batch(Input::Tokens(&[2]), &mut state, OutputRequest::Nothing);
    let x = backend.embed(&embedding, &mut batch).expect("rows");
    assert_eq!(backend.rows(x), [1.0; 4]);
}
