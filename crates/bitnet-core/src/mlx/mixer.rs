//! Mixers: softmax attention, from the norm of its input to the sum with its output.

use super::activations::{Activation, Norm};
use super::attention::{attend, heads_of, rows_of, weights_of_last};
use super::rope::Rotation;
use super::thread::MlxThreadToken;
use super::weights::Matrix;
use super::{MlxBackend, MlxRows, MlxState, REFUSED_BY};
use crate::pool::Movement;
use crate::sublayer::{rotating, without_output_norm};
use crate::{
    Activations, AttentionHeads, AttentionWeights, Error, MixerWeights, NormWeights, Projection,
    Result, SequenceState, Span, Sublayer,
};

/// A mixer of the MLX backend.
#[derive(Debug)]
pub struct MlxMixer(pub(super) Attention);

impl Sublayer for MlxMixer {
    fn bytes(&self) -> usize {
        let Attention {
            query,
            key,
            value,
            output,
            ..
        } = &self.0;
        query.bytes + key.bytes + value.bytes + output.matrix.bytes
    }
}

/// Softmax attention, its parts resident.
#[derive(Debug)]
pub(super) struct Attention {
    heads: AttentionHeads,
    rotation: Rotation,
    activations: Activations,
    norm: Option<Norm>,
    query: Matrix,
    key: Matrix,
    value: Matrix,
    head_norms: Option<[Norm; 2]>,
    output: MlxProjection,
}

/// A matrix and the norm of the rows that it multiplies, resident.
#[derive(Debug)]
pub(super) struct MlxProjection {
    pub(super) norm: Option<Norm>,
    pub(super) matrix: Matrix,
}

impl MlxBackend {
    /// # Errors
    /// As [`Backend::load_mixer`](crate::Backend::load_mixer).
    pub(super) fn mixer_of(&self, weights: MixerWeights) -> Result<MlxMixer> {
        let weights = weights.into_attention(REFUSED_BY)?;
        weights.check()?;
        weights.activations.without_groups(REFUSED_BY)?;
        without_output_norm(weights.output_norm.as_ref(), REFUSED_BY)?;
        weights.output.without_rotation(REFUSED_BY)?;
        self.attention_of(weights).map(MlxMixer)
    }

    fn attention_of(&self, weights: AttentionWeights) -> Result<Attention> {
        let head_norms = match &weights.head_norms {
            Some([query, key]) => Some([
                Norm::load(self.thread, query)?,
                Norm::load(self.thread, key)?,
            ]),
            None => None,
        };
        let rope = rotating(weights.rope, weights.query.matrix.name(), REFUSED_BY)?;
        Ok(Attention {
            heads: weights.heads,
            rotation: Rotation::load(self.thread, &rope)?,
            activations: weights.activations,
            norm: self.norm_of(weights.norm.as_ref())?,
            query: self.loader.load(&weights.query.plain_matrix(REFUSED_BY)?)?,
            key: self.loader.load(&weights.key.plain_matrix(REFUSED_BY)?)?,
            value: self.loader.load(&weights.value.plain_matrix(REFUSED_BY)?)?,
            head_norms,
            output: self.projection_of(&weights.output)?,
        })
    }

    /// Makes a norm resident that was checked, if there is one.
    pub(super) fn norm_of(&self, weights: Option<&NormWeights>) -> Result<Option<Norm>> {
        weights
            .map(|weights| Norm::load(self.thread, weights))
            .transpose()
    }

    /// Makes a projection resident that was checked.
    pub(super) fn projection_of(&self, projection: &Projection) -> Result<MlxProjection> {
        Ok(MlxProjection {
            norm: self.norm_of(projection.norm.as_ref())?,
            matrix: self.loader.load(&projection.matrix)?,
        })
    }

    /// Runs a mixer on the rows of a span, which it appends to layer `layer` of the state, and adds its result to `x`.
    ///
    /// # Errors
    /// As [`Backend::mixer`](crate::Backend::mixer).
    pub(super) fn mix(
        &self,
        mlx: &MlxThreadToken,
        x: &mut MlxRows,
        MlxMixer(weights): &MlxMixer,
        layer: usize,
        span: &mut Span<'_, MlxState>,
    ) -> Result<()> {
        let (queries, positions) = self.append(mlx, x, weights, layer, span)?;
        let keys_values = span.state.keys_values(mlx, layer, positions)?;
        let attended = attend(mlx, &queries, keys_values, weights.heads)?;
        let bytes = 2 * positions * weights.heads.kv_width() * size_of::<f32>();
        self.moved(Movement::ZeroCopy, bytes);
        let output = &weights.output;
        let a = Activation::new(mlx, &attended, output.norm.as_ref(), weights.activations)?;
        a.add_product(mlx, &output.matrix, x)
    }

    /// The attention of the last row of a span, for people to look at.
    ///
    /// # Errors
    /// As [`Backend::mixer`](crate::Backend::mixer).
    pub(super) fn attention_of_last(
        &self,
        mlx: &MlxThreadToken,
        x: &MlxRows,
        MlxMixer(weights): &MlxMixer,
        layer: usize,
        span: &mut Span<'_, MlxState>,
    ) -> Result<Vec<f32>> {
        let (queries, positions) = self.append(mlx, x, weights, layer, span)?;
        let [keys, _] = span.state.keys_values(mlx, layer, positions)?;
        let attention = weights_of_last(mlx, &queries, &keys, weights.heads)?;
        debug_assert_eq!(attention.len(), weights.heads.query * positions);
        Ok(attention)
    }

    /// Projects the rows, rotates queries and keys, and writes keys and values into the state. Returns the queries, and
    /// the positions that the state then has in that layer.
    fn append(
        &self,
        mlx: &MlxThreadToken,
        x: &MlxRows,
        weights: &Attention,
        layer: usize,
        span: &mut Span<'_, MlxState>,
    ) -> Result<(MlxRows, usize)> {
        let (tokens, first, heads) = (span.input.len(), span.state.len(), weights.heads);
        x.check(tokens, weights.query.cols)?;
        let found = span.state.heads(layer)?;
        if found != heads {
            return Err(Error::Shape {
                what: format!("layer {layer} of a state"),
                expected: format!("{heads:?}"),
                found: format!("{found:?}"),
            });
        }
        let a = Activation::new(mlx, x, weights.norm.as_ref(), weights.activations)?;
        let q = a.times(mlx, &weights.query)?;
        let k = a.times(mlx, &weights.key)?;
        let v = a.times(mlx, &weights.value)?;
        let rotated = |rows: &MlxRows, count: usize, norm: Option<&Norm>| {
            let mut rows = heads_of(mlx, rows, count, heads.dim)?;
            if let Some(norm) = norm {
                rows = norm.apply(mlx, &rows)?;
            }
            weights.rotation.apply(mlx, &rows, first)
        };
        let norms = weights.head_norms.as_ref();
        let queries = rotated(&q, heads.query, norms.map(|[q, _]| q))?;
        let keys = rotated(&k, heads.kv, norms.map(|[_, k]| k))?;
        let values = heads_of(mlx, &v, heads.kv, heads.dim)?;
        span.state.write(mlx, layer, tokens, [&keys, &values])?;
        let bytes = 2 * tokens * heads.kv_width() * size_of::<f32>();
        self.moved(Movement::Copy, bytes);
        Ok((rows_of(&queries, tokens, q.width)?, first + tokens))
    }
}
