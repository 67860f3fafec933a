//! The matrix product by itself, for callers that keep their rows elsewhere.

use super::{CpuBackend, RowView};
use crate::{Activations, Error, Result, WeightMatrix};

impl CpuBackend {
    /// Multiplies f32 rows by a packed matrix: `x` is `tokens × cols`, `out` is `tokens × rows`. The result has the bits
    /// that [`Backend::matmul`](crate::Backend::matmul) gives.
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
        let int8 = self.rounded(x, activations)?;
        self.linear_into(x, int8.as_ref(), &[weights], &mut [out])
    }
}
