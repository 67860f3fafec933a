//! Weights of a model's sublayers, as data.
//!
//! A model is an embedding, layers of a mixer and a feed-forward sublayer each, and a language-model head. A sublayer is
//! handed to a backend whole: its widths are checked once, here, and the backend decides how its parts are fused.
//! Each sublayer adds its result to the rows that it is given.

mod delta_net;
mod experts;
mod rotation;

pub use delta_net::{DeltaHeads, DeltaNetWeights};
pub use experts::ExpertsWeights;
pub use rotation::{Regroup, Rotation};

use crate::head::LmHeadMode;
use crate::{Error, Result, Rope, WeightMatrix};
use std::sync::Arc;

/// Treatment of activations before a ternary matrix multiplies them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activations {
    /// Rounded to int8 per token by their largest magnitude, as ternary models are trained.
    #[default]
    Int8,
    /// Rounded to int8 per [`GROUP`](Self::GROUP) columns of a token by the largest magnitude of these, behind a rotation.
    /// Processors multiply what is rounded as f32: as slow as [`F32`](Self::F32); for judging the rounding per token.
    Int8Groups,
    /// Left as f32: slower, free of rounding; for comparing implementations.
    F32,
}

impl Activations {
    /// Columns that [`Int8Groups`](Self::Int8Groups) rounds by one scale.
    pub const GROUP: usize = 128;

    /// Refuses rounding per group, for a backend that has none.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it is asked for; `backend` says who refuses it.
    pub fn without_groups(self, backend: &str) -> Result<()> {
        if self != Self::Int8Groups {
            return Ok(());
        }
        Err(Error::Unavailable {
            what: "activations rounded to int8 per group".into(),
            why: format!("not on {backend}: use --device cpu"),
        })
    }
}

/// The function on the gate before it multiplies the up projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// max(x, 0)².
    Relu2,
    /// x / (1 + e⁻ˣ).
    Silu,
    /// x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³))).
    Gelu,
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

/// A matrix and what happens to the rows that it multiplies.
#[derive(Debug, Clone)]
pub struct Projection {
    /// Applied to the rows first.
    pub norm: Option<NormWeights>,
    /// Applied to the rows next: the one that the matrix was rotated by. Projections that share it share the rotated rows.
    pub rotation: Option<Arc<Rotation>>,
    /// Multiplies the rows, rounded as the sublayer's [`Activations`] say.
    pub matrix: WeightMatrix,
}

impl From<WeightMatrix> for Projection {
    /// A matrix that multiplies rows as they are.
    fn from(matrix: WeightMatrix) -> Self {
        Self {
            norm: None,
            rotation: None,
            matrix,
        }
    }
}

impl Projection {
    /// The matrix, for a backend that norms the rows of several projections once.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the projection has a norm of its own or is rotated; `backend` says who refuses it.
    pub fn plain_matrix(self, backend: &str) -> Result<WeightMatrix> {
        self.without_rotation(backend)?;
        match self.norm {
            None => Ok(self.matrix),
            Some(norm) => Err(unavailable(&norm.name, backend)),
        }
    }

    /// Refuses a rotated projection, for a backend that rotates nothing.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it is one; `backend` says who refuses it.
    pub fn without_rotation(&self, backend: &str) -> Result<()> {
        unrotated(self.matrix.name(), self.rotation.as_deref(), backend)
    }

    /// Whether the rows that both multiply are the same, if they are made of the same.
    pub fn shares_rows(&self, other: &Self) -> bool {
        let same = match (&self.rotation, &other.rotation) {
            (None, None) => true,
            (Some(one), Some(two)) => Arc::ptr_eq(one, two),
            (Some(_), None) | (None, Some(_)) => false,
        };
        same && self.norm.is_none() && other.norm.is_none()
    }

    fn check(&self, rows: usize, cols: usize) -> Result<()> {
        check_norm(self.norm.as_ref(), cols)?;
        if let Some(rotation) = &self.rotation {
            rotation.check(self.matrix.name(), cols)?;
        }
        check_matrix(&self.matrix, rows, cols)
    }
}

