//! Feed-forward sublayers, from the norm of their input to the sum with their output.

use super::activations::Preparation;
use super::mixer::bytes_of;
use super::{CpuBackend, CpuHidden};
use crate::{FeedForwardWeights, GatedWeights, Result, Sublayer};

/// A feed-forward sublayer of the CPU: its weights, checked, in the formats in which they are multiplied.
#[derive(Debug)]
pub struct CpuFeedForward(FeedForwardWeights);

impl Sublayer for CpuFeedForward {
    fn bytes(&self) -> usize {
        bytes_of(&self.0.matrices())
    }
}

impl CpuBackend {
    /// # Errors
    /// As [`Backend::load_feed_forward`](crate::Backend::load_feed_forward).
    pub(super) fn feed_forward_of(&self, weights: FeedForwardWeights) -> Result<CpuFeedForward> {
        match weights {
            FeedForwardWeights::Gated(weights) => {
                weights.check()?;
                Ok(CpuFeedForward(FeedForwardWeights::Gated(GatedWeights {
                    gate: self.projection(weights.gate)?,
                    up: self.projection(weights.up)?,
                    down: self.projection(weights.down)?,
                    ..weights
                })))
            }
        }
    }

    /// # Errors
    /// As [`Backend::feed_forward`](crate::Backend::feed_forward).
    pub(super) fn feed(&self, x: &mut CpuHidden, feed_forward: &CpuFeedForward) -> Result<()> {
        let FeedForwardWeights::Gated(weights) = &feed_forward.0;
        let projections = [&weights.gate, &weights.up];
        let [gate, up] = self.project(
            &x.rows,
            weights.norm.as_ref(),
            weights.activations,
            projections,
        )?;
        let (function, down) = (weights.function, &weights.down);
        let a = self.gate(
            gate,
            &up,
            function,
            Preparation::of(down, weights.activations),
        )?;
        drop(up);
        self.add_product(&a, &down.matrix, weights.output_norm.as_ref(), &mut x.rows)
    }
}
