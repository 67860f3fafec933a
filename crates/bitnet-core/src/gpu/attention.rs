//! Mixers: projections, RoPE, append and attention of one sequence.
//!
//! One token that is attended to right away is rotated and appended by the kernel that attends.

use super::kernel::{HeadsPlace, Kernel, LEAST_PIECE, MOST_PIECES, TILE_QUERIES, TurnPlace};
use super::memory::GpuBuffer;
use super::product;
use super::recording::Recording;
use super::rotations::RopeTable;
use super::rows::{Activation, NormParams, Rows, Source, SplitKvPartials};
use super::scratch::Bound;
use super::state::GpuState;
use super::weights::Matrix;
use super::{GpuBackend, GpuHidden, REFUSED_BY};
use crate::sublayer::{rotating, without_output_norm};
use crate::{
    Activations, AttentionHeads, AttentionWeights, Error, MixerWeights, Result, Rope,
    SequenceState, Sublayer,
};
use std::sync::Arc;

/// The most fours of positions that a team reads at a time.
const MOST_FOURS: u32 = 4;
/// Tokens up to which each attends by itself.
const FEW: usize = 8;

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

    /// Refuses a state of other heads, and one that is not the batch's.
    fn check(&self, x: &GpuHidden, state: &GpuState) -> Result<()> {
        let first = x.recording.first;
        let room = first + x.recording.tokens;
        if state.heads == self.heads && state.len() == first && state.room() >= room {
            return Ok(());
        }
        Err(Error::Shape {
            what: "the state of a sequence".into(),
            expected: format!("{:?} and {first} positions, room for {room}", self.heads),
            found: format!(
                "{:?} and {} positions, room for {}",
                state.heads,
                state.len(),
                state.room()
            ),
        })
    }

    fn rope_append(
        &self,
        recording: &Recording,
        rows: [Rows; 3],
        table: Arc<RopeTable>,
        cache: Arc<GpuBuffer>,
    ) -> Result<RopeAppend<'_>> {
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
    /// q, k and v.
    rows: [Rows; 3],
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
        let [q, k, v] = self.rows.each_ref().map(Rows::bound);
        let [q_norm, k_norm] = self.norm_weights();
        let bound = [
            q,
            k,
            v,
            q_norm,
            k_norm,
            Bound::whole(&self.table.buffer),
            self.queries.bound(),
            Bound::whole(&self.cache),
        ];
        let heads = self.heads.query + self.heads.kv;
        let tokens = recording.tokens as u32;
        recording.dispatch(kernel, &bound, [heads, tokens, 1])
    }

    /// Attention of the queries to the positions up to their own.
    fn attend(&self, recording: &mut Recording) -> Result<Source> {
        if recording.tokens <= FEW {
            return self.attend_few(recording).map(Source::Partials);
        }
        self.dispatch(recording)?;
        let rows = Rows::new(recording, self.queries.place.cols as usize)?;
        let tiles = (recording.tokens as u32).div_ceil(TILE_QUERIES);
        let bound = [
            self.queries.bound(),
            Bound::whole(&self.cache),
            rows.bound(),
        ];
        let kernel = Kernel::AttendTile { heads: self.heads };
        recording.dispatch(kernel, &bound, [self.heads.query, tiles, 1])?;
        Ok(Source::Rows(rows))
    }

    /// Attention of each token by itself, over parts of the context.
    fn attend_few(&self, recording: &mut Recording) -> Result<SplitKvPartials> {
        let heads = self.heads;
        let tokens = recording.tokens as u32;
        let positions = recording.first as u32 + tokens;
        let piece = piece_of(positions);
        recording.uniform().piece = piece;
        let count = positions.div_ceil(piece);
        let bytes = (tokens * heads.query * count * (heads.dim4() + 1)) as usize * 16;
        let slot = recording.slot(bytes)?;
        let out = Bound::slot(&slot, bytes);
        let groups = [heads.query, tokens, count];
        // As many as the usual eight teams have of the smallest pieces.
        let fours = (piece / LEAST_PIECE).min(MOST_FOURS);
        let attend = |turn| Kernel::Attend { heads, fours, turn };
        let (q, cache) = (self.queries.bound(), Bound::whole(&self.cache));
        if tokens == 1 {
            let [q_norm, k_norm] = self.norm_weights();
            let bound = [
                self.rows[0].bound(),
                cache,
                out,
                q,
                q_norm,
                k_norm,
                Bound::whole(&self.table.buffer),
            ];
            recording.dispatch(attend(Some(self.rope)), &bound, groups)?;
        } else {
            self.dispatch(recording)?;
            recording.dispatch(attend(None), &[q, cache, out], groups)?;
        }
        Ok(SplitKvPartials { slot, bytes, heads })
    }
}

/// Positions of a part of the context, so that there are not too many parts.
fn piece_of(positions: u32) -> u32 {
    let mut piece = LEAST_PIECE;
    while positions.div_ceil(piece) > MOST_PIECES {
        piece *= 2;
    }
    piece
}

impl GpuBackend {
    /// # Errors
    /// As [`Backend::mixer`](crate::Backend::mixer).
    pub(super) fn mix(
        &self,
        x: &mut GpuHidden,
        mixer: &GpuMixer,
        layer: usize,
        state: &GpuState,
    ) -> Result<()> {
        mixer.check(x, state)?;
        let rows = mixer.project(x)?;
        let table = self.rope_table(x, &mixer.rope)?;
        let recording = &mut x.recording;
        let append = mixer.rope_append(recording, rows, table, state.layer(layer)?)?;
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
        state: &GpuState,
    ) -> Result<Rows> {
        mixer.check(x, state)?;
        let rows = mixer.project(x)?;
        let table = self.rope_table(x, &mixer.rope)?;
        let append = mixer.rope_append(&x.recording, rows, table, state.layer(layer)?)?;
        append.dispatch(&mut x.recording)?;
        Ok(append.queries)
    }

    /// The rotations of a model's positions, at least those of the batch.
    fn rope_table(&self, x: &mut GpuHidden, rope: &Rope) -> Result<Arc<RopeTable>> {
        if let Some(table) = &x.rope_table
            && table.rope == *rope
        {
            return Ok(Arc::clone(table));
        }
        let end = x.recording.first.saturating_add(x.recording.tokens);
        let table = self.rotations.get(&self.gpu, &self.pool, rope, end)?;
        x.rope_table = Some(Arc::clone(&table));
        Ok(table)
    }
}
