//! [`Backend`] for [`CpuBackend`].

use super::clock::Part;
use super::{
    CpuBackend, CpuEmbedding, CpuFeedForward, CpuLmHead, CpuMixer, CpuState, Rotations, Rows,
};
use crate::batch::Run;
use crate::{
    Backend, Batch, FeedForwardWeights, HybridMemoryPool, Inspection, KvType, MixerState,
    MixerWeights, Output, Pending, Result, Rope, Snapshots, VocabularyWeights, WarmUp,
};

/// Rows of a batch, and the rotations of their positions.
#[derive(Debug)]
pub struct CpuHidden {
    pub(super) rows: Rows,
    positions: Vec<usize>,
    /// Made when the first layer with its RoPE needs them; most models have one.
    rotations: Vec<(Rope, Rotations)>,
    /// Whether only the rows with requested outputs are left.
    is_narrowed: bool,
}

impl CpuHidden {
    /// The rows, `[rows, hidden]`: those of the whole batch, or behind the mixer of the last layer only those whose outputs
    /// are requested.
    pub fn values(&self) -> &[f32] {
        &self.rows.values
    }

    /// Keeps only the rows whose outputs are requested: no layer comes that needs the others.
    pub(super) fn narrow(
        &mut self,
        pool: &HybridMemoryPool,
        batch: &Batch<'_, CpuState>,
    ) -> Result<()> {
        let kept = batch.requested_runs().flat_map(|run| run.rows);
        let kept: Vec<usize> = kept.collect();
        let width = self.rows.width;
        let mut rows = Rows::new(pool, kept.len(), width)?;
        for (out, row) in rows.values.chunks_exact_mut(width).zip(&kept) {
            out.copy_from_slice(self.rows.range(*row..row + 1));
        }
        self.rows = rows;
        self.positions = kept.iter().map(|row| self.positions[*row]).collect();
        self.rotations.clear();
        self.is_narrowed = true;
        Ok(())
    }

    /// The rows of each span, as far as they are left here.
    pub(super) fn runs(&self, batch: &Batch<'_, CpuState>) -> Vec<Run> {
        match self.is_narrowed {
            true => self.requested_runs(batch),
            false => batch.runs().collect(),
        }
    }

    /// The rows of each span whose outputs are requested, as they lie here.
    pub(super) fn requested_runs(&self, batch: &Batch<'_, CpuState>) -> Vec<Run> {
        let mut runs: Vec<Run> = batch.requested_runs().collect();
        if self.is_narrowed {
            let mut start = 0;
            for run in &mut runs {
                run.rows = start..start + run.rows.len();
                start = run.rows.end;
            }
        }
        runs
    }

    /// The rotations of the batch's positions.
    pub(super) fn rotations(&mut self, pool: &HybridMemoryPool, rope: &Rope) -> Result<&Rotations> {
        let place = match self.rotations.iter().position(|(known, _)| known == rope) {
            Some(place) => place,
            None => {
                let positions = &self.positions;
                let new = Rotations::new(pool, rope, positions.len(), |row| positions[row])?;
                self.rotations.push((rope.clone(), new));
                self.rotations.len() - 1
            }
        };
        Ok(&self.rotations[place].1)
    }
}

impl Backend for CpuBackend {
    type Embedding = CpuEmbedding;
    type Mixer = CpuMixer;
    type FeedForward = CpuFeedForward;
    type LmHead = CpuLmHead;
    type Hidden = CpuHidden;
    type State = CpuState;

    fn describe(&self) -> String {
        let threads = self.threads();
        format!(
            "cpu ({}, {threads} thread{})",
            self.isa,
            if threads == 1 { "" } else { "s" }
        )
    }

    fn pool(&self) -> &HybridMemoryPool {
        &self.pool
    }

