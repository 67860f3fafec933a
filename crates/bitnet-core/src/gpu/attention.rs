//! Mixers: projections, RoPE, append and attention of the sequences of a batch.
//!
//! Where every sequence has one token, it is rotated and appended by the kernel that attends.

use super::kernel::{HeadsPlace, Kernel, TurnPlace};
use super::memory::GpuBuffer;
use super::product;
use super::recording::Recording;
use super::rotations::RopeTable;
use super::rows::{Activation, NormParams, Rows, Source, SplitKvPartials};
use super::scratch::Bound;
use super::spans::Spans;
use super::weights::Matrix;
use super::{GpuBackend, GpuHidden, GpuState, REFUSED_BY};
use crate::batch::Batch;
use crate::sublayer::{rotating, without_output_norm};
use crate::{
    Activations, AttentionHeads, AttentionWeights, Error, MixerWeights, Result, Rope, Sublayer,
};
use std::sync::Arc;

/// A mixer on the GPU.
pub struct GpuMixer {
    heads: AttentionHeads,
    place: HeadsPlace,
    rope: Rope,
    activations: Activations,
    norm: Option<NormParams>,
    /// Query, key and value.
    projections: [Matrix; 3],
    head_norms: Option<[NormParams; 2]>,
    output_norm: Option<NormParams>,
    output: Matrix,
}

impl std::fmt::Debug for GpuMixer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuMixer")
            .field("heads", &self.heads)
            .field("projections", &self.projections)
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}

impl Sublayer for GpuMixer {
    fn bytes(&self) -> usize {
        let projections = self.projections.iter().map(Matrix::bytes);
        projections.sum::<usize>() + self.output.bytes()
    }
}

impl GpuMixer {
    /// Brings a mixer to the device.
    ///
    /// # Errors
    /// As [`Backend::load_mixer`](crate::Backend::load_mixer).
    pub(super) fn new(backend: &GpuBackend, weights: MixerWeights) -> Result<Self> {
        let weights = weights.into_attention(REFUSED_BY)?;
        weights.check()?;
        let AttentionWeights {
            heads,
            rope,
            activations,
            norm,
            query,
            key,
            value,
            head_norms,
            output,
            output_norm,
            gated: _,
            window: _,
        } = weights;
        let rope = rotating(rope, query.matrix.name(), REFUSED_BY)?;
        activations.without_groups(REFUSED_BY)?;
        output.without_rotation(REFUSED_BY)?;
        without_output_norm(output_norm.as_ref(), REFUSED_BY)?;
        let norms = |norms: [crate::NormWeights; 2]| {
            let [q, k] = norms;
            Ok::<_, Error>([backend.norm(q)?, backend.norm(k)?])
        };
        Ok(Self {
            heads,
            place: super::state::heads_place(&backend.gpu, heads),
            rope,
            activations,
            norm: norm.map(|norm| backend.norm(norm)).transpose()?,
            projections: [
                backend.matrix(&query.plain_matrix(REFUSED_BY)?)?,
                backend.matrix(&key.plain_matrix(REFUSED_BY)?)?,
                backend.matrix(&value.plain_matrix(REFUSED_BY)?)?,
            ],
            head_norms: head_norms.map(norms).transpose()?,
            output_norm: output.norm.map(|norm| backend.norm(norm)).transpose()?,
            output: backend.matrix(&output.matrix)?,
        })
    }

    /// Query, key and value rows of `x`.
    fn project(&self, x: &mut GpuHidden) -> Result<[Rows; 3]> {
        let [query, key, value] = &self.projections;
        x.check_width(query)?;
        let source = Source::Rows(x.rows.clone());
        let mut a = Activation::new(source, self.norm.clone(), self.activations);
        product::all(&mut x.recording, &mut a, [query, key, value])
    }

