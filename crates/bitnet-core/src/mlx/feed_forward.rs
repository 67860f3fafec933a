//! Feed-forward sublayers, from the norm of their input to the sum with their output.

use super::activations::{Activation, Norm, gated};
use super::mixer::MlxProjection;
use super::thread::MlxThreadToken;
use super::weights::Matrix;
use super::{MlxBackend, MlxRows, REFUSED_BY, failed};
use crate::sublayer::without_output_norm;
use crate::{Activations, FeedForwardWeights, Gate, Result, Sublayer};

/// A feed-forward sublayer of the MLX backend.
#[derive(Debug)]
pub struct MlxFeedForward(Gated);

impl Sublayer for MlxFeedForward {
    fn bytes(&self) -> usize {
        let Gated { gate, up, down, .. } = &self.0;
        gate.bytes + up.bytes + down.matrix.bytes
    }
}

/// A dense gated sublayer, its parts resident.
#[derive(Debug)]
struct Gated {
    function: Gate,
    activations: Activations,
    norm: Option<Norm>,
    gate: Matrix,
    up: Matrix,
    down: MlxProjection,
}

impl MlxBackend {
    /// # Errors
    /// As [`Backend::load_feed_forward`](crate::Backend::load_feed_forward).
    pub(super) fn feed_forward_of(&self, weights: FeedForwardWeights) -> Result<MlxFeedForward> {
        let weights = weights.into_gated(REFUSED_BY)?;
        weights.check()?;
        weights.activations.without_groups(REFUSED_BY)?;
        without_output_norm(weights.output_norm.as_ref(), REFUSED_BY)?;
        weights.down.without_rotation(REFUSED_BY)?;
        Ok(MlxFeedForward(Gated {
            function: weights.function,
            activations: weights.activations,
            norm: self.norm_of(weights.norm.as_ref())?,
            gate: self.loader.load(&weights.gate.plain_matrix(REFUSED_BY)?)?,
            up: self.loader.load(&weights.up.plain_matrix(REFUSED_BY)?)?,
            down: self.projection_of(&weights.down)?,
        }))
    }
}

impl MlxFeedForward {
    /// # Errors
    /// As [`Backend::feed_forward`](crate::Backend::feed_forward).
    pub(super) fn run(&self, mlx: &MlxThreadToken, x: &mut MlxRows) -> Result<()> {
        let weights = &self.0;
        x.check(x.tokens, weights.gate.cols)?;
        let a = Activation::new(mlx, x, weights.norm.as_ref(), weights.activations)?;
        let gate = a.times(mlx, &weights.gate)?;
        let up = a.times(mlx, &weights.up)?;
        let array = gated(gate.array.get(mlx), up.array.get(mlx), weights.function);
        let rows = MlxRows::new(array.map_err(failed)?, gate.tokens, gate.width);
        let down = &weights.down;
        let a = Activation::new(mlx, &rows, down.norm.as_ref(), weights.activations)?;
        a.add_product(mlx, &down.matrix, x)
    }
}
