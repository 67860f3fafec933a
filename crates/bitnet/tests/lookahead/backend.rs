//! The CPU backend, behaving as a GPU does: a token can run before it is known, and outputs come late.

use bitnet_core::cpu::{
    CpuBackend, CpuEmbedding, CpuFeedForward, CpuHidden, CpuLmHead, CpuMixer, CpuState,
};
use bitnet_core::pending::Waiting;
use bitnet_core::{
    Backend, Batch, Error, FeedForwardWeights, HybridMemoryPool, Input, Inspection, KvType,
    MixerState, MixerWeights, Output, Pending, Result, SequenceState, Snapshots, Span,
    VocabularyWeights, WarmUp,
};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

/// What the tests see of the backend that a model has taken.
#[derive(Clone, Default)]
pub(crate) struct Watch(Arc<Counters>);

#[derive(Default)]
struct Counters {
    /// Polls at which an output is not there yet.
    late: AtomicUsize,
    /// Outputs until one is an error; 0 for none.
    fails_after: AtomicUsize,
    /// Batches until one is refused; 0 for none.
    refuses_after: AtomicUsize,
    /// Tokens that ran before they were known.
    looked_ahead: AtomicUsize,
    /// Outputs under way, and the most there were at once.
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
}

impl Watch {
    /// Outputs come at the poll after so many.
    pub(crate) fn set_late(&self, polls: usize) {
        self.0.late.store(polls, Ordering::Relaxed);
    }

    /// The `output`th output from now on is an error; counted from 1.
    pub(crate) fn fail(&self, output: usize) {
        self.0.fails_after.store(output, Ordering::Relaxed);
    }

    /// The `batch`th batch from now on is refused; counted from 1.
    pub(crate) fn refuse(&self, batch: usize) {
        self.0.refuses_after.store(batch, Ordering::Relaxed);
    }

    pub(crate) fn looked_ahead(&self) -> usize {
        self.0.looked_ahead.load(Ordering::Relaxed)
    }

    pub(crate) fn most_under_way(&self) -> usize {
        self.0.most_under_way.load(Ordering::Relaxed)
    }

    fn delay<T: Send + 'static>(&self, value: T) -> Pending<T> {
        let under_way = self.0.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.0
            .most_under_way
            .fetch_max(under_way, Ordering::Relaxed);
        let left = self.0.fails_after.load(Ordering::Relaxed);
        self.0
            .fails_after
            .store(left.saturating_sub(1), Ordering::Relaxed);
        Pending::waiting(Box::new(Late {
            value: (left != 1).then_some(value),
            polls: self.0.late.load(Ordering::Relaxed),
            watch: self.clone(),
        }))
    }
}

struct Late<T> {
    value: Option<T>,
    polls: usize,
    watch: Watch,
}

impl<T: Send> Waiting<T> for Late<T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T>> {
        if let Some(left) = self.polls.checked_sub(1) {
            self.polls = left;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.value.take().ok_or_else(|| Error::Unavailable {
            what: "the device".into(),
            why: "it was lost".into(),
        }))
    }
}

impl<T> Drop for Late<T> {
    fn drop(&mut self) {
        self.watch.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) struct Lookahead {
    inner: CpuBackend,
    watch: Watch,
}

impl Lookahead {
    pub(crate) fn new() -> Result<(Self, Watch)> {
        let watch = Watch::default();
        let backend = Self {
            inner: CpuBackend::new(Some(1), None)?,
            watch: watch.clone(),
        };
        Ok((backend, watch))
    }
}

pub(crate) struct State {
    inner: CpuState,
    last_argmax: Option<u32>,
}

impl SequenceState for State {
    fn len(&self) -> usize {
        self.inner.len()
    }

    fn capacity(&self) -> usize {
        self.inner.capacity()
    }

    fn truncate(&mut self, len: usize) {
        self.inner.truncate(len);
    }

    fn bytes(&self) -> usize {
        self.inner.bytes()
    }

    fn bytes_for(&self, positions: Range<usize>) -> usize {
        self.inner.bytes_for(positions)
    }

