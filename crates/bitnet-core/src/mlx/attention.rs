//! Attention by MLX's own kernels.
//!
//! Rows of a projection, `[tokens, heads · dim]`, are seen as `[1, heads, tokens, dim]`, which is what these take.

use super::thread::MlxThreadToken;
use super::{MlxRows, dimension, failed, numbers};
use crate::{AttentionHeads, Result};
use mlx_rs::fast::{self, ScaledDotProductAttentionMask};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, ops};

/// The heads of rows that are `count · dim` wide: `[1, count, tokens, dim]`.
pub(super) fn heads_of(
    mlx: &MlxThreadToken,
    rows: &MlxRows,
    count: usize,
    dim: usize,
) -> Result<Array> {
    let shape = [
        1,
        dimension(rows.tokens)?,
        dimension(count)?,
        dimension(dim)?,
    ];
    let heads = rows.array.get(mlx).reshape(&shape);
    heads
        .and_then(|heads| heads.transpose_axes(&[0, 2, 1, 3]))
        .map_err(failed)
}

/// The rows of heads, `[1, count, tokens, dim]`.
pub(super) fn rows_of(heads: &Array, tokens: usize, width: usize) -> Result<MlxRows> {
    let shape = [dimension(tokens)?, dimension(width)?];
    let rows = heads.transpose_axes(&[0, 2, 1, 3]);
    let rows = rows.and_then(|rows| rows.reshape(&shape)).map_err(failed)?;
    Ok(MlxRows::new(rows, tokens, width))
}

fn scale(dim: usize) -> f32 {
    1.0 / (dim as f32).sqrt()
}

/// Causal attention of `queries` to keys and values of `[1, kv heads, positions, dim]`, of which the last are of the
/// queries' tokens.
pub(super) fn attend(
    mlx: &MlxThreadToken,
    queries: &MlxRows,
    [keys, values]: [Array; 2],
    heads: AttentionHeads,
) -> Result<MlxRows> {
    let MlxRows { tokens, width, .. } = *queries;
    let queries = heads_of(mlx, queries, heads.query, heads.dim)?;
    // The last token sees all positions, and a single one is the last.
    let mask = (tokens > 1).then_some(ScaledDotProductAttentionMask::Causal);
    let scale = scale(heads.dim);
    let attended = fast::scaled_dot_product_attention(queries, &keys, &values, scale, mask, None);
    rows_of(&attended.map_err(failed)?, tokens, width)
}

/// The attention of each head of the last row to each position: `[query heads, positions]`.
pub(super) fn weights_of_last(
    mlx: &MlxThreadToken,
    queries: &MlxRows,
    keys: &Array,
    heads: AttentionHeads,
) -> Result<Vec<f32>> {
    let last = dimension(queries.tokens)? - 1;
    let queries = heads_of(mlx, queries, heads.query, heads.dim)?;
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
    numbers(mlx, &weights().map_err(failed)?)
}
