//! The one interface between the transformer and the machines that can run it.
//!
//! Few, coarse, fused operations, so that a CPU can keep a row in registers and a GPU can record one command
//! buffer for a token. Rows are tokens; a batch of `n` tokens is `n` rows, and no result depends on how tokens
//! are batched.

use crate::head::{Candidate, HeadMode, HeadStats, Top};
use crate::{Error, HybridMemoryPool, Pending, Result, WeightMatrix};

/// What happens to activations before a ternary matrix multiplies them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activations {
    /// Rounded to int8 per token by their largest magnitude, as ternary models are trained.
    #[default]
    Int8,
    /// Left as f32: slower, free of rounding; for comparing implementations.
    F32,
}

/// The function on the gate before it multiplies the up projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// max(x, 0)².
    Relu2,
    /// x / (1 + e⁻ˣ).
    Silu,
}

/// Which elements of a head rotate together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopePairs {
    /// (i, i + d/2): "NeoX", Hugging Face.
    HalfSplit,
    /// (2i, 2i + 1): GGUF files of architecture `llama`.
    Interleaved,
}

/// Rotary position embedding of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Which elements pair.
    pub pairs: RopePairs,
    /// How many leading elements of a head rotate; even, at most the head's width.
    pub dims: usize,
    /// θ in θ^(−2i/dims).
    pub base: f32,
    /// Divisors of the frequencies, from a file (`rope_freqs.weight`) or from scaling (linear, YaRN, …): `dims / 2` of
    /// them, or empty for none.
    pub divisors: Vec<f32>,
    /// Multiplies cos and sin of the elements that rotate, in queries and in keys; 1 unless positions are scaled.
    pub magnitude: f32,
}

impl Rope {
    /// Radians per position of pair `pair`: θ^(−2·pair/dims), divided by its divisor. Computed in f64.
    pub fn frequency(&self, pair: usize) -> f64 {
        let exponent = -2.0 * pair as f64 / self.dims as f64;
        let divisor = self.divisors.get(pair).copied().unwrap_or(1.0);
        libm::pow(f64::from(self.base), exponent) / f64::from(divisor)
    }

    /// Divides the frequencies by `divisors` as well, `dims / 2` of them.
    pub fn divide(&mut self, divisors: &[f32]) {
        if self.divisors.is_empty() {
            self.divisors = divisors.to_vec();
        } else {
            let pairs = self.divisors.iter_mut().zip(divisors);
            pairs.for_each(|(divisor, other)| *divisor *= other);
        }
    }
}

/// Widths of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub query: usize,
    /// Key and value heads; divides `query`.
    pub kv: usize,
    /// Width of one head.
    pub dim: usize,
}

impl Heads {
    /// That a cache can be made for them.
    ///
    /// # Errors
    /// If there are none, or `kv` does not divide `query`.
    pub(crate) fn check(self) -> Result<()> {
        if self.kv > 0 && self.dim > 0 && self.query.is_multiple_of(self.kv) {
            return Ok(());
        }
        Err(Error::Shape {
            what: "attention heads".into(),
            expected: "query heads a whole multiple of kv heads".into(),
            found: format!("{} and {}, of width {}", self.query, self.kv, self.dim),
        })
    }
}

/// RMSNorm: x / √(mean(x²) + eps) · gain.
#[derive(Debug)]
pub struct Norm<'a, G> {
    /// One factor per column.
    pub gain: &'a G,
    /// Added to the mean square.
    pub eps: f32,
}

impl<G> Clone for Norm<'_, G> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<G> Copy for Norm<'_, G> {}

/// What a batch begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input<'a> {
    /// These tokens.
    Tokens(&'a [u32]),
    /// The one token that the last [`head_top`](Backend::head_top) of this cache found likeliest; it need not have left the
    /// device.
    Chosen,
}

