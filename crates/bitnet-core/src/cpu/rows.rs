//! Rows of activations: in f32, and rounded to int8 for ternary products.

use crate::Result;
use crate::pool::{Buffer, HybridMemoryPool, Tag};
use std::ops::Range;

/// f32 rows: `tokens × width`.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(super) values: Buffer<f32>,
    pub(super) tokens: usize,
    pub(super) width: usize,
}

impl Rows {
    /// Rows to be written: they hold what an earlier owner of their memory left.
    pub(super) fn new(pool: &HybridMemoryPool, tokens: usize, width: usize) -> Result<Self> {
        let len = tokens.saturating_mul(width);
        Ok(Self {
            values: pool.buffer_uninit(len, Tag::Activation)?,
            tokens,
            width,
        })
    }

    /// A copy of `values`, rows of `width`.
    pub(crate) fn of(pool: &HybridMemoryPool, values: &[f32], width: usize) -> Result<Self> {
        Ok(Self {
            values: pool.buffer_copy(values, Tag::Activation)?,
            tokens: values.len() / width.max(1),
            width,
        })
    }

    /// Some neighbouring rows.
    pub(crate) fn range(&self, rows: Range<usize>) -> &[f32] {
        &self.values[rows.start * self.width..rows.end * self.width]
    }

    pub(super) fn view(&self) -> RowView<'_> {
        RowView {
            values: &self.values,
            tokens: self.tokens,
            width: self.width,
        }
    }

    pub(crate) fn copy(&self, pool: &HybridMemoryPool) -> Result<Self> {
        Self::of(pool, &self.values, self.width)
    }
}

/// f32 rows where they lie, `tokens × width`.
#[derive(Clone, Copy)]
pub(super) struct RowView<'a> {
    pub(super) values: &'a [f32],
    pub(super) tokens: usize,
    pub(super) width: usize,
}

impl<'a> RowView<'a> {
    /// The row of a token.
    pub(super) fn row(&self, token: usize) -> &'a [f32] {
        &self.values[token * self.width..][..self.width]
    }
}

/// Rows ready for a matrix: the f32 rows, and their rounding unless activations stay f32.
#[derive(Debug)]
pub(crate) struct Activation {
    pub(super) rows: Rows,
    pub(super) rounded: Option<RoundedRows>,
}

/// Rows as ternary matrices multiply them.
#[derive(Debug)]
pub(super) enum RoundedRows {
    /// In int8, with a scale for each token.
    Int8(Int8Rows),
    /// Each group of columns rounded to int8 by a scale of its own, and divided by it again.
    Groups(Rows),
}

/// Rows rounded to int8, padded with zeros to whole blocks of any ternary format.
#[derive(Debug)]
pub(super) struct Int8Rows {
    /// `tokens × stride`.
    pub(super) q: Buffer<i8>,
    /// Width rounded up to [`Int8Rows::BLOCK`].
    pub(super) stride: usize,
    /// s of each token: q ≈ x·s.
    pub(super) scales: Buffer<f32>,
    /// Σ q of each run of [`Int8Rows::RUN`] columns: `tokens × stride / RUN`.
    pub(super) sums: Buffer<i32>,
}

impl Int8Rows {
    /// The longest block of a ternary format.
    pub(super) const BLOCK: usize = 256;
    /// The shortest group of columns that shares a weight scale.
    pub(super) const RUN: usize = 64;
}
