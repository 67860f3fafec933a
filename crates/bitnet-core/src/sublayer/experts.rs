//! Mixtures of experts: feed-forward sublayers of which each row meets a few of many.

use super::{Activations, Gate, NormWeights, check_matrix, check_norm};
use crate::{Error, Result, WeightMatrix};

/// A mixture of gated feed-forward sublayers: norm → router → for each row the experts of its largest router logits, and the sum
/// of their results by the softmax of those logits (maple).
///
/// An expert computes down(function(min(gate, limit)) · clamp(up, −limit, limit)). Matrices of all experts lie one after the
/// other in a tensor, and only those of chosen experts are read.
#[derive(Debug, Clone)]
pub struct ExpertsWeights {
    /// On the gate.
    pub function: Gate,
    /// The largest value of a gate, and the largest magnitude of an up projection, if there is one.
    pub limit: Option<f32>,
    /// Rounding of the rows that the matrices of experts multiply. The router multiplies f32.
    pub activations: Activations,
    /// Of the rows that router, gate and up multiply.
    pub norm: Option<NormWeights>,
    /// `[experts, hidden]`.
    pub router: WeightMatrix,
    /// Experts of a row.
    pub used: usize,
    /// `[experts · feed-forward, hidden]`.
    pub gate: WeightMatrix,
    /// `[experts · feed-forward, hidden]`.
    pub up: WeightMatrix,
    /// `[experts · hidden, feed-forward]`.
    pub down: WeightMatrix,
}

impl ExpertsWeights {
    /// Experts in all.
    pub fn count(&self) -> usize {
        self.router.rows()
    }

    /// Refuses parts that do not fit each other.
    ///
    /// # Errors
    /// [`Error::Shape`] that names the part, [`Error::Value`] for a norm weight or a limit that is no number that it can be.
    pub fn check(&self) -> Result<()> {
        let (hidden, width) = (self.router.cols(), self.down.cols());
        let count = self.count();
        if self.used == 0 || self.used > count {
            return Err(Error::Shape {
                what: format!("{}: experts of a row", self.router.name()),
                expected: format!("1 to {count}"),
                found: self.used.to_string(),
            });
        }
        if let Some(limit) = self
            .limit
            .filter(|limit| !(*limit > 0.0 && limit.is_finite()))
        {
            return Err(Error::Value {
                what: format!("{}: limit of gates", self.gate.name()),
                expected: "a finite number above 0".into(),
                found: limit.to_string(),
            });
        }
        check_norm(self.norm.as_ref(), hidden)?;
        check_matrix(&self.gate, count.saturating_mul(width), hidden)?;
        check_matrix(&self.up, count.saturating_mul(width), hidden)?;
        check_matrix(&self.down, count.saturating_mul(hidden), width)
    }

    /// Its matrices.
    pub(super) fn matrices(&self) -> Vec<&WeightMatrix> {
        vec![&self.router, &self.gate, &self.up, &self.down]
    }
}
