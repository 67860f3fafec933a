//! The CPU backend, behaving as a GPU does: a token can run before it is known, and answers come late.

use bitnet_core::cpu::CpuBackend;
use bitnet_core::pending::Waiting;
use bitnet_core::{
    Activations, Backend, Candidate, Error, Gate, HeadMode, HeadStats, Heads, HybridMemoryPool,
    Input, Norm, Pending, Result, Rope, Top, WeightMatrix,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

/// What the tests see of the backend that a model has taken.
#[derive(Clone, Default)]
pub(crate) struct Watch(Arc<Counters>);

#[derive(Default)]
struct Counters {
    /// Polls at which an answer is not there yet.
    late: AtomicUsize,
    /// Answers until one is an error; 0 for none.
    fails_after: AtomicUsize,
    /// Batches until one is refused; 0 for none.
    refuses_after: AtomicUsize,
    /// Tokens that ran before they were known.
    chosen: AtomicUsize,
    /// Answers under way, and the most there were at once.
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
}

impl Watch {
    /// Answers come at the poll after so many.
    pub(crate) fn set_late(&self, polls: usize) {
        self.0.late.store(polls, Ordering::Relaxed);
    }

    /// The `answer`th answer from now on is an error; counted from 1.
    pub(crate) fn fail(&self, answer: usize) {
        self.0.fails_after.store(answer, Ordering::Relaxed);
    }

    /// The `batch`th batch from now on is refused; counted from 1.
    pub(crate) fn refuse(&self, batch: usize) {
        self.0.refuses_after.store(batch, Ordering::Relaxed);
    }

    pub(crate) fn chosen(&self) -> usize {
        self.0.chosen.load(Ordering::Relaxed)
    }

    pub(crate) fn most_under_way(&self) -> usize {
        self.0.most_under_way.load(Ordering::Relaxed)
    }

    fn answer<T: Send + 'static>(&self, value: T) -> Pending<T> {
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

pub(crate) struct Ahead {
    inner: CpuBackend,
    watch: Watch,
}

impl Ahead {
    pub(crate) fn new() -> Result<(Self, Watch)> {
        let watch = Watch::default();
        let backend = Self {
            inner: CpuBackend::new(Some(1), None)?,
            watch: watch.clone(),
        };
        Ok((backend, watch))
    }
}

pub(crate) struct Cache {
    inner: <CpuBackend as Backend>::Cache,
    chosen: Option<u32>,
}

impl Backend for Ahead {
    type Matrix = <CpuBackend as Backend>::Matrix;
    type Table = <CpuBackend as Backend>::Table;
    type Gain = <CpuBackend as Backend>::Gain;
    type Hidden = <CpuBackend as Backend>::Hidden;
    type Activation = <CpuBackend as Backend>::Activation;
    type Cache = Cache;
    type Rotations = <CpuBackend as Backend>::Rotations;

    fn describe(&self) -> String {
        "ahead".into()
    }

    fn pool(&self) -> &HybridMemoryPool {
        self.inner.pool()
    }

    fn matrix(&self, weights: WeightMatrix) -> Result<Self::Matrix> {
        self.inner.matrix(weights)
    }

    fn table(&self, weights: WeightMatrix) -> Result<Self::Table> {
        self.inner.table(weights)
    }

    fn head_table(&self, weights: WeightMatrix, mode: HeadMode) -> Result<Self::Table> {
        self.inner.head_table(weights, mode)
    }

    fn gain(&self, values: Vec<f32>) -> Result<Self::Gain> {
        self.inner.gain(values)
    }

    fn cache(&self, layers: usize, heads: Heads, capacity: usize) -> Result<Cache> {
        Ok(Cache {
            inner: self.inner.cache(layers, heads, capacity)?,
            chosen: None,
        })
    }

    fn truncate(&self, cache: &mut Cache, len: usize) {
        self.inner.truncate(&mut cache.inner, len);
    }

    fn cache_bytes(&self, cache: &Cache) -> usize {
        self.inner.cache_bytes(&cache.inner)
    }

    fn rotations(&self, rope: &Rope, first: usize, count: usize) -> Result<Self::Rotations> {
        self.inner.rotations(rope, first, count)
    }

    fn embed(&self, table: &Self::Table, input: Input<'_>, cache: &Cache) -> Result<Self::Hidden> {
        let refuses = &self.watch.0.refuses_after;
        let left = refuses.load(Ordering::Relaxed);
        refuses.store(left.saturating_sub(1), Ordering::Relaxed);
        if left == 1 {
            return Err(Error::Unavailable {
                what: "the device".into(),
                why: "it was busy".into(),
            });
        }
        match (input, cache.chosen) {
            (Input::Tokens(tokens), _) => self.inner.rows(table, tokens),
            (Input::Chosen, Some(chosen)) => {
                self.watch.0.chosen.fetch_add(1, Ordering::Relaxed);
                self.inner.rows(table, &[chosen])
            }
            (Input::Chosen, None) => Err(Error::Unavailable {
                what: "the chosen token".into(),
                why: "none was chosen".into(),
            }),
        }
    }

    fn norm_quantize(
        &self,
        x: &Self::Hidden,
        norm: Option<Norm<'_, Self::Gain>>,
        activations: Activations,
    ) -> Result<Self::Activation> {
        self.inner.norm_quantize(x, norm, activations)
    }

    fn matmul(&self, a: &Self::Activation, weights: &[&Self::Matrix]) -> Result<Vec<Self::Hidden>> {
        self.inner.matmul(a, weights)
    }

    fn matmul_add(
        &self,
        a: &Self::Activation,
        weights: &Self::Matrix,
        residual: &mut Self::Hidden,
    ) -> Result<()> {
        self.inner.matmul_add(a, weights, residual)
    }

    fn rope_append(
        &self,
        q: &mut Self::Hidden,
        k: Self::Hidden,
        v: Self::Hidden,
        head_norms: Option<[Norm<'_, Self::Gain>; 2]>,
        rotations: &Self::Rotations,
        cache: &mut Cache,
        layer: usize,
    ) -> Result<()> {
        let cache = &mut cache.inner;
        self.inner
            .rope_append(q, k, v, head_norms, rotations, cache, layer)
    }

    fn attention(&self, q: &Self::Hidden, cache: &Cache, layer: usize) -> Result<Self::Hidden> {
        self.inner.attention(q, &cache.inner, layer)
    }

    fn gate_norm_quantize(
        &self,
        gate: Self::Hidden,
        up: Self::Hidden,
        function: Gate,
        norm: Option<Norm<'_, Self::Gain>>,
        activations: Activations,
    ) -> Result<Self::Activation> {
        self.inner
            .gate_norm_quantize(gate, up, function, norm, activations)
    }

    fn head(
        &self,
        x: &Self::Hidden,
        first: usize,
        norm: Norm<'_, Self::Gain>,
        table: &Self::Table,
    ) -> Result<Pending<Vec<f32>>> {
        let logits = self.inner.head(x, first, norm, table)?.now()?;
        Ok(self.watch.answer(logits))
    }

    fn head_top(
        &self,
        x: &Self::Hidden,
        first: usize,
        norm: Norm<'_, Self::Gain>,
        table: &Self::Table,
        top: &Top<'_>,
        cache: &mut Cache,
    ) -> Result<Pending<Vec<Vec<Candidate>>>> {
        let inner = &mut cache.inner;
        let answer = self.inner.head_top(x, first, norm, table, top, inner)?;
        let rows = answer.now()?;
        let likeliest = rows.last().and_then(|row| row.first());
        cache.chosen = likeliest.map(|candidate| candidate.id);
        Ok(self.watch.answer(rows))
    }

    fn runs_ahead(&self) -> bool {
        true
    }

    fn matrix_bytes(&self, matrix: &Self::Matrix) -> usize {
        self.inner.matrix_bytes(matrix)
    }

    fn head_bytes(&self, table: &Self::Table) -> usize {
        self.inner.head_bytes(table)
    }

    fn head_stats(&self, table: &Self::Table) -> Option<HeadStats> {
        self.inner.head_stats(table)
    }
}
