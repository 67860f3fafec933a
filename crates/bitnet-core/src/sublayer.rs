//! Weights of a model's sublayers, as data.
//!
//! A model is an embedding, layers of a mixer and a feed-forward sublayer each, and a language-model head. A sublayer is
//! handed to a backend whole: its widths are checked once, here, and the backend decides how its parts are fused.
//! Each sublayer adds its result to the rows that it is given.

use crate::head::LmHeadMode;
use crate::{Error, Result, Rope, WeightMatrix};

/// Treatment of activations before a ternary matrix multiplies them.
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

/// Widths of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionHeads {
    /// Query heads.
    pub query: usize,
    /// Key and value heads; divides `query`.
    pub kv: usize,
    /// Width of one head.
    pub dim: usize,
}

impl AttentionHeads {
    /// Columns of the queries of one token.
    pub const fn query_width(self) -> usize {
        self.query.saturating_mul(self.dim)
    }

    /// Columns of the keys, or of the values, of one token.
    pub const fn kv_width(self) -> usize {
        self.kv.saturating_mul(self.dim)
    }

    /// Refuses heads that no state can be made for.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are none, or `kv` does not divide `query`.
    pub fn check(self) -> Result<()> {
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

/// RMSNorm: x / √(mean(x²) + eps) · weight.
#[derive(Debug, Clone, PartialEq)]
pub struct NormWeights {
    /// Name of the tensor, for error messages.
    pub name: String,
    /// One factor per column.
    pub weight: Vec<f32>,
    /// Added to the mean square.
    pub eps: f32,
}

impl NormWeights {
    /// Refuses a norm that does not fit rows of `width` columns.
    ///
    /// # Errors
    /// [`Error::Shape`] for another width, [`Error::Value`] for a weight that is not finite.
    pub fn check(&self, width: usize) -> Result<()> {
        if self.weight.len() != width {
            return Err(Error::Shape {
                what: self.name.clone(),
                expected: format!("width {width}"),
                found: format!("width {}", self.weight.len()),
            });
        }
        match self.weight.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(index) => Err(Error::Value {
                what: format!("{}: norm weight {index}", self.name),
                expected: "a finite number".into(),
                found: self.weight[index].to_string(),
            }),
        }
    }
}

fn check_norm(norm: Option<&NormWeights>, width: usize) -> Result<()> {
    norm.map_or(Ok(()), |norm| norm.check(width))
}

fn check_matrix(matrix: &WeightMatrix, rows: usize, cols: usize) -> Result<()> {
    if (matrix.rows(), matrix.cols()) == (rows, cols) {
        return Ok(());
    }
    Err(Error::Shape {
        what: matrix.name().into(),
        expected: format!("{rows}×{cols}"),
        found: format!("{}×{}", matrix.rows(), matrix.cols()),
    })
}

/// A matrix and the norm of the rows that it multiplies.
#[derive(Debug, Clone)]
pub struct Projection {
    /// Applied to the rows first.
    pub norm: Option<NormWeights>,
    /// Multiplies the rows, rounded as the sublayer's [`Activations`] say.
    pub matrix: WeightMatrix,
}

impl Projection {
    fn check(&self, rows: usize, cols: usize) -> Result<()> {
        check_norm(self.norm.as_ref(), cols)?;
        check_matrix(&self.matrix, rows, cols)
    }
}

/// Causal softmax attention: norm → query, key, value → head norms → RoPE → softmax(q·k / √dim)·v → output.
#[derive(Debug, Clone)]
pub struct AttentionWeights {
    /// Widths.
    pub heads: AttentionHeads,
    /// Rotation of queries and keys.
    pub rope: Rope,
    /// Rounding of the rows that its matrices multiply.
    pub activations: Activations,
    /// Of the rows that query, key and value multiply.
    pub norm: Option<NormWeights>,
    /// `[query heads · dim, hidden]`.
    pub query: WeightMatrix,
    /// `[kv heads · dim, hidden]`.
    pub key: WeightMatrix,
    /// `[kv heads · dim, hidden]`.
    pub value: WeightMatrix,
    /// Of each head of queries and of keys, before they rotate (qwen3).
    pub head_norms: Option<[NormWeights; 2]>,
    /// `[hidden, query heads · dim]`; its norm is bitnet's `attn_sub_norm`.
    pub output: Projection,
}

impl AttentionWeights {
    /// Refuses parts that do not fit each other.
    ///
    /// # Errors
    /// [`Error::Shape`] that names the part, [`Error::Value`] for a norm weight that is not finite.
    pub fn check(&self) -> Result<()> {
        self.heads.check()?;
        let (hidden, heads) = (self.query.cols(), self.heads);
        check_norm(self.norm.as_ref(), hidden)?;
        check_matrix(&self.query, heads.query_width(), hidden)?;
        check_matrix(&self.key, heads.kv_width(), hidden)?;
        check_matrix(&self.value, heads.kv_width(), hidden)?;
        for norm in self.head_norms.iter().flatten() {
            norm.check(heads.dim)?;
        }
        if self.rope.dims > heads.dim {
            return Err(Error::Shape {
                what: "rotating columns of a head".into(),
                expected: format!("at most {}", heads.dim),
                found: self.rope.dims.to_string(),
            });
        }
        self.output.check(hidden, heads.query_width())
    }
}

/// A sublayer that mixes the rows of a sequence.
#[derive(Debug, Clone)]
pub enum MixerWeights {
    /// Softmax attention over all earlier positions.
    Attention(AttentionWeights),
}

impl MixerWeights {
    /// The state that it keeps of a sequence.
    pub const fn state(&self) -> MixerState {
        match self {
            Self::Attention(weights) => MixerState::KeysValues(weights.heads),
        }
    }