/// Refuses a rotation, for a backend that rotates nothing.
///
/// # Errors
/// [`Error::Unavailable`] if there is one; `backend` says who refuses it.
pub fn unrotated(matrix: &str, rotation: Option<&Rotation>, backend: &str) -> Result<()> {
    if rotation.is_none() {
        return Ok(());
    }
    Err(Error::Unavailable {
        what: format!("{matrix}, whose columns are rotated"),
        why: format!("not on {backend}: use --device cpu"),
    })
}

/// Refuses the output norm of a sublayer, for a backend that has none.
///
/// # Errors
/// [`Error::Unavailable`] if there is one; `backend` says who refuses it.
pub fn without_output_norm(norm: Option<&NormWeights>, backend: &str) -> Result<()> {
    norm.map_or(Ok(()), |norm| Err(unavailable(&norm.name, backend)))
}

/// Refuses a scale of the embedding, for a backend that has none.
///
/// # Errors
/// [`Error::Unavailable`] if it is not 1; `backend` says who refuses it.
pub fn unscaled(scale: f32, backend: &str) -> Result<()> {
    if scale == 1.0 {
        return Ok(());
    }
    Err(Error::Unavailable {
        what: format!("an embedding multiplied by {scale}"),
        why: format!("not on {backend}: use --device cpu"),
    })
}

fn unavailable(norm: &str, backend: &str) -> Error {
    Error::Unavailable {
        what: format!("the norm {norm}"),
        why: format!(
            "on {backend} rows are normed before a sublayer and before its last matrix alone: use --device cpu"
        ),
    }
}

/// Refuses attention whose queries and keys do not rotate, for a backend that rotates all.
///
/// # Errors
/// [`Error::Unavailable`] if there is no rotation; `backend` says who refuses it.
pub fn rotating(rope: Option<Rope>, query: &str, backend: &str) -> Result<Rope> {
    rope.ok_or_else(|| Error::Unavailable {
        what: format!("attention without rotary positions ({query})"),
        why: format!("not on {backend}: use --device cpu"),
    })
}

/// Causal softmax attention: norm → query, key, value → head norms → RoPE → softmax(q·k / √dim)·v → output → output norm.
#[derive(Debug, Clone)]
pub struct AttentionWeights {
    /// Widths.
    pub heads: AttentionHeads,
    /// Rotation of queries and keys; none where positions are told apart by their order alone (maple's global layers).
    pub rope: Option<Rope>,
    /// Positions that a row attends to, its own and those before it; all without a window.
    pub window: Option<usize>,
    /// Rounding of the rows that its matrices multiply.
    pub activations: Activations,
    /// Of the rows that query, key and value multiply.
    pub norm: Option<NormWeights>,
    /// Whether `query` has a gate behind each head's rows: the sigmoid of what it gives multiplies what the head attended to
    /// (qwen35).
    pub gated: bool,
    /// `[query heads · dim, hidden]`, or `[query heads · 2 · dim, hidden]` with gates.
    pub query: Projection,
    /// `[kv heads · dim, hidden]`.
    pub key: Projection,
    /// `[kv heads · dim, hidden]`.
    pub value: Projection,
    /// Of each head of queries and of keys, before they rotate (qwen3).
    pub head_norms: Option<[NormWeights; 2]>,
    /// `[hidden, query heads · dim]`; its norm is bitnet's `attn_sub_norm`.
    pub output: Projection,
    /// Of the result, before it is added (gemma3's `post_attention_norm`).
    pub output_norm: Option<NormWeights>,
}

