//! [`Backend`] for [`MlxBackend`]: each method is one hop to MLX's thread.

use super::thread::Tensor;
use super::{MlxBackend, MlxEmbedding, MlxFeedForward, MlxLmHead, MlxMixer, MlxRows, MlxState};
use crate::pool::Movement;
use crate::{
    Backend, Batch, Error, FeedForwardWeights, HybridMemoryPool, Input, Inspection, KvType,
    MixerState, MixerWeights, Output, Pending, Result, Snapshots, VocabularyWeights, WarmUp,
};

/// The name of the backend in errors.
const NAME: &str = "MLX";

impl MlxBackend {
    /// Counts bytes that moved, or that were read where they lie.
    pub(super) fn moved(&self, movement: Movement, bytes: usize) {
        self.loader.pool.zero_copy().record(movement, bytes);
    }
}

impl Backend for MlxBackend {
    type Embedding = MlxEmbedding;
    type Mixer = MlxMixer;
    type FeedForward = MlxFeedForward;
    type LmHead = MlxLmHead;
    type Hidden = MlxRows;
    type State = MlxState;

    fn describe(&self) -> String {
        format!("mlx ({})", self.device())
    }

    fn pool(&self) -> &HybridMemoryPool {
        &self.loader.pool
    }

    fn scope<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.thread.run(|_| work())
    }

    fn load_vocabulary(&self, weights: VocabularyWeights) -> Result<(MlxEmbedding, MlxLmHead)> {
        self.vocabulary_of(&weights)
    }

    fn load_mixer(&self, weights: MixerWeights) -> Result<MlxMixer> {
        self.mixer_of(weights)
    }

    fn load_feed_forward(&self, weights: FeedForwardWeights) -> Result<MlxFeedForward> {
        self.feed_forward_of(weights)
    }

    fn kv_types(&self) -> &'static [KvType] {
        &[KvType::F32]
    }

    fn state(
        &self,
        layers: &[MixerState],
        capacity: usize,
        kv: Option<KvType>,
    ) -> Result<MlxState> {
        KvType::choose(kv, self.kv_types(), "MLX")?;
        MlxState::new(self.pool(), layers, capacity)
    }

    fn fork(&self, state: &MlxState, len: usize) -> Result<MlxState> {
        Ok(self.thread.run(|mlx| state.fork(mlx, len)))
    }

    fn embed(&self, embedding: &MlxEmbedding, batch: &mut Batch<'_, MlxState>) -> Result<MlxRows> {
        let table = &embedding.0;
        batch.check_tokens(table.rows)?;
        let span = batch.single(NAME)?;
        let Input::Tokens(tokens) = span.input else {
            return Err(Error::Unavailable {
                what: "look-ahead decoding".into(),
                why: "MLX does not support it: every token is known at once".into(),
            });
        };
        let array = self.thread.run(|mlx| {
            span.state.begin(mlx, tokens.len())?;
            table.gather(mlx, tokens).map(Tensor::new)
        })?;
        self.moved(Movement::Copy, tokens.len() * table.cols * size_of::<f32>());
        Ok(MlxRows {
            array,
            tokens: tokens.len(),
            width: table.cols,
        })
    }

    fn mixer(
        &self,
        x: &mut MlxRows,
        mixer: &MlxMixer,
        layer: usize,
        batch: &mut Batch<'_, MlxState>,
    ) -> Result<()> {
        let span = batch.single(NAME)?;
        self.thread.run(|mlx| self.mix(mlx, x, mixer, layer, span))
    }

    fn feed_forward(&self, x: &mut MlxRows, feed_forward: &MlxFeedForward) -> Result<()> {
        self.thread.run(|mlx| feed_forward.run(mlx, x))
    }

    fn outputs(
        &self,
        x: MlxRows,
        head: &MlxLmHead,
        batch: &mut Batch<'_, MlxState>,
    ) -> Result<Pending<Vec<Output>>> {
        let span = batch.single(NAME)?;
        let output = self.thread.run(|mlx| head.output(mlx, &x, span))?;
        span.state.advance(span.input.len());
        Ok(Pending::ready(vec![output]))
    }

    fn max_spans(&self) -> usize {
        1
    }

    fn shares_forks(&self) -> bool {
        false
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

impl Inspection<Self> for MlxBackend {
    fn attention_weights(
        &self,
        x: MlxRows,
        mixer: &MlxMixer,
        layer: usize,
        batch: &mut Batch<'_, MlxState>,
    ) -> Result<Vec<f32>> {
        let span = batch.single(NAME)?;
        self.thread
            .run(|mlx| self.attention_of_last(mlx, &x, mixer, layer, span))
    }
}

impl Snapshots<Self> for MlxBackend {
    fn read_layer(&self, state: &MlxState, layer: usize) -> Result<[Vec<f32>; 2]> {
        self.thread.run(|mlx| state.rows(mlx, layer))
    }

    fn write_layer(
        &self,
        state: &mut MlxState,
        layer: usize,
        keys: &[f32],
        values: &[f32],
    ) -> Result<()> {
        self.thread
            .run(|mlx| state.write_rows(mlx, layer, keys, values))
    }

    fn complete(&self, state: &mut MlxState, positions: usize) -> Result<()> {
        self.thread.run(|mlx| state.complete(mlx, positions))
    }
}
