//! The forward pass, written once over [`Backend`]: embed → (mixer → feed-forward) × layers → outputs.

use super::architecture::Architecture;
use crate::{Cancel, Error, Result};
use bitnet_core::{
    Backend, Batch, HybridMemoryPool, Input, KvType, LmHead, LmHeadStats, MixerState, Output,
    OutputRequest, Pending, SequenceState, Span, Top,
};
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

/// The sublayers of one layer, resident on a backend.
pub(crate) struct Layer<B: Backend> {
    pub(crate) mixer: B::Mixer,
    pub(crate) feed_forward: B::FeedForward,
}

/// A model's weights on a backend.
pub(crate) struct Transformer<B: Backend> {
    pub(crate) backend: B,
    pub(crate) architecture: Architecture,
    pub(crate) embedding: B::Embedding,
    pub(crate) layers: Vec<Layer<B>>,
    /// The state that each layer's mixer keeps.
    pub(crate) states: Vec<MixerState>,
    pub(crate) head: B::LmHead,
}

/// Positions of a batch whose logits are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogitsFor {
    /// None: the batch only fills the cache.
    Nothing,
    /// The last position.
    Last,
    /// Every position.
    All,
}

impl LogitsFor {
    /// The request for a span of `tokens`.
    pub(crate) const fn of(self, tokens: usize) -> OutputRequest<'static> {
        match self {
            Self::Nothing => OutputRequest::Nothing,
            Self::Last => OutputRequest::Logits { rows: 1 },
            Self::All => OutputRequest::Logits { rows: tokens },
        }
    }
}

