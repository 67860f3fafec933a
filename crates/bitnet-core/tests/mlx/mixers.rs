//! Attention whose queries, keys and values are columns of its rows.

use super::rows::run;
use crate::parity::harness::*;
use bitnet_core::{
    Activations, AttentionHeads, AttentionWeights, Backend, MixerState, MixerWeights, Rope,
    RopePairs,
};

/// Columns of a row of queries, keys and values.
pub(crate) fn row_width(heads: AttentionHeads) -> usize {
    heads.query_width() + 2 * heads.kv_width()
}

/// Rows of `[queries, keys, values]`, to whose queries their attention is added.
pub(crate) fn attention(heads: AttentionHeads, rope: &Rope) -> MixerWeights {
    let (cols, query, kv) = (row_width(heads), heads.query_width(), heads.kv_width());
    MixerWeights::Attention(AttentionWeights {
        output_norm: None,
        gated: false,
        heads,
        rope: Some(rope.clone()),
        window: None,
        activations: Activations::F32,
        norm: None,
        query: columns(0, query, cols).into(),
        key: columns(query, kv, cols).into(),
        value: columns(query + kv, kv, cols).into(),
        head_norms: None,
        output: projection(into_columns(0, query, cols)),
    })
}

/// Every column of a head rotates.
pub(crate) fn whole_rope(heads: AttentionHeads, base: f32) -> Rope {
    Rope {
        pairs: RopePairs::HalfSplit,
        dims: heads.dim,
        base,
        divisors: Vec::new(),
        magnitude: 1.0,
    }
}

/// Runs the rows of `x` through one layer of attention, in batches of `steps` tokens.
pub(crate) fn attend<B: Backend>(
    backend: &B,
    state: &mut B::State,
    weights: &MixerWeights,
    x: &[f32],
    steps: &[usize],
) -> Vec<f32> {
    let mixer = backend.load_mixer(weights.clone()).expect("a mixer");
    let cols = weights.hidden();
    let mut rest = x;
    let mut found = Vec::new();
    for step in steps {
        let (rows, others) = rest.split_at(step * cols);
        found.extend(run(backend, state, rows, cols, |hidden, batch| {
            backend.mixer(hidden, &mixer, 0, batch).expect("mixed");
        }));
        rest = others;
    }
    found
}

/// The state of one layer.
pub(crate) fn state<B: Backend>(backend: &B, heads: AttentionHeads, capacity: usize) -> B::State {
    backend
        .state(
            &[MixerState::KeysValues(heads)],
            capacity,
            compared(backend),
        )
        .expect("a state")
}
