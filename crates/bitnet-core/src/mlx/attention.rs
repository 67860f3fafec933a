//! Rotation and attention by MLX's own kernels.
//!
//! Rows of a projection, `[tokens, heads · dim]`, are seen as `[1, heads, tokens, dim]`, which is what these take.

use super::cache::MlxCache;
use super::rows::{MlxGain, MlxRows, normed};
use super::thread::{Here, Tensor};
use super::{dimension, failed, numbers, width_error};
use crate::pool::Movement;
use crate::{Error, Norm, Result, Rope, RopePairs};
use mlx_rs::fast::{self, ScaledDotProductAttentionMask};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops};

/// Rotations of a run of positions.
pub struct MlxRotations {
    /// How many positions each pair needs for one radian, `[dims / 2]`; nothing if nothing rotates.
    periods: Option<Tensor>,
    dims: usize,
    interleaved: bool,
    /// Multiplies what rotates.
    magnitude: f32,
    first: usize,
    count: usize,
}

impl std::fmt::Debug for MlxRotations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MlxRotations")
            .field("dims", &self.dims)
            .field("first", &self.first)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

impl MlxRotations {
    pub(super) fn new(_: &Here, rope: &Rope, first: usize, count: usize) -> Result<Self> {
        dimension(first.saturating_add(count))?;
        let half = rope.dims / 2;
        let period = |i: usize| {
            let exponent = 2.0 * i as f64 / rope.dims as f64;
            let divisor = rope.divisors.get(i).copied().unwrap_or(1.0);
            (libm::pow(f64::from(rope.base), exponent) * f64::from(divisor)) as f32
        };
        let periods: Vec<f32> = (0..half).map(period).collect();
        let shape = [dimension(half)?];
        Ok(Self {
            periods: (half > 0).then(|| Tensor::new(Array::from_slice(&periods, &shape))),
            dims: 2 * half,
            interleaved: rope.pairs == RopePairs::Interleaved,
            magnitude: rope.magnitude,
            first,
            count,
        })
    }

    fn apply(&self, here: &Here, heads: &Array) -> Result<Array> {
        let Some(periods) = &self.periods else {
            return Ok(heads.clone());
        };
        let (dims, first) = (dimension(self.dims)?, dimension(self.first)?);
        let periods = periods.get(here);
        let turned = fast::rope(heads, dims, self.interleaved, None, 1.0, first, periods);
        let turned = turned.map_err(failed)?;
        if self.magnitude == 1.0 {
            return Ok(turned);
        }
        let width = heads.shape().last().copied().unwrap_or_default();
        if width == dims {
            return turned
                .multiply(Array::from_f32(self.magnitude))
                .map_err(failed);
        }
        let factor = |column| if column < dims { self.magnitude } else { 1.0 };
        let factors: Vec<f32> = (0..width).map(factor).collect();
        let factors = Array::from_slice(&factors, &[width]);
        turned.multiply(factors).map_err(failed)
    }
}

/// The heads of rows: `[1, count, tokens, dim]`.
fn heads_of(here: &Here, rows: &MlxRows, count: usize, dim: usize) -> Result<Array> {
    if rows.width != count * dim {
        return Err(width_error("attention projection", count * dim, rows.width));
    }
    let shape = [
        1,
        dimension(rows.tokens)?,
        dimension(count)?,
        dimension(dim)?,
    ];
    let heads = rows.array.get(here).reshape(&shape);
    heads
        .and_then(|heads| heads.transpose_axes(&[0, 2, 1, 3]))
        .map_err(failed)
}

/// The rows of heads, `[1, count, tokens, dim]`.
fn rows_of(heads: &Array, tokens: usize, width: usize) -> Result<MlxRows> {
    let shape = [dimension(tokens)?, dimension(width)?];
    let rows = heads.transpose_axes(&[0, 2, 1, 3]);
    let rows = rows.and_then(|rows| rows.reshape(&shape)).map_err(failed)?;
    Ok(MlxRows::new(rows, tokens, width))
}

