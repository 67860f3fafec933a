//! Rows of activations times a matrix: in int8 where the weights are ternary, else in f32.

use super::layout::RowLayout;
use super::{CpuActivation, CpuBackend, Rows, shape_error};
use crate::device::Operation;
use crate::{Result, Tag, WeightMatrix};

/// Weight rows that are never divided between threads.
const ROWS: usize = 4;
/// Tokens whose products are transposed together: a cache line of them.
const STRIP: usize = 16;

impl CpuBackend {
    /// `[tokens, rows]`: in int8 where the weights are ternary and activations are quantized, else in f32.
    pub(super) fn linear(&self, a: &CpuActivation, weights: &WeightMatrix) -> Result<Rows> {
        if weights.cols() != a.rows.width {
            return Err(shape_error(weights.name(), weights.cols(), a.rows.width));
        }
        let row_bytes = weights.data().len() / weights.rows().max(1);
        let layout = RowLayout::new(weights.format(), weights.stored_cols(), row_bytes);
        match (&a.int8, layout) {
            (Some(int8), Some(layout)) => self.ternary(int8, weights, &layout),
            _ => self.dense(&a.rows, weights),
        }
    }

    /// Splits the rows of `weights` over the threads. `work` gets a first row and fills `[rows, tokens]`; the
    /// product is `[tokens, rows]`.
    pub(super) fn by_weight_row(
        &self,
        operation: Operation,
        tokens: usize,
        weights: &WeightMatrix,
        product: &mut [f32],
        work: impl Fn(usize, &mut [f32]) -> Result<()> + Sync + Send,
    ) -> Result<()> {
        if tokens == 0 {
            return Ok(());
        }
        let macs = product.len().saturating_mul(weights.cols());
        let chunk = self.chunk(operation, weights.rows(), ROWS, macs);
        let fill = |columns: &mut [f32]| {
            self.threads.chunks(columns, chunk * tokens, |index, out| {
                work(index * chunk, out)
            })
        };
        if tokens == 1 {
            return fill(product);
        }
        let mut columns = self.pool.buffer_uninit(product.len(), Tag::Scratch)?;
        fill(&mut columns)?;
        let strip = STRIP * weights.rows();
        self.threads.chunks(product, strip, |index, out| {
            for (row, product) in columns.chunks_exact(tokens).enumerate() {
                let column = out[row..].iter_mut().step_by(weights.rows());
                let product = &product[index * STRIP..];
                column
                    .zip(product)
                    .for_each(|(out, product)| *out = *product);
            }
            Ok(())
        })
    }
}
