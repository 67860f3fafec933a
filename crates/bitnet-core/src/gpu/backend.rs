//! [`Backend`] for [`GpuBackend`].

use super::kernel::Kernel;
use super::lanes::Lanes;
use super::recording::Recording;
use super::rows::Rows;
use super::scratch::Bound;
use super::scratch::Scratch;
use super::{
    GpuBackend, GpuEmbedding, GpuFeedForward, GpuHidden, GpuLmHead, GpuMixer, GpuState,
    attention_weights, row_place,
};
use crate::{
    Backend, Batch, Error, FeedForwardWeights, HybridMemoryPool, Input, Inspection, KvType,
    MixerState, MixerWeights, Output, Pending, Result, SequenceState, Snapshots, VocabularyWeights,
    WarmUp,
};
use std::sync::Arc;

/// Name of the backend in errors.
const NAME: &str = "the GPU";

impl GpuBackend {
    /// Makes room for the tokens of a batch behind the positions of `state`.
    fn reserve(&self, state: &mut GpuState, tokens: usize) -> Result<()> {
        let first = state.len();
        let mut growth = Recording::new(&self.gpu, &state.scratch, (first, tokens), state.room());
        state.reserve(&self.gpu, first + tokens, &mut growth)?;
        // At once, so that a batch which is given up does not leave new buffers empty.
        if !growth.is_empty() {
            growth.submit()?;
        }
        Ok(())
    }
}

impl Backend for GpuBackend {
    type Embedding = GpuEmbedding;
    type Mixer = GpuMixer;
    type FeedForward = GpuFeedForward;
    type LmHead = GpuLmHead;
    type Hidden = GpuHidden;
    type State = GpuState;

    fn describe(&self) -> String {
        let Lanes {
            size, subgroups, ..
        } = self.gpu.lanes;
        let lanes = if subgroups {
            format!("subgroups of {size}")
        } else {
            "no subgroups".into()
        };
        let adapter = &self.gpu.summary;
        format!(
            "{} ({}, {}, {lanes})",
            self.gpu.driver.name(),
            adapter.name,
            adapter.backend
        )
    }

    fn pool(&self) -> &HybridMemoryPool {
        &self.pool
    }

    fn scope<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        work()
    }

    fn load_vocabulary(&self, weights: VocabularyWeights) -> Result<(GpuEmbedding, GpuLmHead)> {
        self.vocabulary(weights)
    }

    fn load_mixer(&self, weights: MixerWeights) -> Result<GpuMixer> {
        GpuMixer::new(self, weights)
    }

    fn load_feed_forward(&self, weights: FeedForwardWeights) -> Result<GpuFeedForward> {
        GpuFeedForward::new(self, weights)
    }

    fn kv_types(&self) -> &'static [KvType] {
        if self.gpu.half_cache {
            &[KvType::F16]
        } else {
            &[KvType::F32]
        }
    }

    fn state(
        &self,
        layers: &[MixerState],
        capacity: usize,
        kv: Option<KvType>,
    ) -> Result<GpuState> {
        // It was chosen when the device was opened.
        KvType::choose(kv, self.kv_types(), "this GPU, as it was opened,")?;
        let scratch = Arc::new(Scratch::new(&self.gpu, false)?);
        GpuState::new(&self.gpu, layers, capacity, scratch)
    }

    fn fork(&self, state: &GpuState, len: usize) -> Result<GpuState> {
        state.fork(&self.gpu, len)
    }

    fn embed(
        &self,
        embedding: &GpuEmbedding,
        batch: &mut Batch<'_, GpuState>,
    ) -> Result<GpuHidden> {
        let table = &embedding.0;
        batch.check_tokens(table.rows)?;
        let span = batch.single(NAME)?;
        let tokens = span.input.len();
        if span.input == Input::LastArgmax && !span.state.has_last_argmax() {
            return Err(Error::Unavailable {
                what: "the last argmax".into(),
                why: "no likeliest token was found in this sequence yet".into(),
            });
        }
        self.reserve(span.state, tokens)?;
        let (state, first) = (&*span.state, span.state.len());
        let mut recording =
            Recording::new(&self.gpu, &state.scratch, (first, tokens), state.room());
        let rows = Rows {
            slot: recording.slot(tokens * table.cols * 4)?,
            bytes: tokens * table.cols * 4,
            place: row_place(table.cols, table.cols),
        };
        let listed = match span.input {
            Input::Tokens(tokens) => Some(recording.input(bytemuck::cast_slice(tokens).to_vec())?),
            Input::LastArgmax => None,
        };
        let ids = match &listed {
            Some(listed) => Bound::slot(listed, tokens * 4),
            None => Bound::whole(&state.last_argmax),
        };
        for shard in &table.shards {
            let kernel = Kernel::Embed {
                table: table.place(shard),
                first: shard.first as u32,
                out_stride: table.cols as u32,
            };
            let weights = Bound::whole(&shard.buffer);
            let bound = [weights, weights, weights, ids, rows.bound()];
            recording.dispatch(kernel, &bound, [tokens as u32, 1, 1])?;
        }
        Ok(GpuHidden {
            recording,
            rows,
            rope_table: None,
        })
    }

    fn mixer(
        &self,
        x: &mut GpuHidden,
        mixer: &GpuMixer,
        layer: usize,
        batch: &mut Batch<'_, GpuState>,
    ) -> Result<()> {
        self.mix(x, mixer, layer, batch.single(NAME)?.state)
    }

    fn feed_forward(&self, x: &mut GpuHidden, feed_forward: &GpuFeedForward) -> Result<()> {
        self.feed(x, feed_forward)
    }

    fn outputs(
        &self,
        x: GpuHidden,
        head: &GpuLmHead,
        batch: &mut Batch<'_, GpuState>,
    ) -> Result<Pending<Vec<Output>>> {
        let span = batch.single(NAME)?;
        let output = self.outputs_of(x, head, span.state, span.outputs)?;
        Ok(output.map(|output| vec![output]))
    }

    fn max_spans(&self) -> usize {
        1
    }

    fn shares_forks(&self) -> bool {
        false
    }

    fn supports_lookahead(&self) -> bool {
        true
    }

    fn warm_up(&self) -> Option<&dyn WarmUp<Self>> {
        Some(self)
    }

    fn inspection(&self) -> Option<&dyn Inspection<Self>> {
        Some(self)
    }

    fn snapshots(&self) -> Option<&dyn Snapshots<Self>> {
        None
    }
}

impl WarmUp<Self> for GpuBackend {
    fn batches(&self) -> &'static [usize] {
        // One token, and so many that they are multiplied in tiles.
        &[1, 64]
    }

    fn state(&self, layers: &[MixerState], capacity: usize) -> Result<GpuState> {
        let scratch = Arc::new(Scratch::new(&self.gpu, true)?);
        GpuState::new(&self.gpu, layers, capacity, scratch)
    }

    fn finish(&self) {
        self.gpu.driver.keep();
    }
}

impl Inspection<Self> for GpuBackend {
    fn attention_weights(
        &self,
        x: GpuHidden,
        mixer: &GpuMixer,
        layer: usize,
        batch: &mut Batch<'_, GpuState>,
    ) -> Result<Vec<f32>> {
        attention_weights::of_last(self, x, mixer, layer, batch.single(NAME)?.state)
    }
}
