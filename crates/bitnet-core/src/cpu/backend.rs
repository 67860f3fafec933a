//! [`Backend`] for [`CpuBackend`].

use super::clock::Part;
use super::{
    CpuBackend, CpuEmbedding, CpuFeedForward, CpuLmHead, CpuMixer, CpuState, Rotations, Rows,
};
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
}

impl CpuHidden {
    /// The rows, `[rows, hidden]`.
    pub fn values(&self) -> &[f32] {
        &self.rows.values
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
        let outputs = self.timed(Part::Head, || self.outputs_of(&x.rows, head, batch))?;
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
