//! A backend that keeps time: every operation of another backend, with what it took.
//!
//! The transformer calls one operation after the other, so their times add up to its own, but for what it does between
//! them.

use bitnet_core::{
    Activations, Backend, Candidate, Gate, HeadMode, HeadStats, Heads, HybridMemoryPool, Input,
    Norm, Pending, Result, Rope, Top, WeightMatrix,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a backend spends time on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Rows of the embedding.
    Embed,
    /// Norm and rounding to int8.
    NormQuantize,
    /// Ternary products.
    Matmul,
    /// Rotation of queries and keys, and keys and values into the cache.
    RopeAppend,
    /// Attention.
    Attention,
    /// Gate, norm and rounding to int8.
    Gate,
    /// Norm and head.
    Head,
}

impl Part {
    /// All parts, in the order of a forward pass.
    pub const ALL: [Self; 7] = [
        Self::Embed,
        Self::NormQuantize,
        Self::Matmul,
        Self::RopeAppend,
        Self::Attention,
        Self::Gate,
        Self::Head,
    ];

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::NormQuantize => "norm + quantize",
            Self::Matmul => "ternary products",
            Self::RopeAppend => "rotate + append",
            Self::Attention => "attention",
            Self::Gate => "gate + norm + quantize",
            Self::Head => "head",
        }
    }
}

/// Nanoseconds of each part so far.
#[derive(Debug, Default)]
pub struct Clock([AtomicU64; Part::ALL.len()]);

impl Clock {
    /// What `part` took since the clock was new or reset.
    pub fn spent(&self, part: Part) -> Duration {
        Duration::from_nanos(self.0[part as usize].load(Ordering::Relaxed))
    }

    /// Begins anew.
    pub fn reset(&self) {
        for part in &self.0 {
            part.store(0, Ordering::Relaxed);
        }
    }

    fn time<T>(&self, part: Part, work: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let done = work();
        let nanoseconds = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0[part as usize].fetch_add(nanoseconds, Ordering::Relaxed);
        done
    }
}

/// `inner`, timed.
#[derive(Debug)]
pub struct Timed<B> {
    inner: B,
    clock: Arc<Clock>,
}

impl<B: Backend> Timed<B> {
    /// `inner` under a new clock.
    pub fn new(inner: B) -> Self {
        Self {
            inner,
            clock: Arc::default(),
        }
    }

    /// Its clock.
    pub fn clock(&self) -> Arc<Clock> {
        Arc::clone(&self.clock)
    }
}

impl<B: Backend> Backend for Timed<B> {
    type Matrix = B::Matrix;
    type Table = B::Table;
    type Gain = B::Gain;
    type Hidden = B::Hidden;
    type Activation = B::Activation;
    type Cache = B::Cache;
    type Rotations = B::Rotations;

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn pool(&self) -> &HybridMemoryPool {
        self.inner.pool()
    }

    fn scope<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.inner.scope(work)
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

    fn cache(&self, layers: usize, heads: Heads, capacity: usize) -> Result<Self::Cache> {
        self.inner.cache(layers, heads, capacity)
    }

    fn truncate(&self, cache: &mut Self::Cache, len: usize) {
        self.inner.truncate(cache, len);
    }

    fn cache_bytes(&self, cache: &Self::Cache) -> usize {
        self.inner.cache_bytes(cache)
    }

    fn rotations(&self, rope: &Rope, first: usize, count: usize) -> Result<Self::Rotations> {
        self.clock.time(Part::RopeAppend, || {
            self.inner.rotations(rope, first, count)
        })
    }

    fn embed(
        &self,
        table: &Self::Table,
        input: Input<'_>,
        cache: &Self::Cache,
    ) -> Result<Self::Hidden> {
        self.clock
            .time(Part::Embed, || self.inner.embed(table, input, cache))
    }

    fn norm_quantize(
        &self,
        x: &Self::Hidden,
        norm: Option<Norm<'_, Self::Gain>>,
        activations: Activations,
    ) -> Result<Self::Activation> {
        self.clock.time(Part::NormQuantize, || {
            self.inner.norm_quantize(x, norm, activations)
        })
    }

