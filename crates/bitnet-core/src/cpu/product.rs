//! The matrix product by itself, for callers that keep their rows elsewhere.

use super::{Activation, CpuBackend, RowView, Rows};
use crate::{Activations, Error, Result, WeightMatrix};

/// Rows ready for a matrix: see [`CpuBackend::prepare_rows`].
#[derive(Debug)]
pub struct PreparedRows(Activation);

impl CpuBackend {
    /// A copy of f32 rows of `width`, rounded as `activations` say, to be multiplied by several matrices.
    ///
    /// # Errors
    /// If memory is short.
    pub fn prepare_rows(
        &self,
        x: &[f32],
        width: usize,
        activations: Activations,
    ) -> Result<PreparedRows> {
        let rows = Rows::of(&self.pool, x, width)?;
        self.activation(rows, activations).map(PreparedRows)
    }

    /// Multiplies prepared rows by a packed matrix: `out` is `tokens × rows`.
    ///
    /// # Errors
    /// As [`multiply`](Self::multiply).
    pub fn multiply_prepared(
        &self,
        x: &PreparedRows,
        weights: &WeightMatrix,
        out: &mut [f32],
    ) -> Result<()> {
        let Activation { rows, rounded } = &x.0;
        if rows.tokens.checked_mul(weights.rows()) != Some(out.len()) {
            return Err(Error::Shape {
                what: weights.name().into(),
                expected: format!("{} rows of {}", rows.tokens, weights.rows()),
                found: format!("room for {} numbers", out.len()),
            });
        }
        self.linear_into(rows.view(), rounded.as_ref(), &[weights], &mut [out])
    }

    /// A matrix whose every number was checked, in the format in which this backend multiplies it.
    ///
    /// # Errors
    /// If a weight is no ternary code or finite number, or memory is short.
    pub fn resident(&self, weights: WeightMatrix) -> Result<WeightMatrix> {
        self.repacked(weights)
    }

    /// Multiplies f32 rows by a packed matrix: `x` is `tokens × cols`, `out` is `tokens × rows`. The result has the bits
    /// of a model's projections.
    ///
    /// # Errors
    /// If the lengths do not fit, memory is short, or the weights cannot be decoded.
    pub fn multiply(
        &self,
        x: &[f32],
        weights: &WeightMatrix,
        activations: Activations,
        out: &mut [f32],
    ) -> Result<()> {
        let tokens = x.len() / weights.cols();
        let fits = |len: usize, width: usize| tokens.checked_mul(width) == Some(len);
        if !fits(x.len(), weights.cols()) || !fits(out.len(), weights.rows()) {
            return Err(Error::Shape {
                what: weights.name().into(),
                expected: format!("rows of {} for rows of {}", weights.cols(), weights.rows()),
                found: format!("{} numbers for {}", x.len(), out.len()),
            });
        }
        if tokens == 0 {
            return Ok(());
        }
        let x = RowView {
            values: x,
            tokens,
            width: weights.cols(),
        };
        let rounded = self.rounded(x, activations)?;
        self.linear_into(x, rounded.as_ref(), &[weights], &mut [out])
    }
}
