//! Feed-forward sublayers.

use super::product;
use super::rows::{Activation, NormParams, Source, check_function, is_silu};
use super::weights::Matrix;
use super::{GpuBackend, GpuHidden, REFUSED_BY};
use crate::sublayer::without_output_norm;
use crate::{Activations, FeedForwardWeights, Gate, GatedWeights, Result, Sublayer};

/// A feed-forward sublayer on the GPU.
pub struct GpuFeedForward {
    function: Gate,
    activations: Activations,
    norm: Option<NormParams>,
    gate: Matrix,
    up: Matrix,
    down_norm: Option<NormParams>,
    down: Matrix,
}

impl std::fmt::Debug for GpuFeedForward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuFeedForward")
            .field("function", &self.function)
            .field("gate", &self.gate)
            .field("up", &self.up)
            .field("down", &self.down)
            .finish_non_exhaustive()
    }
}

impl Sublayer for GpuFeedForward {
    fn bytes(&self) -> usize {
        self.gate.bytes() + self.up.bytes() + self.down.bytes()
    }
}

impl GpuFeedForward {
    /// Brings a feed-forward sublayer to the device.
    ///
    /// # Errors
    /// As [`Backend::load_feed_forward`](crate::Backend::load_feed_forward).
    pub(super) fn new(backend: &GpuBackend, weights: FeedForwardWeights) -> Result<Self> {
        let weights = weights.into_gated(REFUSED_BY)?;
        weights.check()?;
        let GatedWeights {
            function,
            activations,
            norm,
            gate,
            up,
            down,
            output_norm,
        } = weights;
        activations.without_groups(REFUSED_BY)?;
        without_output_norm(output_norm.as_ref(), REFUSED_BY)?;
        check_function(function)?;
        down.without_rotation(REFUSED_BY)?;
        Ok(Self {
            function,
            activations,
            norm: norm.map(|norm| backend.norm(norm)).transpose()?,
            gate: backend.matrix(&gate.plain_matrix(REFUSED_BY)?)?,
            up: backend.matrix(&up.plain_matrix(REFUSED_BY)?)?,
            down_norm: down.norm.map(|norm| backend.norm(norm)).transpose()?,
            down: backend.matrix(&down.matrix)?,
        })
    }
}

impl GpuBackend {
    /// # Errors
    /// As [`Backend::feed_forward`](crate::Backend::feed_forward).
    pub(super) fn feed(&self, x: &mut GpuHidden, weights: &GpuFeedForward) -> Result<()> {
        x.check_width(&weights.gate)?;
        let (recording, source) = (&mut x.recording, Source::Rows(x.rows.clone()));
        let mut a = Activation::new(source, weights.norm.clone(), weights.activations);
        let matrices = [&weights.gate, &weights.up];
        let (norm, activations) = (weights.down_norm.clone(), weights.activations);
        // Gate and up by one kernel, where there is one.
        let fused = product::gated(recording, &mut a, matrices, is_silu(weights.function))?;
        let mut a = match fused {
            Some(rows) => Activation::new(Source::Rows(rows), norm, activations),
            None => {
                let [gate, up] = product::all(recording, &mut a, matrices)?;
                Activation::gated(gate, up, weights.function, norm, activations)
            }
        };
        x.rows = product::added(recording, &mut a, &weights.down, &x.rows)?;
        Ok(())
    }
}