impl<B: Backend> Transformer<B> {
    /// Runs the backend's warm-up for a context of `capacity`. `progress` is told as by
    /// [`weights::load`](super::weights::load).
    ///
    /// # Errors
    /// If a kernel cannot be compiled, or memory is short; [`Error::Cancelled`], for which it looks before each batch.
    pub(crate) fn warm_up(
        &self,
        capacity: usize,
        cancel: &Cancel,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<()> {
        let Some(warm_up) = self.backend.warm_up() else {
            return Ok(());
        };
        let (layers, batches) = (self.layers.len(), warm_up.batches());
        let largest = batches.iter().copied().max().unwrap_or(0);
        let mut state = warm_up.state(&self.states, capacity.min(largest))?;
        for (tokens, done) in batches.iter().zip(1..) {
            cancel.check()?;
            let tokens = vec![0; capacity.min(*tokens)];
            let top = Top {
                count: 1,
                also: &[],
            };
            let outputs = OutputRequest::Top { rows: 1, top };
            let span = Span {
                input: Input::Tokens(&tokens),
                state: &mut state,
                outputs,
            };
            match self.forward(&mut Batch::new(vec![span])?) {
                // The outputs are never produced.
                Ok(_) => {}
                // A request of that size is refused when it is made.
                Err(bitnet_core::Error::Unavailable { what, why }) => {
                    tracing::debug!(
                        "{tokens} tokens together: {what}: {why}",
                        tokens = tokens.len()
                    );
                }
                Err(error) => return Err(error.into()),
            }
            state.truncate(0);
            progress(layers + done, layers + batches.len());
        }
        warm_up.finish();
        Ok(())
    }

    /// Runs a batch.
    fn forward(
        &self,
        batch: &mut Batch<'_, B::State>,
    ) -> Result<Pending<Vec<Output>>, bitnet_core::Error> {
        let mut x = self.backend.embed(&self.embedding, batch)?;
        for (index, layer) in self.layers.iter().enumerate() {
            self.backend.mixer(&mut x, &layer.mixer, index, batch)?;
            self.backend.feed_forward(&mut x, &layer.feed_forward)?;
        }
        self.backend.outputs(x, &self.head, batch)
    }

    /// The attention of a batch's last row in `layer`; the batch does not become part of the state.
    fn attention_weights(
        &self,
        layer: usize,
        batch: &mut Batch<'_, B::State>,
    ) -> Result<Vec<f32>, bitnet_core::Error> {
        let Some(inspection) = self.backend.inspection() else {
            return Err(self.unavailable("attention weights"));
        };
        let mut x = self.backend.embed(&self.embedding, batch)?;
        for (index, found) in self.layers.iter().enumerate() {
            if index == layer {
                return inspection.attention_weights(x, &found.mixer, layer, batch);
            }
            self.backend.mixer(&mut x, &found.mixer, index, batch)?;
            self.backend.feed_forward(&mut x, &found.feed_forward)?;
        }
        // A layer beyond the last.
        Ok(Vec::new())
    }

    fn unavailable(&self, what: &str) -> bitnet_core::Error {
        bitnet_core::Error::Unavailable {
            what: what.into(),
            why: format!("{} does not have them", self.backend.describe()),
        }
    }
}

/// A model on some backend.
pub(crate) trait DynModel: Send + Sync {
    /// An empty sequence of up to `capacity` positions, whose keys and values are kept as `kv`.
    fn start(self: Arc<Self>, capacity: usize, kv: KvType) -> Result<Box<dyn DynSequence>>;
    /// The types in which keys and values can be kept, the default first.
    fn kv_types(&self) -> &'static [KvType];
    /// Runs parts of several sequences of this model together, at most [`max_spans`](Self::max_spans) of them; one output for
    /// each. As [`DynSequence::forward`] otherwise.
    fn forward(&self, parts: Vec<Part<'_>>) -> Result<Pending<Vec<Output>>>;
    /// Tokens of a prompt that run together.
    fn prompt_batch(&self) -> usize;
    /// The most sequences that run together.
    fn max_spans(&self) -> usize;
    /// Whether forks share the memory of the positions that they have in common.
    fn shares_forks(&self) -> bool;
    /// Whether inputs can be [`Input::LastArgmax`].
    fn supports_lookahead(&self) -> bool;
    /// One line about the backend.
    fn describe(&self) -> String;
    /// The backend's memory.
    fn pool(&self) -> &HybridMemoryPool;
    /// Savings of the head's prefilter, if it has one.
    fn head_stats(&self) -> Option<LmHeadStats>;
}

/// New tokens of a sequence, for a batch of several.
pub(crate) struct Part<'a> {
    /// The sequence that they extend.
    pub(crate) sequence: &'a mut dyn DynSequence,
    /// The tokens.
    pub(crate) input: Input<'a>,
    /// The outputs to compute.
    pub(crate) outputs: OutputRequest<'a>,
}

/// One sequence and its state.
pub(crate) trait DynSequence: Any + Send {
    /// Runs `input` after the positions so far, which grow at once. After an error the state is as before; where the
    /// pending output turns out to be an error, the caller rolls back.
    fn forward(&mut self, input: Input<'_>, outputs: OutputRequest<'_>) -> Result<Pending<Output>>;
    /// The attention of the heads of `layer` from the last token of `input`, `[query heads, positions]`; the state is as
    /// before.
    fn attention(&mut self, input: Input<'_>, layer: usize) -> Result<Vec<f32>>;
    /// Whether the input can be [`Input::LastArgmax`].
    fn supports_lookahead(&self) -> bool;
    /// Positions so far.
    fn len(&self) -> usize;
    /// Rolls back to the first `len` positions.
    fn truncate(&mut self, len: usize);
    /// Bytes of the state.
    fn bytes(&self) -> usize;
    /// Bytes of the state at most if it had `positions.end` positions, of which the first `positions.start` are forks' as well.
    fn bytes_for(&self, positions: Range<usize>) -> usize;
    /// Bytes of the state beyond those of its first `positions`.
    fn bytes_beyond(&self, positions: usize) -> usize;
    /// Another sequence that begins with the first `len` positions.
    fn fork(&self, len: usize) -> Result<Box<dyn DynSequence>>;
    /// Keys and values of `layer`, `[position][kv head][dim]` each; look-ahead positions may be among them.
    fn read_layer(&self, layer: usize) -> Result<[Vec<f32>; 2]>;
    /// Begins with `positions` that were run elsewhere: `next` hands over keys and values, layer after layer. After an
    /// error the state is empty.
    fn restore(
        &mut self,
        positions: usize,
        next: &mut dyn FnMut() -> Result<[Vec<f32>; 2]>,
    ) -> Result<()>;
}

struct Sequence<B: Backend> {
    transformer: Arc<Transformer<B>>,
    state: B::State,
}

impl<B: Backend> DynModel for Transformer<B> {
    fn start(self: Arc<Self>, capacity: usize, kv: KvType) -> Result<Box<dyn DynSequence>> {
        let state = self.backend.state(&self.states, capacity, Some(kv))?;
        Ok(Box::new(Sequence {
            transformer: self,
            state,
        }))
    }

    fn kv_types(&self) -> &'static [KvType] {
        self.backend.kv_types()
    }

    fn prompt_batch(&self) -> usize {
        self.backend.prompt_batch()
    }