    /// Refuses states of other heads, and those that are not the batch's.
    fn check(&self, x: &GpuHidden, batch: &Batch<'_, GpuState>) -> Result<()> {
        x.spans.check(batch)?;
        match batch.spans().iter().find(|s| s.state.heads != self.heads) {
            None => Ok(()),
            Some(span) => Err(Error::Shape {
                what: "the state of a sequence".into(),
                expected: format!("{:?}", self.heads),
                found: format!("{:?}", span.state.heads),
            }),
        }
    }

    fn rope_append<'a>(
        &'a self,
        recording: &Recording,
        spans: &'a Spans,
        rows: [Rows; 3],
        table: Arc<RopeTable>,
        cache: Arc<GpuBuffer>,
    ) -> Result<RopeAppend<'a>> {
        Ok(RopeAppend {
            heads: self.place,
            rope: TurnPlace {
                half: table.half as u32,
                interleaved: table.interleaved,
                rows: rows.each_ref().map(|rows| rows.place),
                eps: self
                    .head_norms
                    .as_ref()
                    .map(|norms| norms.each_ref().map(|norm| norm.eps.to_bits())),
            },
            rows,
            spans,
            norms: self.head_norms.as_ref(),
            table,
            cache,
            queries: Rows::new(recording, self.heads.query_width())?,
        })
    }
}

/// Queries to be rotated, keys to be rotated and appended, and values to be appended.
struct RopeAppend<'a> {
    heads: HeadsPlace,
    rope: TurnPlace,
    /// q, k and v, side by side in one slot.
    rows: [Rows; 3],
    spans: &'a Spans,
    norms: Option<&'a [NormParams; 2]>,
    table: Arc<RopeTable>,
    cache: Arc<GpuBuffer>,
    /// The place of the rotated queries.
    queries: Rows,
}

impl RopeAppend<'_> {
    fn norm_weights(&self) -> [Bound<'_>; 2] {
        match self.norms {
            Some(norms) => norms.each_ref().map(|norm| Bound::whole(&norm.weight)),
            None => [self.rows[0].bound(); 2],
        }
    }

    /// Does it by a kernel of its own.
    ///
    /// # Errors
    /// As [`Recording::dispatch`].
    fn dispatch(&self, recording: &mut Recording) -> Result<()> {
        let kernel = Kernel::Rope {
            heads: self.heads,
            turn: self.rope,
        };
        let [q_norm, k_norm] = self.norm_weights();
        let bound = [
            self.rows[0].bound(),
            q_norm,
            k_norm,
            Bound::whole(&self.table.buffer),
            self.queries.bound(),
            Bound::whole(&self.cache),
            self.spans.places(),
        ];
        let heads = self.heads.query + self.heads.kv;
        let tokens = recording.tokens as u32;
        recording.dispatch(kernel, &bound, [heads, tokens, 1])
    }

    /// Attention of the queries to the positions up to their own.
    fn attend(&self, recording: &mut Recording) -> Result<Source> {
        if !self.spans.single {
            self.dispatch(recording)?;
        }
        let few = self.spans.few();
        if few == recording.tokens {
            let partials = self.attend_few(recording)?;
            return if self.spans.are_long() {
                partials.merge(recording).map(Source::Rows)
            } else {
                Ok(Source::Partials(partials))
            };
        }
        let rows = Rows::new(recording, self.queries.place.cols as usize)?;
        if few > 0 {
            self.attend_few(recording)?
                .merge_into(recording, &rows, few)?;
        }
        let bound = [
            self.queries.bound(),
            Bound::whole(&self.cache),
            rows.bound(),
            self.spans.places(),
        ];
        let kernel = Kernel::AttendTile { heads: self.heads };
        let turns = self.heads.tile_turns(recording.gpu.lanes);
        let groups = [self.heads.query, self.spans.tiles as u32, turns];
        recording.dispatch(kernel, &bound, groups)?;
        Ok(Source::Rows(rows))
    }

    /// Attention of rows one by one, over parts of their contexts.
    fn attend_few(&self, recording: &mut Recording) -> Result<SplitKvPartials> {
        let heads = self.heads;
        let (few, pieces) = (self.spans.few() as u32, self.spans.pieces as u32);
        let bytes = (few * heads.query * pieces * (heads.dim4() + 1)) as usize * 16;
        let slot = recording.slot(bytes)?;
        let (out, cache) = (Bound::slot(&slot, bytes), Bound::whole(&self.cache));
        let places = self.spans.places();
        let turn = self.spans.single.then_some(self.rope);
        for (class, rows) in (0..).zip(&self.spans.classes) {
            let kernel = Kernel::Attend { heads, class, turn };
            let groups = [heads.query, rows.len() as u32, pieces];
            if turn.is_some() {
                let [q_norm, k_norm] = self.norm_weights();
                let table = Bound::whole(&self.table.buffer);
                let x = self.rows[0].bound();
                let bound = [x, cache, out, places, q_norm, k_norm, table];
                recording.dispatch(kernel, &bound, groups)?;
            } else {
                let bound = [self.queries.bound(), cache, out, places];
                recording.dispatch(kernel, &bound, groups)?;
            }
        }
        Ok(SplitKvPartials { slot, bytes, heads })
    }
}

