//! Mixers: softmax attention, from the norm of its input to the sum with its output.

use super::attention::Attended;
use super::clock::Part;
use super::tuning::Operation;
use super::{CpuBackend, CpuHidden, CpuState, Rotations, Rows, columns, shape_error};
use crate::pool::Movement;
use crate::{
    AttentionHeads, AttentionWeights, Batch, MixerWeights, NormWeights, Projection, Result,
    Sublayer, WeightMatrix,
};

/// A mixer of the CPU: its weights, checked, in the formats in which they are multiplied.
#[derive(Debug)]
pub struct CpuMixer(MixerWeights);

impl Sublayer for CpuMixer {
    fn bytes(&self) -> usize {
        bytes_of(&self.0.matrices())
    }
}

/// Bytes of some matrices.
pub(super) fn bytes_of(matrices: &[&WeightMatrix]) -> usize {
    matrices.iter().map(|matrix| matrix.data().len()).sum()
}

impl CpuBackend {
    /// # Errors
    /// As [`Backend::load_mixer`](crate::Backend::load_mixer).
    pub(super) fn mixer_of(&self, weights: MixerWeights) -> Result<CpuMixer> {
        match weights {
            MixerWeights::Attention(weights) => {
                weights.check()?;
                Ok(CpuMixer(MixerWeights::Attention(AttentionWeights {
                    query: self.repacked(weights.query)?,
                    key: self.repacked(weights.key)?,
                    value: self.repacked(weights.value)?,
                    output: self.projection(weights.output)?,
                    ..weights
                })))
            }
        }
    }

    /// A projection whose matrix was checked.
    pub(super) fn projection(&self, projection: Projection) -> Result<Projection> {
        Ok(Projection {
            matrix: self.repacked(projection.matrix)?,
            ..projection
        })
    }

    /// # Errors
    /// As [`Backend::mixer`](crate::Backend::mixer).
    pub(super) fn mix(
        &self,
        x: &mut CpuHidden,
        mixer: &CpuMixer,
        layer: usize,
        batch: &mut Batch<'_, CpuState>,
    ) -> Result<()> {
        let MixerWeights::Attention(weights) = &mixer.0;
        let queries = self.append(x, weights, layer, batch)?;
        let attended = self.timed(Part::Attention, || {
            self.attend(&queries, weights.heads, &attended(layer, batch)?)
        })?;
        drop(queries);
        let output = &weights.output;
        let a = self.prepare_owned(attended, output.norm.as_ref(), weights.activations)?;
        self.add_product(&a, &output.matrix, &mut x.rows)
    }

    /// The attention of the last row of a batch, for people to look at.
    ///
    /// # Errors
    /// As [`Backend::mixer`](crate::Backend::mixer).
    pub(super) fn attention_of_last(
        &self,
        mut x: CpuHidden,
        mixer: &CpuMixer,
        layer: usize,
        batch: &mut Batch<'_, CpuState>,
    ) -> Result<Vec<f32>> {
        let MixerWeights::Attention(weights) = &mixer.0;
        let queries = self.append(&mut x, weights, layer, batch)?;
        let spans = attended(layer, batch)?;
        super::attention_weights::of_last(&queries, weights.heads, &spans)
    }

    /// Projects the rows, rotates queries and keys, and writes keys and values into the states. Returns the queries.
    fn append(
        &self,
        x: &mut CpuHidden,
        weights: &AttentionWeights,
        layer: usize,
        batch: &mut Batch<'_, CpuState>,
    ) -> Result<Rows> {
        let a = self.prepare(&x.rows, weights.norm.as_ref(), weights.activations)?;
        let [mut q, mut k, v] = self.timed(Part::Matmul, || {
            self.linear(&a, [&weights.query, &weights.key, &weights.value])
        })?;
        drop(a);
        self.timed(Part::RopeAppend, || {
            let rotations = x.rotations(&self.pool, &weights.rope)?;
            let norms = weights.head_norms.as_ref();
            self.rotate(&mut q, norms.map(|[q, _]| q), weights.heads, rotations)?;
            self.rotate(&mut k, norms.map(|[_, k]| k), weights.heads, rotations)?;
            self.moved(Movement::Copy, 2 * size_of_val(&k.values[..]));
            let runs: Vec<_> = batch.runs().collect();
            for (span, run) in batch.spans_mut().iter_mut().zip(runs) {
                if span.state.heads(layer)? != weights.heads {
                    let heads = span.state.heads(layer)?;
                    return Err(shape_error(
                        "keys of a state",
                        weights.heads.kv_width(),
                        heads.kv_width(),
                    ));
                }
                let (keys, values) = (k.range(run.rows.clone()), v.range(run.rows));
                let by = (&self.threads, self.kernels);
                span.state.write(by, layer, keys, values)?;
            }
            Ok(())
        })?;
        Ok(q)
    }

    /// Norms each head of `rows` (if asked) and rotates it.
    pub(crate) fn rotate(
        &self,
        rows: &mut Rows,
        norm: Option<&NormWeights>,
        heads: AttentionHeads,
        rotations: &Rotations,
    ) -> Result<()> {
        let (width, work) = (rows.width, rows.values.len());
        let chunk = self.chunk(Operation::Elementwise, rows.tokens, 1, work);
        columns::chunks(
            &self.threads,
            &mut rows.values,
            chunk * width,
            |index, piece| {
                for (i, row) in piece.chunks_exact_mut(width).enumerate() {
                    for head in row.chunks_exact_mut(heads.dim) {
                        if let Some(norm) = norm {
                            (self.kernels.rms_norm)(head, &norm.weight, norm.eps);
                        }
                        rotations.apply(index * chunk + i, head);
                    }
                }
                Ok(())
            },
        )
    }

    /// Adds the product of `a` with `matrix` to `x`.
    pub(super) fn add_product(
        &self,
        a: &super::Activation,
        matrix: &WeightMatrix,
        x: &mut Rows,
    ) -> Result<()> {
        let [product] = self.timed(Part::Matmul, || self.linear(a, [matrix]))?;
        if product.width != x.width || product.tokens != x.tokens {
            return Err(shape_error(matrix.name(), x.width, product.width));
        }
        let (len, grain) = (product.values.len(), 1024);
        let chunk = self.chunk(Operation::Elementwise, len, grain, len);
        columns::chunks(&self.threads, &mut x.values, chunk, |index, piece| {
            (self.kernels.add)(piece, &product.values[index * chunk..][..piece.len()]);
            Ok(())
        })
    }
}

/// The keys and values that each span of a batch attends to.
fn attended<'a>(layer: usize, batch: &'a Batch<'_, CpuState>) -> Result<Vec<Attended<'a>>> {
    let spans = batch.spans().iter().zip(batch.runs());
    spans
        .map(|(span, run)| {
            Ok(Attended {
                keys_values: span.state.layer(layer)?,
                run,
            })
        })
        .collect()
}