    fn scope<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.threads.enter(work)
    }

    fn load_vocabulary(&self, weights: VocabularyWeights) -> Result<(CpuEmbedding, CpuLmHead)> {
        self.vocabulary_of(weights)
    }

    fn load_mixer(&self, weights: MixerWeights) -> Result<CpuMixer> {
        self.mixer_of(weights)
    }

    fn load_feed_forward(&self, weights: FeedForwardWeights) -> Result<CpuFeedForward> {
        self.feed_forward_of(weights)
    }

    fn kv_types(&self) -> &'static [KvType] {
        &KvType::ALL
    }

    fn state(
        &self,
        layers: &[MixerState],
        capacity: usize,
        kv: Option<KvType>,
    ) -> Result<CpuState> {
        let kv = KvType::choose(kv, self.kv_types(), "the CPU")?;
        CpuState::new(&self.pool, layers, capacity, kv)
    }

    fn fork(&self, state: &CpuState, len: usize) -> Result<CpuState> {
        Ok(state.fork(len))
    }

    fn embed(
        &self,
        embedding: &CpuEmbedding,
        batch: &mut Batch<'_, CpuState>,
    ) -> Result<CpuHidden> {
        let rows = self.timed(Part::Embed, || self.look_up(embedding, batch))?;
        for span in batch.spans_mut() {
            span.state.reserve(span.input.len())?;
        }
        Ok(CpuHidden {
            rows,
            positions: batch.positions(),
            rotations: Vec::new(),
            is_narrowed: false,
        })
    }

    fn mixer(
        &self,
        x: &mut CpuHidden,
        mixer: &CpuMixer,
        layer: usize,
        batch: &mut Batch<'_, CpuState>,
    ) -> Result<()> {
        self.mix(x, mixer, layer, batch)
    }

    fn feed_forward(&self, x: &mut CpuHidden, feed_forward: &CpuFeedForward) -> Result<()> {
        self.feed(x, feed_forward)
    }

    fn outputs(
        &self,
        x: CpuHidden,
        head: &CpuLmHead,
        batch: &mut Batch<'_, CpuState>,
    ) -> Result<Pending<Vec<Output>>> {
        let outputs = self.timed(Part::Head, || self.outputs_of(&x, head, batch))?;
        for span in batch.spans_mut() {
            span.state.advance(span.input.len());
        }
        Ok(Pending::ready(outputs))
    }

    fn max_spans(&self) -> usize {
        usize::MAX
    }

    fn shares_forks(&self) -> bool {
        true
    }

    fn supports_lookahead(&self) -> bool {
        false
    }

    fn warm_up(&self) -> Option<&dyn WarmUp<Self>> {
        None
    }

    fn inspection(&self) -> Option<&dyn Inspection<Self>> {
        Some(self)
    }

    fn snapshots(&self) -> Option<&dyn Snapshots<Self>> {
        Some(self)
    }
}

impl Inspection<Self> for CpuBackend {
    fn attention_weights(
        &self,
        x: CpuHidden,
        mixer: &CpuMixer,
        layer: usize,
        batch: &mut Batch<'_, CpuState>,
    ) -> Result<Vec<f32>> {
        self.attention_of_last(x, mixer, layer, batch)
    }
}

impl Snapshots<Self> for CpuBackend {
    fn read_layer(&self, state: &CpuState, layer: usize) -> Result<[Vec<f32>; 2]> {
        state.rows(layer)
    }

    fn write_layer(
        &self,
        state: &mut CpuState,
        layer: usize,
        keys: &[f32],
        values: &[f32],
    ) -> Result<()> {
        if state.is_recurrent(layer) {
            state.reserve(0)?;
            return state.write_recurrent(layer, keys, values);
        }
        let width = state.heads(layer)?.kv_width();
        state.reserve(keys.len() / width)?;
        state.write((&self.threads, self.kernels), layer, keys, values)
    }

    fn complete(&self, state: &mut CpuState, positions: usize) -> Result<()> {
        if positions > 0 {
            state.reserve(positions)?;
            state.complete(positions);
        }
        Ok(())
    }
}