impl Input<'_> {
    /// Tokens of the batch.
    pub const fn len(&self) -> usize {
        match self {
            Self::Tokens(tokens) => tokens.len(),
            Self::Chosen => 1,
        }
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A machine that can run a transformer.
///
/// `Hidden` is f32 `[tokens, width]`; `Activation` is such rows made ready for a matrix (normed, and quantized
/// as [`Activations`] says).
pub trait Backend: Send + Sync + 'static {
    /// A projection's weights, resident.
    type Matrix: Send + Sync;
    /// The embedding or the head, resident.
    type Table: Send + Sync;
    /// A norm's gains, resident.
    type Gain: Send + Sync;
    /// f32 rows.
    type Hidden: Send;
    /// Rows ready to be multiplied.
    type Activation: Send;
    /// Keys and values of one session, all layers.
    type Cache: Send;
    /// Rotations of a run of positions.
    type Rotations: Send;

    /// One line for people: device, instruction set, threads.
    fn describe(&self) -> String;
    /// Where its host memory comes from.
    fn pool(&self) -> &HybridMemoryPool;
    /// Runs `work`, which calls the other operations, where they are cheapest to call from.
    fn scope<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        work()
    }

    /// Makes a projection resident.
    ///
    /// # Errors
    /// If the format has no kernel here, a weight is no ternary code or finite number, or memory is short.
    fn matrix(&self, weights: WeightMatrix) -> Result<Self::Matrix>;
    /// Makes an embedding table or head resident.
    ///
    /// # Errors
    /// As for [`matrix`](Self::matrix).
    fn table(&self, weights: WeightMatrix) -> Result<Self::Table>;
    /// Makes a head resident that will be asked for its likeliest tokens in the way of `mode`.
    ///
    /// # Errors
    /// As for [`matrix`](Self::matrix).
    fn head_table(&self, weights: WeightMatrix, mode: HeadMode) -> Result<Self::Table>;
    /// Makes norm gains resident.
    ///
    /// # Errors
    /// If a gain is not finite, or memory is short.
    fn gain(&self, values: Vec<f32>) -> Result<Self::Gain>;

    /// An empty cache for up to `capacity` tokens.
    ///
    /// # Errors
    /// If memory is short.
    fn cache(&self, layers: usize, heads: Heads, capacity: usize) -> Result<Self::Cache>;
    /// The sizes of batches that a model runs once when it is loaded, in caches of [`rehearsal`](Self::rehearsal), so that
    /// what they need is compiled before anybody waits for it.
    fn rehearsals(&self) -> &'static [usize] {
        &[]
    }
    /// A cache whose batches are prepared and not run; what they answer never comes.
    ///
    /// # Errors
    /// If memory is short.
    fn rehearsal(&self, layers: usize, heads: Heads, capacity: usize) -> Result<Self::Cache> {
        self.cache(layers, heads, capacity)
    }
    /// Told when all rehearsals are over.
    fn rehearsed(&self) {}
    /// Forgets the tokens from `len` on.
    fn truncate(&self, cache: &mut Self::Cache, len: usize);
    /// Bytes the cache holds now.
    fn cache_bytes(&self, cache: &Self::Cache) -> usize;
    /// The keys and the values that `layer` holds, for a file that outlives the session: f32 rows in the order of their
    /// positions, `[position][kv head][dim]` each.
    ///
    /// # Errors
    /// If there is no such layer, memory is short, or the backend cannot tell.
    fn read_layer(&self, cache: &Self::Cache, layer: usize) -> Result<[Vec<f32>; 2]> {
        let _ = (cache, layer);
        Err(Error::Unavailable {
            what: "what a session has read".into(),
            why: format!("{} does not hand it out", self.describe()),
        })
    }
    /// Appends to `layer` what [`read_layer`](Self::read_layer) of an equal model gave. What follows has the same bits as it
    /// would have had there.
    ///
    /// # Errors
    /// If widths differ, the cache is full, memory is short, or the backend cannot do it.
    fn restore_layer(
        &self,
        cache: &mut Self::Cache,
        layer: usize,
        keys: &[f32],
        values: &[f32],
    ) -> Result<()> {
        let _ = (cache, layer, keys, values);
        Err(Error::Unavailable {
            what: "going on where a session ended".into(),
            why: format!("{} does not take over keys and values", self.describe()),
        })
    }
    /// The rotations of `count` positions from `first`.
    ///
    /// # Errors
    /// If memory is short.
    fn rotations(&self, rope: &Rope, first: usize, count: usize) -> Result<Self::Rotations>;

    /// The rows of `table` for `input`, which will be appended to `cache`: `[tokens, width]`.
    ///
    /// # Errors
    /// If a token is past the table's last row; for [`Input::Chosen`] if the backend does not
    /// [run ahead](Self::runs_ahead) or nothing was chosen yet.
    fn embed(
        &self,
        table: &Self::Table,
        input: Input<'_>,
        cache: &Self::Cache,
    ) -> Result<Self::Hidden>;
    /// Norms (if asked) and quantizes rows.
    ///
    /// # Errors
    /// If widths differ.
    fn norm_quantize(
        &self,
        x: &Self::Hidden,
        norm: Option<Norm<'_, Self::Gain>>,
        activations: Activations,
    ) -> Result<Self::Activation>;
    /// Multiplies the rows by each matrix: one `[tokens, rows]` result for each.
    ///
    /// # Errors
    /// If widths differ.
    fn matmul(&self, a: &Self::Activation, weights: &[&Self::Matrix]) -> Result<Vec<Self::Hidden>>;
    /// Multiplies the rows by a matrix and adds the product to `residual`.
    ///
    /// # Errors
    /// If widths differ.
    fn matmul_add(
        &self,
        a: &Self::Activation,
        weights: &Self::Matrix,
        residual: &mut Self::Hidden,
    ) -> Result<()>;
    /// Norms each head of `q` and `k` (if asked), rotates both, and appends `k` and `v` to the cache of `layer`.
    ///
    /// # Errors
    /// If widths differ or the cache is full.
    #[expect(clippy::too_many_arguments, reason = "one fused step of attention")]
    fn rope_append(
        &self,
        q: &mut Self::Hidden,
        k: Self::Hidden,
        v: Self::Hidden,
        head_norms: Option<[Norm<'_, Self::Gain>; 2]>,
        rotations: &Self::Rotations,
        cache: &mut Self::Cache,
        layer: usize,
    ) -> Result<()>;
    /// Causal attention of the last rows appended to `layer`: `[tokens, heads · dim]`.
    ///
    /// # Errors
    /// If widths differ.
    fn attention(
        &self,
        q: &Self::Hidden,
        cache: &Self::Cache,
        layer: usize,
    ) -> Result<Self::Hidden>;
    /// How much each query head of the last row attends to each position of `layer`: `[query heads, positions]`, rows that
    /// sum to 1. For looking at; [`attention`](Self::attention) keeps no such thing.
    ///
    /// # Errors
    /// If widths differ, or the backend cannot tell.
    fn attention_weights(
        &self,
        q: &Self::Hidden,
        cache: &Self::Cache,
        layer: usize,
    ) -> Result<Vec<f32>> {
        let _ = (q, cache, layer);
        Err(Error::Unavailable {
            what: "the weights of attention".into(),
            why: format!("{} does not show them", self.describe()),
        })
    }
    /// gate(g) · up, then norm (if asked) and quantization.
    ///
    /// # Errors
    /// If widths differ.
    fn gate_norm_quantize(
        &self,
        gate: Self::Hidden,
        up: Self::Hidden,
        function: Gate,
        norm: Option<Norm<'_, Self::Gain>>,
        activations: Activations,
    ) -> Result<Self::Activation>;
    /// Norms the rows `first..` and multiplies them by the head: `[rows, vocabulary]` logits.
    ///
    /// # Errors
    /// If widths differ, or memory is short.
    fn head(
        &self,
        x: &Self::Hidden,
        first: usize,
        norm: Norm<'_, Self::Gain>,
        table: &Self::Table,
    ) -> Result<Pending<Vec<f32>>>;
    /// The likeliest tokens after each of the rows `first..`, as [`Top::of_logits`] finds them in the rows of
    /// [`head`](Self::head). The likeliest after the last row is the cache's [`Input::Chosen`] from now on.
    ///
    /// # Errors
    /// As for [`head`](Self::head).
    fn head_top(
        &self,
        x: &Self::Hidden,
        first: usize,
        norm: Norm<'_, Self::Gain>,
        table: &Self::Table,
        top: &Top<'_>,
        cache: &mut Self::Cache,
    ) -> Result<Pending<Vec<Vec<Candidate>>>>;
    /// Runs what was recorded for `x`, of which nothing more is asked. A CPU has done it already.
    ///
    /// # Errors
    /// If the device refuses it.
    fn run(&self, x: Self::Hidden) -> Result<()> {
        drop(x);
        Ok(())
    }
    /// Whether [`Input::Chosen`] works, so that the next token can be begun before this one is known.
    fn runs_ahead(&self) -> bool {
        false
    }
    /// Bytes that a product with `matrix` reads of it.
    fn matrix_bytes(&self, matrix: &Self::Matrix) -> usize;
    /// Bytes of `table` that [`head_top`](Self::head_top) reads of it whatever the row.
    fn head_bytes(&self, table: &Self::Table) -> usize;
    /// What screening saved so far; `None` for a table that is not screened.
    fn head_stats(&self, table: &Self::Table) -> Option<HeadStats>;
}
