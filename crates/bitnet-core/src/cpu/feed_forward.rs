//! Feed-forward sublayers, from the norm of their input to the sum with their output.

use super::activations::Preparation;
use super::experts::Experts;
use super::mixer::bytes_of;
use super::{CpuBackend, CpuHidden, Rows};
use crate::{Error, ExpertsWeights, FeedForwardWeights, GatedWeights, Result, Sublayer};
use std::fmt::Debug;

/// A feed-forward sublayer of the CPU: its weights, checked, in the formats in which they are multiplied.
#[derive(Debug)]
pub struct CpuFeedForward(Kind);

#[derive(Debug)]
enum Kind {
    Gated(Box<GatedWeights>),
    Experts(Box<TargetMixture>),
}

impl Sublayer for CpuFeedForward {
    fn bytes(&self) -> usize {
        match &self.0 {
            Kind::Gated(weights) => bytes_of(&weights.matrices()),
            Kind::Experts(experts) => Mixture::bytes(&**experts),
        }
    }
}

/// A mixture of experts as a target runs it.
trait Mixture: Debug + Sized {
    /// # Errors
    /// As [`Backend::load_feed_forward`](crate::Backend::load_feed_forward).
    fn load(backend: &CpuBackend, weights: ExpertsWeights) -> Result<Self>;

    /// Bytes that a row reads.
    fn bytes(&self) -> usize;

    /// # Errors
    /// As [`Backend::feed_forward`](crate::Backend::feed_forward).
    fn feed(&self, backend: &CpuBackend, x: &mut Rows) -> Result<()>;
}

impl Mixture for Experts {
    fn load(backend: &CpuBackend, weights: ExpertsWeights) -> Result<Self> {
        backend.experts_of(weights)
    }

    fn bytes(&self) -> usize {
        Self::bytes(self)
    }

    fn feed(&self, backend: &CpuBackend, x: &mut Rows) -> Result<()> {
        backend.feed_experts(x, self)
    }
}

/// No mixture of experts: none can be loaded, so that there is none to run.
#[derive(Debug)]
enum NoExperts {}

impl Mixture for NoExperts {
    fn load(_: &CpuBackend, weights: ExpertsWeights) -> Result<Self> {
        Err(Error::Unavailable {
            what: format!("a mixture of experts ({})", weights.gate.name()),
            why: "not in WebAssembly".into(),
        })
    }

    fn bytes(&self) -> usize {
        match *self {}
    }

    fn feed(&self, _: &CpuBackend, _: &mut Rows) -> Result<()> {
        match *self {}
    }
}

/// The mixtures of a target that has some, or none.
trait Mixtures {
    type Mixture: Mixture;
}

struct Target<const HAS_EXPERTS: bool>;

impl Mixtures for Target<true> {
    type Mixture = Experts;
}

impl Mixtures for Target<false> {
    type Mixture = NoExperts;
}

/// A mixture of experts of this target: none in a browser, for which such models are too large.
type TargetMixture = <Target<{ !cfg!(target_arch = "wasm32") }> as Mixtures>::Mixture;

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
            FeedForwardWeights::Experts(weights) => {
                let experts = TargetMixture::load(self, weights)?;
                Ok(CpuFeedForward(Kind::Experts(Box::new(experts))))
            }
        }
    }

    /// # Errors
    /// As [`Backend::feed_forward`](crate::Backend::feed_forward).
    pub(super) fn feed(&self, x: &mut CpuHidden, feed_forward: &CpuFeedForward) -> Result<()> {
        if x.rows.tokens == 0 {
            return Ok(());
        }
        let weights = match &feed_forward.0 {
            Kind::Gated(weights) => weights,
            Kind::Experts(experts) => return experts.feed(self, &mut x.rows),
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