    fn matmul(&self, a: &Self::Activation, weights: &[&Self::Matrix]) -> Result<Vec<Self::Hidden>> {
        self.clock
            .time(Part::Matmul, || self.inner.matmul(a, weights))
    }

    fn matmul_add(
        &self,
        a: &Self::Activation,
        weights: &Self::Matrix,
        residual: &mut Self::Hidden,
    ) -> Result<()> {
        self.clock
            .time(Part::Matmul, || self.inner.matmul_add(a, weights, residual))
    }

    fn rope_append(
        &self,
        q: &mut Self::Hidden,
        k: Self::Hidden,
        v: Self::Hidden,
        head_norms: Option<[Norm<'_, Self::Gain>; 2]>,
        rotations: &Self::Rotations,
        cache: &mut Self::Cache,
        layer: usize,
    ) -> Result<()> {
        self.clock.time(Part::RopeAppend, || {
            self.inner
                .rope_append(q, k, v, head_norms, rotations, cache, layer)
        })
    }

    fn attention(
        &self,
        q: &Self::Hidden,
        cache: &Self::Cache,
        layer: usize,
    ) -> Result<Self::Hidden> {
        self.clock
            .time(Part::Attention, || self.inner.attention(q, cache, layer))
    }

    fn gate_norm_quantize(
        &self,
        gate: Self::Hidden,
        up: Self::Hidden,
        function: Gate,
        norm: Option<Norm<'_, Self::Gain>>,
        activations: Activations,
    ) -> Result<Self::Activation> {
        self.clock.time(Part::Gate, || {
            self.inner
                .gate_norm_quantize(gate, up, function, norm, activations)
        })
    }

    fn head(
        &self,
        x: &Self::Hidden,
        first: usize,
        norm: Norm<'_, Self::Gain>,
        table: &Self::Table,
    ) -> Result<Pending<Vec<f32>>> {
        self.clock
            .time(Part::Head, || self.inner.head(x, first, norm, table))
    }

    fn head_top(
        &self,
        x: &Self::Hidden,
        first: usize,
        norm: Norm<'_, Self::Gain>,
        table: &Self::Table,
        top: &Top<'_>,
        cache: &mut Self::Cache,
    ) -> Result<Pending<Vec<Vec<Candidate>>>> {
        self.clock.time(Part::Head, || {
            self.inner.head_top(x, first, norm, table, top, cache)
        })
    }

    fn run(&self, x: Self::Hidden) -> Result<()> {
        self.inner.run(x)
    }

    fn runs_ahead(&self) -> bool {
        self.inner.runs_ahead()
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

#[cfg(test)]
mod tests {
    use super::*;
    use bitnet::file::synth::{self, SynthOptions};
    use bitnet::file::{Bytes, ModelFile};
    use bitnet::{Model, ModelOptions, Want};
    use bitnet_core::cpu::CpuBackend;

    #[test]
    fn a_timed_model_gives_the_same_logits_and_every_part_takes_time() {
        let bytes = synth::to_vec(&SynthOptions::default()).unwrap();
        let file = ModelFile::parse("tiny", Bytes::from(bytes)).unwrap();
        let options = ModelOptions::default();
        let logits = |model: Model| {
            let mut session = model.session().unwrap();
            session.forward(&[1, 2, 3], Want::Last).unwrap()
        };
        let plain = logits(Model::from_file(&file, &options, |_, _| ()).unwrap());
        let backend = Timed::new(CpuBackend::new(None, None).unwrap());
        let clock = backend.clock();
        let model = Model::from_file_on(&file, backend, &options, |_, _| ()).unwrap();
        assert!(logits(model) == plain);
        for part in Part::ALL {
            assert!(clock.spent(part) > Duration::ZERO, "{}", part.name());
        }
        clock.reset();
        assert!(
            Part::ALL
                .iter()
                .all(|part| clock.spent(*part) == Duration::ZERO)
        );
    }
}
