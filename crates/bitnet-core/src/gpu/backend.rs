//! [`Backend`] for [`GpuBackend`].

use super::blocks::Growing;
use super::kernel::Kernel;
use super::lanes::Lanes;
use super::recording::Recording;
use super::rows::Rows;
use super::scratch::Bound;
use super::sequences::Sequences;
use super::spans::Spans;
use super::{
    GpuBackend, GpuEmbedding, GpuFeedForward, GpuHidden, GpuLmHead, GpuMixer, GpuState,
    attention_weights,
};
use crate::{
    Backend, Batch, Error, FeedForwardWeights, HybridMemoryPool, Input, Inspection, KvType,
    MixerState, MixerWeights, Output, Pending, Result, SequenceState, Snapshots, VocabularyWeights,
    WarmUp,
};
use std::sync::Arc;

/// The most sequences of a batch.
const MAX_SPANS: usize = 64;

/// The state that the sequences of a batch share.
///
/// # Errors
/// [`Error::Refused`] if they are of several devices; [`Error::Unavailable`] for a likeliest token that was not found yet.
fn shared(batch: &Batch<'_, GpuState>) -> Result<Arc<Sequences>> {
    let spans = batch.spans();
    let Some(first) = spans.first() else {
        return Err(Error::Refused {
            why: "a batch has no span".into(),
        });
    };
    let sequences = Arc::clone(first.state.sequences());
    for span in spans {
        if !Arc::ptr_eq(&sequences, span.state.sequences()) {
            return Err(Error::Refused {
                why: "the states of a batch belong to several backends".into(),
            });
        }
        if span.state.shape != first.state.shape {
            return Err(Error::Refused {
                why: "the states of a batch belong to several models".into(),
            });
        }
        if span.input == Input::LastArgmax && !span.state.has_last_argmax() {
            return Err(Error::Unavailable {
                what: "the last argmax".into(),
                why: "no likeliest token was found in this sequence yet".into(),
            });
        }
    }
    Ok(sequences)
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
            size,
            subgroups,
            matrices,
            ..
        } = self.gpu.lanes;
        let lanes = match (subgroups, matrices) {
            (false, _) => "no subgroups".into(),
            (true, 0) => format!("subgroups of {size}"),
            (true, side) => format!("subgroups of {size}, matrices of {side}"),
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

    fn prompt_batch(&self) -> usize {
        // Large tiles of matrices must be many.
        if self.gpu.lanes.matrices > 8 {
            1024
        } else {
            256
        }
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
        GpuState::new(&self.gpu, layers, capacity, &self.sequences()?)
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
        let sequences = shared(batch)?;
        let mut growing: Vec<Growing<'_>> = Vec::with_capacity(batch.spans().len());
        for span in batch.spans_mut() {
            let positions = span.state.len() + span.input.len();
            let state = &mut *span.state;
            growing.push(Growing { state, positions });
        }
        sequences
            .slabs
            .make_room(&self.gpu, &sequences, &mut growing)?;
        let tokens = batch.rows();
        let mut recording = Recording::new(&self.gpu, &sequences.scratch, tokens);
        let spans = Spans::new(&mut recording, batch)?;
        for run in &spans.runs {
            let (first, count) = (run.first as u64, run.rows.len() as u64);
            recording.batch.positions += first + count;
            recording.batch.seen += count * (first + 1) + count * (count - 1) / 2;
        }
        let rows = Rows::new(&recording, table.cols)?;
        for shard in &table.shards {
            let kernel = Kernel::Embed {
                table: table.place(shard),
                first: shard.first as u32,
                out_stride: table.cols as u32,
            };
            let weights = Bound::whole(&shard.buffer);
            let likeliest = Bound::whole(&sequences.likeliest);
            let bound = [
                weights,
                weights,
                weights,
                spans.places(),
                rows.bound(),
                likeliest,
            ];
            recording.dispatch(kernel, &bound, [tokens as u32, 1, 1])?;
        }
        Ok(GpuHidden {
            recording,
            rows,
            spans: Arc::new(spans),
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
        self.mix(x, mixer, layer, batch)
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
        self.outputs_of(x, head, batch)
    }

    fn max_spans(&self) -> usize {
        MAX_SPANS
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
        // One token, some, and so many that they are multiplied in tiles.
        &[1, 16, 128]
    }

    fn state(&self, layers: &[MixerState], capacity: usize) -> Result<GpuState> {
        let sequences = Sequences::new(&self.gpu, true)?;
        GpuState::new(&self.gpu, layers, capacity, &sequences)
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
        attention_weights::of_last(self, x, mixer, layer, batch)
    }
}
