//! The one interface between a model and the machines that can run it.
//!
//! A backend takes whole sublayers ([`sublayer`](crate::sublayer)) and runs them over a [`Batch`] of sequences:
//!
//! `embed → (mixer → feed_forward) × layers → outputs`
//!
//! Operations within a sublayer are the backend's own affair: a CPU keeps a row in registers, a GPU fuses RoPE, append and
//! attention into one dispatch. No result depends on how tokens are divided into batches, nor on the other sequences of a
//! batch.
//!
//! [`WarmUp`], [`Inspection`] and [`Snapshots`] are small traits of their own; a backend says which of them it has. No
//! method has a default, so that a backend which wraps another cannot forget one.

use crate::batch::{Batch, Output, SequenceState};
use crate::head::LmHeadStats;
use crate::sublayer::{FeedForwardWeights, MixerState, MixerWeights, VocabularyWeights};
use crate::{HybridMemoryPool, KvType, Pending, Result};

/// A resident sublayer.
pub trait Sublayer: Send + Sync {
    /// Bytes of weights that one token reads.
    fn bytes(&self) -> usize;
}

/// A resident language-model head.
pub trait LmHead: Sublayer {
    /// Savings of the prefilter so far; `None` for a head without one, or on a backend that does not count them.
    fn stats(&self) -> Option<LmHeadStats>;
}

/// A machine that can run a model.
pub trait Backend: Sized + Send + Sync + 'static {
    /// The resident embedding.
    type Embedding: Send + Sync;
    /// A resident mixer.
    type Mixer: Sublayer;
    /// A resident feed-forward sublayer.
    type FeedForward: Sublayer;
    /// The resident language-model head, with its norm.
    type LmHead: LmHead;
    /// The rows of a batch, f32 `[rows, hidden]`.
    type Hidden: Send;
    /// The state of one sequence.
    type State: SequenceState;

    /// One line for people: device, instruction set, threads.
    fn describe(&self) -> String;
    /// The account of its host memory.
    fn pool(&self) -> &HybridMemoryPool;
    /// Runs `work`, which calls the other methods, on the thread where they are cheapest to call from.
    fn scope<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R;

    /// Makes the embedding and the head resident.
    ///
    /// # Errors
    /// If parts do not fit each other, a format has no kernel here, a weight is no ternary code or finite number, or
    /// memory is short.
    fn load_vocabulary(
        &self,
        weights: VocabularyWeights,
    ) -> Result<(Self::Embedding, Self::LmHead)>;
    /// Makes a mixer resident.
    ///
    /// # Errors
    /// As [`load_vocabulary`](Self::load_vocabulary).
    fn load_mixer(&self, weights: MixerWeights) -> Result<Self::Mixer>;
    /// Makes a feed-forward sublayer resident.
    ///
    /// # Errors
    /// As [`load_vocabulary`](Self::load_vocabulary).
    fn load_feed_forward(&self, weights: FeedForwardWeights) -> Result<Self::FeedForward>;

    /// Tokens of a prompt to run together: more keep it busier, and fewer let a prompt be cancelled sooner.
    fn prompt_batch(&self) -> usize {
        256
    }

    /// The types in which its states can keep keys and values, its default first.
    fn kv_types(&self) -> &'static [KvType];
    /// The state of an empty sequence of up to `capacity` positions through `layers`, whose keys and values are kept as `kv`,
    /// or if that is `None` as the backend's default.
    ///
    /// # Errors
    /// If the backend does not have that type ([`KvType::choose`]), heads are misshapen or memory is short.
    fn state(
        &self,
        layers: &[MixerState],
        capacity: usize,
        kv: Option<KvType>,
    ) -> Result<Self::State>;
    /// Another sequence that begins with the first `len` positions of `state`, or with all if there are fewer.
    ///
    /// # Errors
    /// If memory is short.
    fn fork(&self, state: &Self::State, len: usize) -> Result<Self::State>;

    /// Looks up the rows of a batch and makes room in the states of its sequences.
    ///
    /// # Errors
    /// If a token is past the embedding's last row or memory is short; for [`Input::LastArgmax`](crate::Input::LastArgmax)
    /// if the backend does not [look ahead](Self::supports_lookahead) or no likeliest token was found yet.
    fn embed(
        &self,
        embedding: &Self::Embedding,
        batch: &mut Batch<'_, Self::State>,
    ) -> Result<Self::Hidden>;
    /// Runs the mixer of layer `layer` and adds its result to `x`. States have the batch's positions in that layer
    /// afterwards.
    ///
    /// # Errors
    /// If `x` or the states belong to another model or batch, or memory is short.
    fn mixer(
        &self,
        x: &mut Self::Hidden,
        mixer: &Self::Mixer,
        layer: usize,
        batch: &mut Batch<'_, Self::State>,
    ) -> Result<()>;
    /// Runs a feed-forward sublayer and adds its result to `x`.
    ///
    /// # Errors
    /// If `x` belongs to another model, or memory is short.
    fn feed_forward(&self, x: &mut Self::Hidden, feed_forward: &Self::FeedForward) -> Result<()>;
    /// Ends a batch: norms the rows whose outputs are requested, multiplies them by the head, and gives one output for each
    /// span. The states then have the batch's positions; after an error, here or before, they are as they were.
    ///
    /// # Errors
    /// As [`feed_forward`](Self::feed_forward); if the device refuses the batch.
    fn outputs(
        &self,
        x: Self::Hidden,
        head: &Self::LmHead,
        batch: &mut Batch<'_, Self::State>,
    ) -> Result<Pending<Vec<Output>>>;

    /// The most spans of a batch.
    fn max_spans(&self) -> usize;
    /// Whether [forks](Self::fork) share the memory of the positions that they have in common, so that they cost nothing.
    fn shares_forks(&self) -> bool;
    /// Whether [`Input::LastArgmax`](crate::Input::LastArgmax) works, so that the next token can run before this one is
    /// known.
    fn supports_lookahead(&self) -> bool;
    /// Preparation that shortens the first batches, if the backend needs any.
    fn warm_up(&self) -> Option<&dyn WarmUp<Self>>;
    /// A view into its sublayers, if it has one.
    fn inspection(&self) -> Option<&dyn Inspection<Self>>;
    /// Saving and restoring states, if it can.
    fn snapshots(&self) -> Option<&dyn Snapshots<Self>>;
}

