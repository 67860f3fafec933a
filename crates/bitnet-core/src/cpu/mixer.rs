//! Mixers: softmax attention, from the norm of its input to the sum with its output.

use super::activations::Preparation;
use super::attention::Attended;
use super::clock::Part;
use super::tuning::Operation;
use super::{CpuBackend, CpuHidden, CpuState, Rotations, Rows, columns, shape_error};
use crate::pool::Movement;
use crate::{
    Activations, AttentionHeads, AttentionWeights, Batch, DeltaNetWeights, Error, MixerWeights,
    NormWeights, Projection, Result, Sublayer, WeightMatrix,
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
                    query: self.projection(weights.query)?,
                    key: self.projection(weights.key)?,
                    value: self.projection(weights.value)?,
                    output: self.projection(weights.output)?,
                    ..weights
                })))
            }
            MixerWeights::DeltaNet(weights) => {
                weights.check()?;
                Ok(CpuMixer(MixerWeights::DeltaNet(DeltaNetWeights {
                    mixed: self.projection(weights.mixed)?,
                    gate: self.projection(weights.gate)?,
                    rate: self.projection(weights.rate)?,
                    decay: self.projection(weights.decay)?,
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
        if x.rows.tokens != batch.rows() {
            return Err(shape_error("rows of a batch", batch.rows(), x.rows.tokens));
        }
        match &mixer.0 {
            MixerWeights::Attention(weights) => self.attention(x, weights, layer, batch),
            MixerWeights::DeltaNet(weights) => {
                self.delta_net(x, weights, layer, batch)?;
                match narrows(layer, batch) {
                    true => x.narrow(&self.pool, batch),
                    false => Ok(()),
                }
            }
        }
    }

    /// Softmax attention. Of the last layer's rows only those whose outputs are requested attend, and are left: of the others
    /// nothing is needed but keys and values.
    fn attention(
        &self,
        x: &mut CpuHidden,
        weights: &AttentionWeights,
        layer: usize,
        batch: &mut Batch<'_, CpuState>,
    ) -> Result<()> {
        let (queries, gates) = if narrows(layer, batch) {
            let [k, v] = self.projected(x, weights, [&weights.key, &weights.value])?;
            self.append(x, [k, v], weights, layer, batch)?;
            x.narrow(&self.pool, batch)?;
            if x.rows.tokens == 0 {
                return Ok(());
            }
            let [q] = self.projected(x, weights, [&weights.query])?;
            self.queries(x, q, weights)?
        } else {
            self.append_all(x, weights, layer, batch)?
        };
        let mut attended = self.timed(Part::Attention, || {
            self.attend(&queries, weights.heads, &attended(x, layer, batch)?)
        })?;
        drop(queries);
        if let Some(gates) = gates {
            self.timed(Part::Gate, || self.open(&mut attended, &gates))?;
        }
        let output = &weights.output;
        let a = self.prepare_owned(attended, Preparation::of(output, weights.activations))?;
        self.add_product(
            &a,
            &output.matrix,
            weights.output_norm.as_ref(),
            &mut x.rows,
        )
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
        let MixerWeights::Attention(weights) = &mixer.0 else {
            return Err(Error::Unavailable {
                what: format!("attention of layer {layer}"),
                why: "the layer is a delta net, which keeps no positions to attend to".into(),
            });
        };
        let (queries, _) = self.append_all(&mut x, weights, layer, batch)?;
        let spans = attended(&x, layer, batch)?;
        super::attention_weights::of_last(&queries, weights.heads, &spans)
    }

    /// Projects the rows and [appends](Self::append) their keys and values. Returns the [queries](Self::queries).
    fn append_all(
        &self,
        x: &mut CpuHidden,
        weights: &AttentionWeights,
        layer: usize,
        batch: &mut Batch<'_, CpuState>,
    ) -> Result<(Rows, Option<Rows>)> {
        let projections = [&weights.query, &weights.key, &weights.value];
        let [q, k, v] = self.projected(x, weights, projections)?;
        self.append(x, [k, v], weights, layer, batch)?;
        self.queries(x, q, weights)
    }

    /// [`project`](Self::project) of the rows before attention.
    fn projected<const N: usize>(
        &self,
        x: &CpuHidden,
        weights: &AttentionWeights,
        projections: [&Projection; N],
    ) -> Result<[Rows; N]> {
        let norm = weights.norm.as_ref();
        self.project(&x.rows, norm, weights.activations, projections)
    }

    /// Rotated queries of projected ones, and their gates if there are any.
    fn queries(
        &self,
        x: &mut CpuHidden,
        mut q: Rows,
        weights: &AttentionWeights,
    ) -> Result<(Rows, Option<Rows>)> {
        let mut gates = None;
        if weights.gated {
            let [queries, own_gates] = self.split_heads(&q, weights.heads.dim)?;
            (q, gates) = (queries, Some(own_gates));
        }
        let norms = weights.head_norms.as_ref();
        self.timed(Part::RopeAppend, || {
            self.turn(x, &mut q, norms.map(|[q, _]| q), weights)
        })?;
        Ok((q, gates))
    }

    /// Rotates projected keys, and writes them and values into the states.
    fn append(
        &self,
        x: &mut CpuHidden,
        [mut k, v]: [Rows; 2],
        weights: &AttentionWeights,
        layer: usize,
        batch: &mut Batch<'_, CpuState>,
    ) -> Result<()> {
        self.timed(Part::RopeAppend, || {
            let norms = weights.head_norms.as_ref();
            self.turn(x, &mut k, norms.map(|[_, k]| k), weights)?;
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
                span.state.check_window(layer, weights.window)?;
                let (keys, values) = (k.range(run.rows.clone()), v.range(run.rows));
                let by = (&self.threads, self.kernels);
                span.state.write(by, layer, keys, values)?;
            }
            Ok(())
        })
    }

    /// Norms and rotates the heads of `rows`, which are at the positions of `x`.
    fn turn(
        &self,
        x: &mut CpuHidden,
        rows: &mut Rows,
        norm: Option<&NormWeights>,
        weights: &AttentionWeights,
    ) -> Result<()> {
        let rope = weights.rope.as_ref();
        let rotations = rope.map(|rope| x.rotations(&self.pool, rope)).transpose()?;
        self.rotate(rows, norm, weights.heads, rotations)
    }

    /// Rows whose heads of `dim` columns come in pairs, as the first ones and the second ones of all pairs.
    fn split_heads(&self, rows: &Rows, dim: usize) -> Result<[Rows; 2]> {
        let width = rows.width / 2;
        let mut first = Rows::new(&self.pool, rows.tokens, width)?;
        let mut second = Rows::new(&self.pool, rows.tokens, width)?;
        self.moved(Movement::Copy, size_of_val(&rows.values[..]));
        let heads = first
            .values
            .chunks_exact_mut(dim)
            .zip(second.values.chunks_exact_mut(dim));
        for (pair, (first, second)) in rows.values.chunks_exact(2 * dim).zip(heads) {
            let (one, two) = pair.split_at(dim);
            first.copy_from_slice(one);
            second.copy_from_slice(two);
        }
        Ok([first, second])
    }

    /// Multiplies `x` by the sigmoid of `gates`.
    fn open(&self, x: &mut Rows, gates: &Rows) -> Result<()> {
        if (x.width, x.tokens) != (gates.width, gates.tokens) {
            return Err(shape_error("gates of attention", x.width, gates.width));
        }
        let (len, grain) = (x.values.len(), 1024);
        let chunk = self.chunk(Operation::Elementwise, len, grain, len);
        columns::chunks(&self.threads, &mut x.values, chunk, |index, piece| {
            (self.kernels.open)(piece, &gates.values[index * chunk..][..piece.len()]);
            Ok(())
        })
    }

    /// Norms each head of `rows` and rotates it (if asked).
    pub(crate) fn rotate(
        &self,
        rows: &mut Rows,
        norm: Option<&NormWeights>,
        heads: AttentionHeads,
        rotations: Option<&Rotations>,
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
                        if let Some(rotations) = rotations {
                            rotations.apply(index * chunk + i, head);
                        }
                    }
                }
                Ok(())
            },
        )
    }

    /// The products of the rows of `x`, normed, with some projections, of which each may norm them again.
    pub(super) fn project<const N: usize>(
        &self,
        x: &Rows,
        norm: Option<&NormWeights>,
        activations: Activations,
        projections: [&Projection; N],
    ) -> Result<[Rows; N]> {
        let first = projections[0];
        if projections.iter().all(|other| first.shares_rows(other)) {
            let preparation = Preparation {
                norm,
                ..Preparation::of(first, activations)
            };
            let a = self.prepare(x, preparation)?;
            let matrices = projections.map(|projection| &projection.matrix);
            return self.timed(Part::Matmul, || self.linear(&a, matrices));
        }
        let normed = self.prepare(x, Preparation::norm(norm))?.rows;
        let mut products = [(); N].map(|()| None);
        for (place, projection) in projections.into_iter().enumerate() {
            if products[place].is_some() {
                continue;
            }
            let a = self.prepare(&normed, Preparation::of(projection, activations))?;
            // Later ones that multiply the same rows.
            let together: Vec<usize> = (place..N)
                .filter(|other| *other == place || projection.shares_rows(projections[*other]))
                .collect();
            let matrices: Vec<_> = together
                .iter()
                .map(|place| &projections[*place].matrix)
                .collect();
            let found = self.timed(Part::Matmul, || self.linear_all(&a, &matrices))?;
            for (place, product) in together.into_iter().zip(found) {
                products[place] = Some(product);
            }
        }
        let found: Vec<Rows> = products.into_iter().flatten().collect();
        found
            .try_into()
            .map_err(|products: Vec<Rows>| shape_error("products", N, products.len()))
    }

    /// Adds the product of `a` with `matrix`, normed, to `x`.
    pub(super) fn add_product(
        &self,
        a: &super::Activation,
        matrix: &WeightMatrix,
        norm: Option<&NormWeights>,
        x: &mut Rows,
    ) -> Result<()> {
        let [mut product] = self.timed(Part::Matmul, || self.linear(a, [matrix]))?;
        if let Some(norm) = norm {
            self.timed(Part::NormQuantize, || self.norm(&mut product, norm))?;
        }
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

/// Whether rows can be [narrowed](CpuHidden::narrow) in a layer: it is the last one, and not every row's outputs are
/// requested.
fn narrows(layer: usize, batch: &Batch<'_, CpuState>) -> bool {
    let mut spans = batch.spans().iter();
    spans.all(|span| span.state.is_last(layer))
        && batch
            .requested_runs()
            .map(|run| run.rows.len())
            .sum::<usize>()
            < batch.rows()
}

/// The keys and values that the rows of each span attend to.
fn attended<'a>(
    x: &CpuHidden,
    layer: usize,
    batch: &'a Batch<'_, CpuState>,
) -> Result<Vec<Attended<'a>>> {
    let spans = batch.spans().iter().zip(x.runs(batch));
    spans
        .filter(|(_, run)| !run.rows.is_empty())
        .map(|(span, run)| {
            Ok(Attended {
                keys_values: span.state.layer(layer)?,
                run,
            })
        })
        .collect()
}
