//! Rows of activations times a matrix: in int8 where the weights are ternary, else in f32.

use super::layout::RowLayout;
use super::{CpuActivation, CpuBackend, Int8Rows, RowView, Rows, shape_error};
use crate::{Result, WeightMatrix};

impl CpuBackend {
    /// `[tokens, rows]`: in int8 where the weights are ternary and activations are quantized, else in f32.
    pub(super) fn linear(&self, a: &CpuActivation, weights: &WeightMatrix) -> Result<Rows> {
        let mut product = Rows::new(&self.pool, a.rows.tokens, weights.rows())?;
        self.linear_into(a.rows.view(), a.int8.as_ref(), weights, &mut product.values)?;
        Ok(product)
    }

    /// [`linear`](Self::linear) into `[tokens, rows]` floats.
    pub(super) fn linear_into(
        &self,
        x: RowView<'_>,
        int8: Option<&Int8Rows>,
        weights: &WeightMatrix,
        product: &mut [f32],
    ) -> Result<()> {
        if weights.cols() != x.width {
            return Err(shape_error(weights.name(), weights.cols(), x.width));
        }
        let (format, row_bytes) = (weights.format(), weights.row_bytes());
        let layout = RowLayout::new(format, weights.stored_cols(), row_bytes);
        match (int8, layout) {
            (Some(int8), Some(layout)) => self.ternary_into(int8, weights, &layout, product),
            _ => self.dense_into(x, weights, product),
        }
    }
}