/// Norms the heads of `q` and `k` if asked, rotates them, and appends `k` and `v` to `layer`.
#[expect(clippy::too_many_arguments, reason = "one fused step of attention")]
pub(super) fn rope_append(
    here: &Here,
    q: &mut MlxRows,
    k: &MlxRows,
    v: &MlxRows,
    head_norms: Option<[Norm<'_, MlxGain>; 2]>,
    rotations: &MlxRotations,
    cache: &mut MlxCache,
    layer: usize,
) -> Result<()> {
    let heads = cache.heads;
    for rows in [&*q, k, v] {
        if rows.tokens != rotations.count {
            return Err(Error::Shape {
                what: "rows of attention".into(),
                expected: format!("{} tokens", rotations.count),
                found: format!("{} tokens", rows.tokens),
            });
        }
    }
    let turned = |rows: &MlxRows, count, norm: Option<Norm<'_, MlxGain>>| {
        let mut rows = heads_of(here, rows, count, heads.dim)?;
        if let Some(norm) = norm {
            rows = normed(here, &rows, heads.dim, norm)?;
        }
        rotations.apply(here, &rows)
    };
    let turned_q = turned(q, heads.query, head_norms.map(|[q, _]| q))?;
    let turned_k = turned(k, heads.kv, head_norms.map(|[_, k]| k))?;
    let v = heads_of(here, v, heads.kv, heads.dim)?;
    let run = (rotations.first, rotations.count);
    cache.append(here, layer, run, [&turned_k, &v])?;
    *q = rows_of(&turned_q, q.tokens, q.width)?;
    Ok(())
}

/// The queries of `q` as heads, and the keys and values that they see.
fn parts(
    here: &Here,
    q: &MlxRows,
    cache: &MlxCache,
    layer: usize,
) -> Result<(Array, [Array; 2], usize)> {
    let queries = heads_of(here, q, cache.heads.query, cache.heads.dim)?;
    let (keys_values, positions) = cache.layer(here, layer)?;
    if positions < q.tokens {
        return Err(Error::Shape {
            what: format!("cache of layer {layer}"),
            expected: format!("at least {} positions", q.tokens),
            found: format!("{positions} positions"),
        });
    }
    Ok((queries, keys_values, positions))
}

fn scale(dim: usize) -> f32 {
    1.0 / (dim as f32).sqrt()
}

/// Causal attention of the last rows appended to `layer`.
pub(super) fn attention(
    here: &Here,
    q: &MlxRows,
    cache: &MlxCache,
    layer: usize,
) -> Result<(MlxRows, Movement, usize)> {
    let (queries, [keys, values], positions) = parts(here, q, cache, layer)?;
    // The last token sees all positions, and a single one is the last.
    let mask = (q.tokens > 1).then_some(ScaledDotProductAttentionMask::Causal);
    let scale = scale(cache.heads.dim);
    let heads = fast::scaled_dot_product_attention(queries, &keys, &values, scale, mask, None);
    let rows = rows_of(&heads.map_err(failed)?, q.tokens, q.width)?;
    let bytes = 2 * positions * cache.heads.kv * cache.heads.dim * size_of::<f32>();
    Ok((rows, Movement::ZeroCopy, bytes))
}

/// How much each head of the last row attends to each position: `[query heads, positions]`.
pub(super) fn weights_of_last(
    here: &Here,
    q: &MlxRows,
    cache: &MlxCache,
    layer: usize,
) -> Result<Vec<f32>> {
    let (queries, [keys, _], positions) = parts(here, q, cache, layer)?;
    let heads = cache.heads;
    let last = dimension(q.tokens)? - 1;
    // The query heads that share a head of keys, beside it.
    let shared = dimension(heads.query / heads.kv)?;
    let (kv, dim) = (dimension(heads.kv)?, dimension(heads.dim)?);
    let weights = || {
        let queries = queries.try_index((.., .., last..last + 1))?;
        let queries = queries.reshape(&[1, kv, shared, dim])?;
        let scores = queries.matmul(keys.transpose_axes(&[0, 1, 3, 2])?)?;
        let scores = scores.multiply(Array::from_f32(scale(heads.dim)))?;
        ops::softmax_axis(scores, -1, true)
    };
    let weights = numbers(here, &weights().map_err(failed)?)?;
    debug_assert_eq!(weights.len(), heads.query * positions);
    Ok(weights)
}