    /// Columns of the rows.
    pub fn hidden(&self) -> usize {
        match self {
            Self::Attention(weights) => weights.query.cols(),
        }
    }

    /// Its matrices.
    pub fn matrices(&self) -> Vec<&WeightMatrix> {
        match self {
            Self::Attention(weights) => vec![
                &weights.query,
                &weights.key,
                &weights.value,
                &weights.output.matrix,
            ],
        }
    }
}

/// State that the mixer of one layer keeps of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MixerState {
    /// A key and a value of each kv head for every position.
    KeysValues(AttentionHeads),
}

/// A dense gated feed-forward sublayer: norm → gate, up → function(gate) · up → down.
#[derive(Debug, Clone)]
pub struct GatedWeights {
    /// On the gate.
    pub function: Gate,
    /// Rounding of the rows that its matrices multiply.
    pub activations: Activations,
    /// Of the rows that gate and up multiply.
    pub norm: Option<NormWeights>,
    /// `[feed-forward, hidden]`.
    pub gate: WeightMatrix,
    /// `[feed-forward, hidden]`.
    pub up: WeightMatrix,
    /// `[hidden, feed-forward]`; its norm is bitnet's `ffn_sub_norm`.
    pub down: Projection,
}

impl GatedWeights {
    /// Refuses parts that do not fit each other.
    ///
    /// # Errors
    /// [`Error::Shape`] that names the part, [`Error::Value`] for a norm weight that is not finite.
    pub fn check(&self) -> Result<()> {
        let (hidden, feed_forward) = (self.gate.cols(), self.gate.rows());
        check_norm(self.norm.as_ref(), hidden)?;
        check_matrix(&self.up, feed_forward, hidden)?;
        self.down.check(hidden, feed_forward)
    }
}

/// A sublayer that works on each row alone.
#[derive(Debug, Clone)]
pub enum FeedForwardWeights {
    /// Three matrices that every row meets.
    Gated(GatedWeights),
}

impl FeedForwardWeights {
    /// Its matrices.
    pub fn matrices(&self) -> Vec<&WeightMatrix> {
        match self {
            Self::Gated(weights) => vec![&weights.gate, &weights.up, &weights.down.matrix],
        }
    }
}

/// The embedding and the language-model head, which may share a table.
#[derive(Debug, Clone)]
pub struct VocabularyWeights {
    /// `[vocabulary, hidden]`.
    pub embedding: WeightMatrix,
    /// Of the rows that the head multiplies.
    pub norm: NormWeights,
    /// `[vocabulary, hidden]`, where it is not the embedding.
    pub head: Option<WeightMatrix>,
    /// The way to the likeliest tokens.
    pub mode: LmHeadMode,
}

impl VocabularyWeights {
    /// Refuses parts that do not fit each other.
    ///
    /// # Errors
    /// [`Error::Shape`] that names the part, [`Error::Value`] for a norm weight that is not finite.
    pub fn check(&self) -> Result<()> {
        self.norm.check(self.embedding.cols())?;
        match &self.head {
            None => Ok(()),
            Some(head) => check_matrix(head, self.embedding.rows(), self.embedding.cols()),
        }
    }
}
