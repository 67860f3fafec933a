//! How much each head attends to each position: what attention computes on its way and does not keep.
//!
//! For people to look at, once in a while: plain loops over the keys as the cache holds them.

use super::Rows;
use super::attention::Attended;
use crate::math::exp;
use crate::simd::{KeysValues, POSITIONS, Stored, with_stored};
use crate::{AttentionHeads, Error, Result};

/// The weights of the last row of `q`, `[query heads, positions]`: softmax(q·k / √dim).
pub(super) fn of_last(q: &Rows, heads: AttentionHeads, spans: &[Attended<'_>]) -> Result<Vec<f32>> {
    let width = heads.query_width();
    let last = q.values.chunks_exact(width).next_back();
    let (Some(last), Some(Attended { keys_values, run })) = (last, spans.last()) else {
        return Err(Error::Shape {
            what: "queries".into(),
            expected: "at least one row".into(),
            found: "none".into(),
        });
    };
    let keys_values = KeysValues {
        positions: run.first + run.rows.len(),
        ..*keys_values
    };
    let mut weights = Vec::with_capacity(heads.query * keys_values.positions);
    for (query_head, query) in last.chunks_exact(heads.dim).enumerate() {
        let head = keys_values.of_head(query_head / (heads.query / heads.kv));
        let start = weights.len();
        with_stored!(head.kv, T => weights.extend(scores::<T>(query, &head)));
        softmax(&mut weights[start..]);
    }
    Ok(weights)
}

/// q·k / √dim for each position; −∞ for those before the window.
fn scores<T: Stored>(query: &[f32], head: &KeysValues<'_>) -> impl Iterator<Item = f32> {
    (0..head.positions).map(|position| {
        if position < head.positions.saturating_sub(head.window) {
            return f32::NEG_INFINITY;
        }
        let block = head.block::<T>(position / POSITIONS);
        let key = block.key(position % POSITIONS);
        let product: f32 = query.iter().zip(key).map(|(q, k)| q * k).sum();
        product / (head.dim as f32).sqrt()
    })
}

fn softmax(scores: &mut [f32]) {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = exp(*score - largest);
        sum += *score;
    }
    for score in scores {
        *score /= sum;
    }
}