    fn forward(&self, parts: Vec<Part<'_>>) -> Result<Pending<Vec<Output>>> {
        let mut spans = Vec::with_capacity(parts.len());
        for part in parts {
            let Part {
                sequence,
                input,
                outputs,
            } = part;
            let sequence: &mut dyn Any = sequence;
            let sequence: Option<&mut Sequence<B>> = sequence.downcast_mut();
            let sequence = sequence.filter(|sequence| std::ptr::eq(&*sequence.transformer, self));
            let Some(sequence) = sequence else {
                return Err(Error::Argument {
                    what: "sequence",
                    expected: "one of the model that runs it".into(),
                    found: "one of another model".into(),
                });
            };
            check_room(&sequence.state, input.len())?;
            spans.push(Span {
                input,
                state: &mut sequence.state,
                outputs,
            });
        }
        let mut batch = Batch::new(spans)?;
        Ok(self.backend.scope(|| self.forward(&mut batch))?)
    }

    fn max_spans(&self) -> usize {
        self.backend.max_spans()
    }

    fn shares_forks(&self) -> bool {
        self.backend.shares_forks()
    }

    fn supports_lookahead(&self) -> bool {
        self.backend.supports_lookahead()
    }

    fn describe(&self) -> String {
        self.backend.describe()
    }

    fn pool(&self) -> &HybridMemoryPool {
        self.backend.pool()
    }

    fn head_stats(&self) -> Option<LmHeadStats> {
        self.head.stats()
    }
}

/// Refuses `wanted` positions for which `state` has no room.
fn check_room(state: &impl SequenceState, wanted: usize) -> Result<()> {
    let (capacity, used) = (state.capacity(), state.len());
    if wanted > capacity.saturating_sub(used) {
        return Err(Error::ContextFull {
            capacity,
            used,
            wanted,
        });
    }
    Ok(())
}

impl<B: Backend> Sequence<B> {
    /// Runs `work` on a batch of one span.
    fn run<R: Send>(
        &mut self,
        input: Input<'_>,
        outputs: OutputRequest<'_>,
        work: impl FnOnce(&Transformer<B>, &mut Batch<'_, B::State>) -> Result<R, bitnet_core::Error>
        + Send,
    ) -> Result<R> {
        check_room(&self.state, input.len())?;
        let Self { transformer, state } = self;
        let mut batch = Batch::new(vec![Span {
            input,
            state,
            outputs,
        }])?;
        Ok(transformer
            .backend
            .scope(|| work(transformer, &mut batch))?)
    }

    fn restore_layers(
        &mut self,
        positions: usize,
        next: &mut dyn FnMut() -> Result<[Vec<f32>; 2]>,
    ) -> Result<()> {
        let backend = &self.transformer.backend;
        let Some(snapshots) = backend.snapshots() else {
            return Err(self.transformer.unavailable("saved sessions").into());
        };
        for layer in 0..self.transformer.layers.len() {
            let [keys, values] = next()?;
            snapshots.write_layer(&mut self.state, layer, &keys, &values)?;
        }
        Ok(snapshots.complete(&mut self.state, positions)?)
    }
}

impl<B: Backend> DynSequence for Sequence<B> {
    fn forward(&mut self, input: Input<'_>, outputs: OutputRequest<'_>) -> Result<Pending<Output>> {
        let pending = self.run(input, outputs, |transformer, batch| {
            transformer.forward(batch)
        })?;
        Ok(pending.map(|mut outputs| outputs.pop().unwrap_or(Output::Nothing)))
    }

    fn attention(&mut self, input: Input<'_>, layer: usize) -> Result<Vec<f32>> {
        self.run(input, OutputRequest::Nothing, |transformer, batch| {
            transformer.attention_weights(layer, batch)
        })
    }

    fn supports_lookahead(&self) -> bool {
        self.transformer.backend.supports_lookahead()
    }

    fn len(&self) -> usize {
        self.state.len()
    }

    fn truncate(&mut self, len: usize) {
        self.state.truncate(len);
    }

    fn bytes(&self) -> usize {
        self.state.bytes()
    }

    fn bytes_for(&self, positions: Range<usize>) -> usize {
        self.state.bytes_for(positions)
    }

    fn bytes_beyond(&self, positions: usize) -> usize {
        self.state.bytes_beyond(positions)
    }

    fn fork(&self, len: usize) -> Result<Box<dyn DynSequence>> {
        let state = self.transformer.backend.fork(&self.state, len)?;
        Ok(Box::new(Self {
            transformer: Arc::clone(&self.transformer),
            state,
        }))
    }

    fn read_layer(&self, layer: usize) -> Result<[Vec<f32>; 2]> {
        match self.transformer.backend.snapshots() {
            Some(snapshots) => Ok(snapshots.read_layer(&self.state, layer)?),
            None => Err(self.transformer.unavailable("saved sessions").into()),
        }
    }

    fn restore(
        &mut self,
        positions: usize,
        next: &mut dyn FnMut() -> Result<[Vec<f32>; 2]>,
    ) -> Result<()> {
        self.truncate(0);
        self.restore_layers(positions, next)
    }
}
