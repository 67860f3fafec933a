//! Rows of f32 times any matrix, each product one sum in the fixed order.
//!
//! Few tokens are multiplied straight from the packed rows, four rows and four tokens at a time. Many share the unpacking
//! of a panel of rows, which then meets four tokens at a time.

use super::columns::Piece;
use super::interleave::{TOGETHER, interleaving_of};
use super::{CpuBackend, RowView, streamed};
use crate::pool::Movement;
use crate::simd::{DotPacked, DotTile, ROWS, is_dense};
use crate::{Result, Tag, WeightMatrix};
use bitnet_quant::Format;
use std::ops::Range;

/// Rows that are unpacked together: with the activations of four tokens they stay near the core.
const PANEL: usize = 4 * ROWS;

/// f32 rows times one matrix, each weight decoded to f32.
pub(super) struct DenseJob<'a> {
    x: RowView<'a>,
    weights: &'a WeightMatrix,
    direct: bool,
}

impl CpuBackend {
    /// f32 rows times any matrix.
    pub(super) fn dense_job<'a>(&self, x: RowView<'a>, weights: &'a WeightMatrix) -> DenseJob<'a> {
        // Floats cost hardly anything to decode, blocks something: one format was measured for all of either.
        let alike = match weights.format() {
            Format::F32 | Format::F16 | Format::Bf16 => Format::F16,
            _ => Format::Q6K,
        };
        let direct =
            is_dense(weights.format()) && x.tokens <= self.crossovers.gemv_max_tokens(alike).max(1);
        if direct {
            self.moved(Movement::ZeroCopy, weights.data().len());
        } else {
            let decoded = weights.rows() * weights.stored_cols();
            self.moved(Movement::Copy, decoded * size_of::<f32>());
        }
        DenseJob { x, weights, direct }
    }

    /// Rows in a piece, of about `share`.
    pub(super) fn dense_chunk(&self, job: &DenseJob<'_>, share: usize) -> usize {
        if job.direct {
            streamed(share, job.weights.row_bytes(), ROWS)
        } else {
            share.next_multiple_of(PANEL)
        }
    }

    /// Some rows of the product.
    pub(super) fn dense_piece(
        &self,
        job: &DenseJob<'_>,
        rows: Range<usize>,
        out: &mut Piece<'_>,
    ) -> Result<()> {
        if job.direct {
            self.dense_direct(job.x, job.weights, rows, out);
            Ok(())
        } else {
            self.dense_tiled(job.x, job.weights, rows, out)
        }
    }

    /// Some rows straight from their packed bytes.
    fn dense_direct(
        &self,
        x: RowView<'_>,
        weights: &WeightMatrix,
        rows: Range<usize>,
        out: &mut Piece<'_>,
    ) {
        // From the four quarters of the rows: long streams, which hardware foresees.
        let quarter = rows.len().div_ceil(ROWS);
        for index in 0..quarter {
            let places = [0, 1, 2, 3].map(|i| i * quarter + index);
            // Past the last row, that row stands in.
            let rows = places.map(|place| weights.row(rows.start + place.min(rows.len() - 1)));
            let format = weights.format();
            for tokens in fours(x.tokens) {
                let sums = if tokens.len() == 1 {
                    let x = x.row(tokens.start);
                    let sums = (self.kernels.dot_packed)(DotPacked { format, x, rows });
                    sums.map(|sum| [sum; ROWS])
                } else {
                    self.dot_tile(format, x, tokens.clone(), rows)
                };
                write(out, places, tokens, sums, weights.output_scale());
            }
        }
    }