impl AttentionWeights {
    /// Refuses parts that do not fit each other.
    ///
    /// # Errors
    /// [`Error::Shape`] that names the part, [`Error::Value`] for a norm weight that is not finite.
    pub fn check(&self) -> Result<()> {
        self.heads.check()?;
        let (hidden, heads) = (self.query.matrix.cols(), self.heads);
        check_norm(self.norm.as_ref(), hidden)?;
        let query_rows = heads.query_width() * if self.gated { 2 } else { 1 };
        self.query.check(query_rows, hidden)?;
        self.key.check(heads.kv_width(), hidden)?;
        self.value.check(heads.kv_width(), hidden)?;
        check_norm(self.output_norm.as_ref(), hidden)?;
        for norm in self.head_norms.iter().flatten() {
            norm.check(heads.dim)?;
        }
        if let Some(rope) = self.rope.as_ref().filter(|rope| rope.dims > heads.dim) {
            return Err(Error::Shape {
                what: "rotating columns of a head".into(),
                expected: format!("at most {}", heads.dim),
                found: rope.dims.to_string(),
            });
        }
        if self.window == Some(0) {
            return Err(Error::Shape {
                what: format!("{}: window of attention", self.query.matrix.name()),
                expected: "at least 1 position".into(),
                found: "0".into(),
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
    /// A gated delta net.
    DeltaNet(DeltaNetWeights),
}

impl MixerWeights {
    /// The weights of plain attention, for a backend that has no other mixer.
    ///
    /// # Errors
    /// [`Error::Unavailable`] for a delta net, and for gated attention or a window; `backend` says who refuses it.
    pub fn into_attention(self, backend: &str) -> Result<AttentionWeights> {
        let what = match self {
            Self::Attention(weights) if weights.gated => {
                format!("gated attention ({})", weights.query.matrix.name())
            }
            Self::Attention(AttentionWeights {
                window: Some(window),
                query,
                ..
            }) => format!(
                "attention in a window of {window} ({})",
                query.matrix.name()
            ),
            Self::Attention(weights) => return Ok(weights),
            Self::DeltaNet(weights) => format!("a delta net ({})", weights.mixed.matrix.name()),
        };
        Err(Error::Unavailable {
            what,
            why: format!("not on {backend}: use --device cpu"),
        })
    }

    /// The state that it keeps of a sequence.
    pub const fn state(&self) -> MixerState {
        match self {
            Self::Attention(weights) => match weights.window {
                None => MixerState::KeysValues(weights.heads),
                Some(window) => MixerState::Window(weights.heads, window),
            },
            Self::DeltaNet(weights) => MixerState::Recurrent(weights.heads),
        }
    }

    /// Columns of the rows.
    pub fn hidden(&self) -> usize {
        match self {
            Self::Attention(weights) => weights.query.matrix.cols(),
            Self::DeltaNet(weights) => weights.mixed.matrix.cols(),
        }
    }

    /// Its matrices.
    pub fn matrices(&self) -> Vec<&WeightMatrix> {
        match self {
            Self::Attention(weights) => vec![
                &weights.query.matrix,
                &weights.key.matrix,
                &weights.value.matrix,
                &weights.output.matrix,
            ],
            Self::DeltaNet(weights) => weights.matrices(),
        }
    }
}

/// State that the mixer of one layer keeps of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MixerState {
    /// A key and a value of each kv head for every position.
    KeysValues(AttentionHeads),
    /// A key and a value of each kv head for every position, of which a row attends to so many last ones. The CPU keeps those and
    /// some before them, to which a sequence can go back.
    Window(AttentionHeads, usize),
    /// A matrix of each value head, and the last rows of a convolution: as much for every number of positions.
    Recurrent(DeltaHeads),
}

impl MixerState {
    /// The heads of keys and values, for a backend that keeps nothing else.
    ///
    /// # Errors
    /// [`Error::Unavailable`] for another state; `backend` says who refuses it.
    pub fn keys_values(&self, backend: &str) -> Result<&AttentionHeads> {
        match self {
            Self::KeysValues(heads) => Ok(heads),
            other => Err(Error::Unavailable {
                what: match other {
                    Self::Recurrent(_) => "the state of a delta net".into(),
                    _ => "keys and values of a window".into(),
                },
                why: format!("not on {backend}: use --device cpu"),
            }),
        }
    }
}

/// A dense gated feed-forward sublayer: norm → gate, up → function(gate) · up → down → output norm.
#[derive(Debug, Clone)]
pub struct GatedWeights {
    /// On the gate.
    pub function: Gate,
    /// Rounding of the rows that its matrices multiply.
    pub activations: Activations,
    /// Of the rows that gate and up multiply.
    pub norm: Option<NormWeights>,
    /// `[feed-forward, hidden]`.
    pub gate: Projection,
    /// `[feed-forward, hidden]`.
    pub up: Projection,
    /// `[hidden, feed-forward]`; its norm is bitnet's `ffn_sub_norm`.
    pub down: Projection,
    /// Of the result, before it is added (gemma3's `post_ffw_norm`).
    pub output_norm: Option<NormWeights>,
}

impl GatedWeights {
    /// Refuses parts that do not fit each other.
    ///
    /// # Errors
    /// [`Error::Shape`] that names the part, [`Error::Value`] for a norm weight that is not finite.
    pub fn check(&self) -> Result<()> {
        let (hidden, feed_forward) = (self.gate.matrix.cols(), self.gate.matrix.rows());
        check_norm(self.norm.as_ref(), hidden)?;
        self.gate.check(feed_forward, hidden)?;
        self.up.check(feed_forward, hidden)?;
        check_norm(self.output_norm.as_ref(), hidden)?;
        self.down.check(hidden, feed_forward)
    }

    /// Its matrices.
    pub fn matrices(&self) -> Vec<&WeightMatrix> {
        vec![&self.gate.matrix, &self.up.matrix, &self.down.matrix]
    }
}

/// A sublayer that works on each row alone.
#[derive(Debug, Clone)]
pub enum FeedForwardWeights {
    /// Three matrices that every row meets.
    Gated(GatedWeights),
    /// A mixture of experts.
    Experts(ExpertsWeights),
}

impl FeedForwardWeights {
    /// The weights of a dense sublayer, for a backend that has no other.
    ///
    /// # Errors
    /// [`Error::Unavailable`] for a mixture of experts; `backend` says who refuses it.
    pub fn into_gated(self, backend: &str) -> Result<GatedWeights> {
        match self {
            Self::Gated(weights) => Ok(weights),
            Self::Experts(weights) => Err(Error::Unavailable {
                what: format!("a mixture of experts ({})", weights.gate.name()),
                why: format!("not on {backend}: use --device cpu"),
            }),
        }
    }

    /// Its matrices.
    pub fn matrices(&self) -> Vec<&WeightMatrix> {
        match self {
            Self::Gated(weights) => weights.matrices(),
            Self::Experts(weights) => weights.matrices(),
        }
    }
}

/// The embedding and the language-model head, which may share a table.
#[derive(Debug, Clone)]
pub struct VocabularyWeights {
    /// `[vocabulary, hidden]`.
    pub embedding: WeightMatrix,
    /// Multiplies the rows of the embedding, not those of the head (gemma3: √hidden); 1 leaves them alone.
    pub embedding_scale: f32,
    /// The rotation that the rows of the embedding are stored with, and that is undone when they are looked up. A head that is the
    /// embedding multiplies rows that are rotated by it.
    pub embedding_rotation: Option<Arc<Rotation>>,
    /// Of the rows that the head multiplies.
    pub norm: NormWeights,
    /// Of the rows that a head of its own multiplies.
    pub head_rotation: Option<Arc<Rotation>>,
    /// Rounding of the rows that a ternary head multiplies on processors. Other heads multiply f32, and on GPUs all do.
    pub activations: Activations,
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
        if !self.embedding_scale.is_finite() {
            return Err(Error::Value {
                what: format!("the scale of {}", self.embedding.name()),
                expected: "a finite number".into(),
                found: self.embedding_scale.to_string(),
            });
        }
        let name = self.embedding.name();
        for rotation in self.embedding_rotation.iter().chain(&self.head_rotation) {
            rotation.check(name, self.embedding.cols())?;
            if rotation.regroup.is_some() {
                return Err(Error::Shape {
                    what: format!("{name}: heads of the rotation"),
                    expected: "none: rows of a vocabulary have no heads".into(),
                    found: format!("{:?}", rotation.regroup),
                });
            }
        }
        match &self.head {
            None => Ok(()),
            Some(head) => check_matrix(head, self.embedding.rows(), self.embedding.cols()),
        }
    }
}
