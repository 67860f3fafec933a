//! Rows of f32 times any matrix, each product one sum in the fixed order.
//!
//! Few tokens are multiplied straight from the packed rows, four rows at a time. Many share the unpacking of a panel
//! of rows, which then meets four tokens at a time.

use super::{CpuBackend, Rows, shape_error};
use crate::device::Operation;
use crate::simd::{ROWS, is_dense};
use crate::zero_copy::Movement;
use crate::{Result, Tag, WeightMatrix};
use bitnet_quant::Format;

/// Rows that are unpacked together: with the activations of four tokens they stay near the core.
const PANEL: usize = 4 * ROWS;

impl CpuBackend {
    /// f32 rows times any matrix, each weight decoded to f32.
    pub(super) fn dense(&self, x: &Rows, weights: &WeightMatrix) -> Result<Rows> {
        let mut product = Rows::new(&self.pool, x.tokens, weights.rows())?;
        self.dense_into(x, weights, &mut product.values)?;
        Ok(product)
    }

    /// [`dense`](Self::dense) into `[tokens, rows]` floats.
    pub(super) fn dense_into(
        &self,
        x: &Rows,
        weights: &WeightMatrix,
        product: &mut [f32],
    ) -> Result<()> {
        if weights.cols() != x.width {
            return Err(shape_error(weights.name(), weights.cols(), x.width));
        }
        // Dense formats differ little in what unpacking them costs: F16 was measured for all.
        let direct = is_dense(weights.format())
            && x.tokens <= self.crossovers.direct_up_to(Format::F16).max(1);
        if direct {
            self.moved(Movement::ZeroCopy, weights.data().len());
        } else {
            let decoded = weights.rows() * weights.stored_cols();
            self.moved(Movement::Copy, decoded * size_of::<f32>());
        }
        let work = |first: usize, out: &mut [f32]| {
            if direct {
                self.dense_direct(x, weights, first, out);
                Ok(())
            } else {
                self.dense_tiled(x, weights, first, out)
            }
        };
        self.by_weight_row(Operation::DenseMatmul, x.tokens, weights, product, work)
    }

    /// The rows from `first` on straight from their packed bytes: `out` is `[rows, tokens]`.
    fn dense_direct(&self, x: &Rows, weights: &WeightMatrix, first: usize, out: &mut [f32]) {
        let tokens = x.tokens;
        let count = out.len() / tokens;
        // From the four quarters of the rows: long streams, which hardware foresees.
        let quarter = count.div_ceil(ROWS);
        for index in 0..quarter {
            let places = [0, 1, 2, 3].map(|i| i * quarter + index);
            // Past the last row, that row stands in.
            let rows = places.map(|place| weights.row(first + place.min(count - 1)));
            for (token, x) in x.values.chunks_exact(x.width).enumerate() {
                let sums = (self.kernels.dot_packed)(weights.format(), x, rows);
                for (place, sum) in places.into_iter().zip(sums) {
                    if let Some(out) = out.get_mut(place * tokens + token) {
                        *out = sum * weights.output_scale();
                    }
                }
            }
        }
    }

    /// The rows from `first` on, unpacked a panel at a time: `out` is `[rows, tokens]`.
    fn dense_tiled(
        &self,
        x: &Rows,
        weights: &WeightMatrix,
        first: usize,
        out: &mut [f32],
    ) -> Result<()> {
        let (tokens, width) = (x.tokens, weights.stored_cols());
        let mut panel = self
            .pool
            .buffer_uninit::<f32>(PANEL * width, Tag::Scratch)?;
        for (index, out) in out.chunks_mut(PANEL * tokens).enumerate() {
            let rows = weights.row_range(first + index * PANEL, out.len() / tokens);
            for (row, unpacked) in rows.zip(panel.chunks_exact_mut(width)) {
                self.unpack(weights, row, unpacked)?;
            }
            if tokens == 1 {
                for (out, w) in out.iter_mut().zip(panel.chunks_exact(width)) {
                    *out = (self.kernels.dot)(&x.values, w) * weights.output_scale();
                }
                continue;
            }
            for start in (0..tokens).step_by(ROWS) {
                let count = (tokens - start).min(ROWS);
                // Past the last token it stands in again.
                let x = [0, 1, 2, 3].map(|token| {
                    let token = start + token.min(count - 1);
                    &x.values[token * x.width..][..x.width]
                });
                let tiles = panel.chunks_exact(ROWS * width);
                for (w, out) in tiles.zip(out.chunks_mut(ROWS * tokens)) {
                    let w = [0, 1, 2, 3].map(|row| &w[row * width..][..width]);
                    let sums = (self.kernels.dot_tile)(w, x);
                    for (out, sums) in out.chunks_mut(tokens).zip(sums.chunks_exact(ROWS)) {
                        for (out, sum) in out[start..][..count].iter_mut().zip(sums) {
                            *out = sum * weights.output_scale();
                        }
                    }
                }
            }
        }
        Ok(())
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

#[cfg(test)]
mod tests;
