//! Tiles of queries by registers of positions, or of columns, whose sums stay in registers.

use super::super::keys_values::{HeadBlock, POSITIONS};
use super::load::{Load, prefetch};
use rten_simd::Isa;
use rten_simd::ops::{BitOps, NumOps};
use std::ops::Range;

/// q·k of `Q` queries, `[Q, dim]`, and the positions of a block. Fetches `ahead`, as much as the keys if it is not empty.
#[inline(always)]
pub(super) fn scores<I: Isa, T: Load, const Q: usize, const R: usize>(
    isa: I,
    queries: &[f32],
    head: &HeadBlock<'_, T>,
    mut ahead: &[T],
    scores: &mut [f32],
) {
    let ops = isa.f32();
    let dim = queries.len() / Q;
    let step = R * ops.len();
    // Of one length, so that no index is checked in the loop.
    let keys = &head.keys.as_chunks::<POSITIONS>().0[..dim];
    let queries: [&[f32]; Q] = std::array::from_fn(|query| &queries[query * dim..][..dim]);
    for start in (0..POSITIONS).step_by(step) {
        let mut scales = [ops.zero(); R];
        if T::SCALED {
            scales = f32::load::<I, R>(isa, &head.scales[0][start..start + step]);
        }
        let mut sums = [[ops.zero(); R]; Q];
        for d in 0..dim {
            if !ahead.is_empty() {
                prefetch(isa, &ahead[d * POSITIONS..][..POSITIONS]);
            }
            let mut keys = T::load::<I, R>(isa, &keys[d][start..start + step]);
            if T::SCALED {
                for i in 0..R {
                    keys[i] = ops.mul(keys[i], scales[i]);
                }
            }
            for query in 0..Q {
                let q = ops.splat(queries[query][d]);
                for i in 0..R {
                    sums[query][i] = ops.add(sums[query][i], ops.mul(q, keys[i]));
                }
            }
        }
        for (scores, sums) in scores.chunks_exact_mut(POSITIONS).zip(sums) {
            for (scores, sum) in scores[start..].chunks_exact_mut(ops.len()).zip(sums) {
                ops.store(sum, scores);
            }
        }
        ahead = &[];
    }
}

/// Adds `R` registers of columns, from `column` on, of the values of some positions of a block to `out`, `[Q, dim]`, each by
/// its weight, `[Q, POSITIONS]`. Fetches `ahead` as it goes, as much as the values if it is not empty.
#[inline(always)]
pub(super) fn add_values<I: Isa, T: Load, const Q: usize, const R: usize>(
    isa: I,
    weights: &[f32],
    head: &HeadBlock<'_, T>,
    positions: Range<usize>,
    ahead: &[T],
    column: usize,
    out: &mut [f32],
) {
    let ops = isa.f32();
    let dim = out.len() / Q;
    let step = R * ops.len();
    let mut sums = [[ops.zero(); R]; Q];
    for (sums, out) in sums.iter_mut().zip(out.chunks_exact(dim)) {
        *sums = f32::load::<I, R>(isa, &out[column..column + step]);
    }
    let weights = &weights.as_chunks::<POSITIONS>().0[..Q];
    let rows = head.values.chunks_exact(dim).enumerate();
    for (position, values) in rows.take(positions.end).skip(positions.start) {
        if !ahead.is_empty() {
            prefetch(isa, &ahead[position * dim..][..dim]);
        }
        let mut values = T::load::<I, R>(isa, &values[column..column + step]);
        if T::SCALED {
            let scale = ops.splat(head.scales[1][position]);
            for value in &mut values {
                *value = ops.mul(*value, scale);
            }
        }
        for query in 0..Q {
            let weight = ops.splat(weights[query][position]);
            for i in 0..R {
                sums[query][i] = ops.add(sums[query][i], ops.mul(weight, values[i]));
            }
        }
    }
    for (sums, out) in sums.into_iter().zip(out.chunks_exact_mut(dim)) {
        for (sum, out) in sums
            .into_iter()
            .zip(out[column..].chunks_exact_mut(ops.len()))
        {
            ops.store(sum, out);
        }
    }
}

/// Adds the columns from `column` on, fewer than fill two registers, of the first `count` positions for one query.
#[inline(always)]
pub(super) fn add_last_columns<T: Load>(
    weights: &[f32],
    head: &HeadBlock<'_, T>,
    count: usize,
    column: usize,
    out: &mut [f32],
) {
    let dim = out.len();
    if column == dim {
        return;
    }
    for (position, weight) in weights.iter().enumerate().take(count) {
        let scale = head.scale(1, position);
        let values = &head.values[position * dim..][column..dim];
        for (out, value) in out[column..].iter_mut().zip(values) {
            *out += weight * (value.widen() * scale);
        }
    }
}