impl GpuBackend {
    /// # Errors
    /// As [`Backend::mixer`](crate::Backend::mixer).
    pub(super) fn mix(
        &self,
        x: &mut GpuHidden,
        mixer: &GpuMixer,
        layer: usize,
        batch: &Batch<'_, GpuState>,
    ) -> Result<()> {
        let (spans, cache) = self.begin(x, mixer, layer, batch)?;
        let rows = mixer.project(x)?;
        let table = self.rope_table(x, &mixer.rope)?;
        let recording = &mut x.recording;
        let append = mixer.rope_append(recording, &spans, rows, table, cache)?;
        let attended = append.attend(recording)?;
        let mut a = Activation::new(attended, mixer.output_norm.clone(), mixer.activations);
        x.rows = product::added(recording, &mut a, &mixer.output, &x.rows)?;
        Ok(())
    }

    /// Rotated queries of a batch, whose keys are in the cache; for a look at the attention.
    pub(super) fn queries(
        &self,
        x: &mut GpuHidden,
        mixer: &GpuMixer,
        layer: usize,
        batch: &Batch<'_, GpuState>,
    ) -> Result<Rows> {
        let (spans, cache) = self.begin(x, mixer, layer, batch)?;
        let rows = mixer.project(x)?;
        let table = self.rope_table(x, &mixer.rope)?;
        let append = mixer.rope_append(&x.recording, &spans, rows, table, cache)?;
        append.dispatch(&mut x.recording)?;
        Ok(append.queries)
    }

    /// The rows of a batch that is for `mixer`, and the keys and values of `layer`.
    fn begin(
        &self,
        x: &GpuHidden,
        mixer: &GpuMixer,
        layer: usize,
        batch: &Batch<'_, GpuState>,
    ) -> Result<(Arc<Spans>, Arc<GpuBuffer>)> {
        mixer.check(x, batch)?;
        let spans = Arc::clone(&x.spans);
        let cache = match &spans.slab {
            Some(slab) => Arc::clone(slab.layer(layer)?),
            None => {
                return Err(Error::Shape {
                    what: "KV cache".into(),
                    expected: "room for the batch".into(),
                    found: "none".into(),
                });
            }
        };
        Ok((spans, cache))
    }

    /// The rotations of a model's positions, at least those of the batch.
    fn rope_table(&self, x: &mut GpuHidden, rope: &Rope) -> Result<Arc<RopeTable>> {
        if let Some(table) = &x.rope_table
            && table.rope == *rope
        {
            return Ok(Arc::clone(table));
        }
        let table = self
            .rotations
            .get(&self.gpu, &self.pool, rope, x.spans.end)?;
        x.rope_table = Some(Arc::clone(&table));
        Ok(table)
    }
}