    fn bytes_beyond(&self, positions: usize) -> usize {
        self.inner.bytes_beyond(positions)
    }
}

/// Runs `work` on the CPU's batch of the same spans, whose tokens are all known.
fn on_cpu<R>(
    batch: &mut Batch<'_, State>,
    work: impl FnOnce(&mut Batch<'_, CpuState>) -> Result<R>,
) -> Result<R> {
    let mut known = Vec::new();
    for span in batch.spans() {
        known.push(match (span.input, span.state.last_argmax) {
            (Input::Tokens(tokens), _) => tokens.to_vec(),
            (Input::LastArgmax, Some(token)) => vec![token],
            (Input::LastArgmax, None) => {
                return Err(Error::Unavailable {
                    what: "the likeliest token".into(),
                    why: "none was found yet".into(),
                });
            }
        });
    }
    let spans = batch.spans_mut().iter_mut().zip(&known);
    let spans = spans.map(|(span, tokens)| Span {
        input: Input::Tokens(tokens),
        state: &mut span.state.inner,
        outputs: span.outputs,
    });
    work(&mut Batch::new(spans.collect())?)
}

impl Backend for Lookahead {
    type Embedding = CpuEmbedding;
    type Mixer = CpuMixer;
    type FeedForward = CpuFeedForward;
    type LmHead = CpuLmHead;
    type Hidden = CpuHidden;
    type State = State;

    fn describe(&self) -> String {
        "lookahead".into()
    }

    fn pool(&self) -> &HybridMemoryPool {
        self.inner.pool()
    }

    fn scope<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.inner.scope(work)
    }

    fn load_vocabulary(&self, weights: VocabularyWeights) -> Result<(CpuEmbedding, CpuLmHead)> {
        self.inner.load_vocabulary(weights)
    }

    fn load_mixer(&self, weights: MixerWeights) -> Result<CpuMixer> {
        self.inner.load_mixer(weights)
    }

    fn load_feed_forward(&self, weights: FeedForwardWeights) -> Result<CpuFeedForward> {
        self.inner.load_feed_forward(weights)
    }

    fn kv_types(&self) -> &'static [KvType] {
        self.inner.kv_types()
    }

    fn state(&self, layers: &[MixerState], capacity: usize, kv: Option<KvType>) -> Result<State> {
        Ok(State {
            inner: self.inner.state(layers, capacity, kv)?,
            last_argmax: None,
        })
    }

    fn fork(&self, state: &State, len: usize) -> Result<State> {
        Ok(State {
            inner: self.inner.fork(&state.inner, len)?,
            last_argmax: None,
        })
    }

    fn embed(&self, embedding: &CpuEmbedding, batch: &mut Batch<'_, State>) -> Result<CpuHidden> {
        let refuses = &self.watch.0.refuses_after;
        let left = refuses.load(Ordering::Relaxed);
        refuses.store(left.saturating_sub(1), Ordering::Relaxed);
        if left == 1 {
            return Err(Error::Unavailable {
                what: "the device".into(),
                why: "it was busy".into(),
            });
        }
        let unknown = batch.spans().iter();
        let unknown = unknown.filter(|span| span.input == Input::LastArgmax);
        let looked_ahead = &self.watch.0.looked_ahead;
        looked_ahead.fetch_add(unknown.count(), Ordering::Relaxed);
        on_cpu(batch, |batch| self.inner.embed(embedding, batch))
    }

    fn mixer(
        &self,
        x: &mut CpuHidden,
        mixer: &CpuMixer,
        layer: usize,
        batch: &mut Batch<'_, State>,
    ) -> Result<()> {
        on_cpu(batch, |batch| self.inner.mixer(x, mixer, layer, batch))
    }

    fn feed_forward(&self, x: &mut CpuHidden, feed_forward: &CpuFeedForward) -> Result<()> {
        self.inner.feed_forward(x, feed_forward)
    }

    fn outputs(
        &self,
        x: CpuHidden,
        head: &CpuLmHead,
        batch: &mut Batch<'_, State>,
    ) -> Result<Pending<Vec<Output>>> {
        let outputs = on_cpu(batch, |batch| self.inner.outputs(x, head, batch)?.now())?;
        for (span, output) in batch.spans_mut().iter_mut().zip(&outputs) {
            if let Output::Top(rows) = output {
                let likeliest = rows.last().and_then(|row| row.first());
                span.state.last_argmax = likeliest.map(|candidate| candidate.id);
            }
        }
        if outputs.iter().all(|output| *output == Output::Nothing) {
            return Ok(Pending::ready(outputs));
        }
        Ok(self.watch.delay(outputs))
    }

    fn max_spans(&self) -> usize {
        self.inner.max_spans()
    }

    fn shares_forks(&self) -> bool {
        self.inner.shares_forks()
    }

    fn supports_lookahead(&self) -> bool {
        true
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

impl Inspection<Self> for Lookahead {
    fn attention_weights(
        &self,
        x: CpuHidden,
        mixer: &CpuMixer,
        layer: usize,
        batch: &mut Batch<'_, State>,
    ) -> Result<Vec<f32>> {
        let inner: &dyn Inspection<CpuBackend> = &self.inner;
        on_cpu(batch, |batch| {
            inner.attention_weights(x, mixer, layer, batch)
        })
    }
}

impl Snapshots<Self> for Lookahead {
    fn read_layer(&self, state: &State, layer: usize) -> Result<[Vec<f32>; 2]> {
        self.inner.read_layer(&state.inner, layer)
    }

    fn write_layer(
        &self,
        state: &mut State,
        layer: usize,
        keys: &[f32],
        values: &[f32],
    ) -> Result<()> {
        self.inner
            .write_layer(&mut state.inner, layer, keys, values)
    }

    fn complete(&self, state: &mut State, positions: usize) -> Result<()> {
        self.inner.complete(&mut state.inner, positions)
    }
}