    /// Some rows, unpacked a panel at a time.
    fn dense_tiled(
        &self,
        x: RowView<'_>,
        weights: &WeightMatrix,
        rows: Range<usize>,
        out: &mut Piece<'_>,
    ) -> Result<()> {
        let width = weights.stored_cols();
        let mut panel = self
            .pool
            .buffer_uninit::<f32>(PANEL * width, Tag::Scratch)?;
        for first in rows.clone().step_by(PANEL) {
            let count = (rows.end - first).min(PANEL);
            if weights.is_interleaved() {
                let panel = panel.chunks_exact_mut(width);
                self.unpack_interleaved(weights, first..first + count, panel)?;
            } else {
                let packed = weights.row_range(first, count);
                for (row, unpacked) in packed.zip(panel.chunks_exact_mut(width)) {
                    self.unpack(weights, row, unpacked)?;
                }
            }
            let place = first - rows.start;
            if x.tokens == 1 {
                let out = &mut out.token(0)[place..][..count];
                for (out, w) in out.iter_mut().zip(panel.chunks_exact(width)) {
                    *out = (self.kernels.dot)(x.values, w) * weights.output_scale();
                }
                continue;
            }
            for tokens in fours(x.tokens) {
                for (tile, w) in panel.chunks_exact(ROWS * width).enumerate() {
                    let rows = [0, 1, 2, 3];
                    let w = rows.map(|row| bytemuck::cast_slice(&w[row * width..][..width]));
                    let sums = self.dot_tile(Format::F32, x, tokens.clone(), w);
                    let places = rows.map(|row| place + tile * ROWS + row);
                    write(out, places, tokens.clone(), sums, weights.output_scale());
                }
            }
        }
        Ok(())
    }

    /// The weights of rows that lie side by side.
    fn unpack_interleaved<'a>(
        &self,
        weights: &WeightMatrix,
        rows: Range<usize>,
        panel: impl Iterator<Item = &'a mut [f32]>,
    ) -> Result<()> {
        let interleaving = interleaving_of(weights)?;
        let bytes = interleaving.block_bytes();
        let mut packed = (self.pool).buffer_uninit(weights.row_bytes(), Tag::Scratch)?;
        for (row, unpacked) in rows.zip(panel) {
            let block = &weights.data()[row / TOGETHER * bytes..][..bytes];
            interleaving.take(row % TOGETHER, block, &mut packed);
            self.unpack(weights, &packed, unpacked)?;
        }
        Ok(())
    }

    /// Four rows times up to four tokens. Past the last token, that one stands in.
    fn dot_tile(
        &self,
        format: Format,
        x: RowView<'_>,
        tokens: Range<usize>,
        rows: [&[u8]; ROWS],
    ) -> [[f32; ROWS]; ROWS] {
        (self.kernels.dot_tile)(DotTile {
            format,
            x: [0, 1, 2, 3].map(|token| x.row((tokens.start + token).min(tokens.end - 1))),
            tokens: tokens.len(),
            rows,
        })
    }

    /// The weights of row `row`, however rows lie.
    pub(super) fn unpack_row(
        &self,
        weights: &WeightMatrix,
        row: usize,
        out: &mut [f32],
    ) -> Result<()> {
        if weights.is_interleaved() {
            self.unpack_interleaved(weights, row..row + 1, std::iter::once(out))
        } else {
            self.unpack(weights, weights.row(row), out)
        }
    }

    /// The weights of one packed row of `weights`.
    pub(super) fn unpack(&self, weights: &WeightMatrix, row: &[u8], out: &mut [f32]) -> Result<()> {
        let format = weights.format();
        if is_dense(format) {
            (self.kernels.unpack)(format, row, out);
        } else {
            format.decode_row(row, weights.scale(), out)?;
        }
        Ok(())
    }
}

/// Tokens, up to four at a time.
fn fours(tokens: usize) -> impl Iterator<Item = Range<usize>> {
    (0..tokens)
        .step_by(ROWS)
        .map(move |start| start..(start + ROWS).min(tokens))
}

/// Writes the sums `[row][token]` of rows at `places`, those that there are.
fn write(
    out: &mut Piece<'_>,
    places: [usize; ROWS],
    tokens: Range<usize>,
    sums: [[f32; ROWS]; ROWS],
    scale: f32,
) {
    for (index, token) in tokens.enumerate() {
        let out = out.token(token);
        for (place, sums) in places.into_iter().zip(sums) {
            if let Some(out) = out.get_mut(place) {
                *out = sums[index] * scale;
            }
        }
    }
}

#[cfg(test)]
mod tests;
