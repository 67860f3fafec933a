//! Feed-forward sublayers, from the norm of their input to the sum with their output.

use super::activations::Preparation;
use super::experts::Experts;
use super::mixer::bytes_of;
use super::{CpuBackend, CpuHidden};
use crate::{Error, FeedForwardWeights, GatedWeights, Result, Sublayer};

/// A feed-forward sublayer of the CPU: its weights, checked, in the formats in which they are multiplied.
#[derive(Debug)]
pub struct CpuFeedForward(Kind);

#[derive(Debug)]
enum Kind {
    Gated(Box<GatedWeights>),
    Experts(Box<Experts>),
}

impl Sublayer for CpuFeedForward {
    fn bytes(&self) -> usize {
        match &self.0 {
            Kind::Gated(weights) => bytes_of(&weights.matrices()),
            Kind::Experts(experts) => experts.bytes(),
        }
    }
}

/// Whether there are mixtures of experts: not in a browser, for which such models are too large.
const HAS_EXPERTS: bool = !cfg!(target_arch = "wasm32");

impl CpuBackend {
    /// # Errors
    /// As [`Backend::load_feed_forward`](crate::Backend::load_feed_forward).
    pub(super) fn feed_forward_of(&self, weights: FeedForwardWeights) -> Result<CpuFeedForward> {
        match weights {
            FeedForwardWeights::Gated(weights) => {
                weights.check()?;
                Ok(CpuFeedForward(Kind::Gated(Box::new(GatedWeights {
                    gate: self.projection(weights.gate)?,
                    up: self.projection(weights.up)?,
                    down: self.projection(weights.down)?,
                    ..weights
                }))))
            }
            FeedForwardWeights::Experts(weights) if HAS_EXPERTS => {
                let experts = self.experts_of(weights)?;
                Ok(CpuFeedForward(Kind::Experts(Box::new(experts))))
            }
            FeedForwardWeights::Experts(weights) => Err(Error::Unavailable {
                what: format!("a mixture of experts ({})", weights.gate.name()),
                why: "not in WebAssembly".into(),
            }),
        }
    }

    /// # Errors
    /// As [`Backend::feed_forward`](crate::Backend::feed_forward).
    pub(super) fn feed(&self, x: &mut CpuHidden, feed_forward: &CpuFeedForward) -> Result<()> {
        let weights = match &feed_forward.0 {
            Kind::Gated(weights) => weights,
            Kind::Experts(experts) if HAS_EXPERTS => {
                return self.feed_experts(&mut x.rows, experts);
            }
            Kind::Experts(_) => return Ok(()),
        };
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