/// Warm-up of a backend that compiles kernels: batches are recorded and their kernels compiled, but nothing is submitted.
pub trait WarmUp<B: Backend> {
    /// Rows of the batches to run.
    fn batches(&self) -> &'static [usize];
    /// A state for warm-up: its batches are never submitted, and their outputs never produced.
    ///
    /// # Errors
    /// As [`Backend::state`].
    fn state(&self, layers: &[MixerState], capacity: usize) -> Result<B::State>;
    /// Called once warm-up has finished.
    fn finish(&self);
}

/// A view into a mixer, for people to look at.
pub trait Inspection<B: Backend> {
    /// The attention of each query head of a one-span batch's last row: `[query heads, positions]`, rows that sum to 1.
    /// The batch ends here, and its positions do not become part of the state.
    ///
    /// # Errors
    /// As [`Backend::mixer`]; [`Error::Unavailable`](crate::Error::Unavailable) for a mixer without such weights.
    fn attention_weights(
        &self,
        x: B::Hidden,
        mixer: &B::Mixer,
        layer: usize,
        batch: &mut Batch<'_, B::State>,
    ) -> Result<Vec<f32>>;
}

/// Saving and restoring the state of a sequence.
pub trait Snapshots<B: Backend> {
    /// The keys and the values of a layer: f32 rows in the order of their positions, `[position][kv head][dim]` each. Of a delta
    /// net the matrices of its heads and the rows of its convolution; nothing if no position has run. Written
    /// to a state of the same type of keys and values, they are the same bits there.
    ///
    /// # Errors
    /// If there is no such layer, or memory is short.
    fn read_layer(&self, state: &B::State, layer: usize) -> Result<[Vec<f32>; 2]>;
    /// Writes the positions that follow those of the state into a layer; [`complete`](Self::complete) counts them.
    ///
    /// # Errors
    /// If widths differ, the state is full, or memory is short.
    fn write_layer(
        &self,
        state: &mut B::State,
        layer: usize,
        keys: &[f32],
        values: &[f32],
    ) -> Result<()>;
    /// Counts positions that were written to every layer.
    ///
    /// # Errors
    /// If they do not fit the state.
    fn complete(&self, state: &mut B::State, positions: usize) -> Result<()>;
}
