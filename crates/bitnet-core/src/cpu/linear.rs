//! Rows of activations times a matrix: in int8 where the weights are ternary, else in f32.

use super::layout::RowLayout;
use super::{CpuActivation, CpuBackend, Rows, shape_error};
use crate::{Result, WeightMatrix};

impl CpuBackend {
    /// `[tokens, rows]`: in int8 where the weights are ternary and activations are quantized, else in f32.
    pub(super) fn linear(&self, a: &CpuActivation, weights: &WeightMatrix) -> Result<Rows> {
        if weights.cols() != a.rows.width {
            return Err(shape_error(weights.name(), weights.cols(), a.rows.width));
        }
        let (format, row_bytes) = (weights.format(), weights.row_bytes());
        let layout = RowLayout::new(format, weights.stored_cols(), row_bytes);
        match (&a.int8, layout) {
            (Some(int8), Some(layout)) => self.ternary(int8, weights, &layout),
            _ => self.dense(&a.rows, weights),
        }
    }
}
