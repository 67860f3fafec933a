//! From the tensors of a file to a transformer on a backend.
//!
//! Tensors are asked for by role, named as GGUF names them (`blk.0.attn_q`, `output_norm`, …); a [`Source`] finds
//! them in its file and checks their shapes.

use super::architecture::Architecture;
use super::transformer::{Layer, Transformer};
use crate::{Error, Result};
use bitnet_core::pool::Movement;
use bitnet_core::{Activations, Backend, HeadMode, HybridMemoryPool, WeightMatrix};

/// A file that holds the tensors of one model.
pub(crate) trait Source {
    /// The file's name.
    fn file(&self) -> &str;
    /// The matrix of a role, `rows × cols`, if the file has it. `None` for `rows` takes as many as there are. What must be
    /// repacked goes to memory of `pool`.
    fn matrix(
        &mut self,
        role: &str,
        rows: Option<usize>,
        cols: usize,
        pool: &HybridMemoryPool,
    ) -> Result<Option<WeightMatrix>>;
    /// The vector of a role, if the file has it.
    fn vector(&mut self, role: &str, len: usize) -> Result<Option<Vec<f32>>>;
    /// Whether a matrix that this source gave lies where the file does, and is no repacked copy.
    fn is_borrowed(&self, matrix: &WeightMatrix) -> bool;
    /// What the file calls the tensor of a role.
    fn tensor_name(&self, role: &str) -> String;
    /// Tensors nobody asked for, which a complete forward pass may not leave aside.
    fn unused(&self) -> Vec<String>;
}

/// Whether the rows of `matrix` are bytes of `tensor`, and not a copy.
pub(super) fn lies_in(matrix: &WeightMatrix, tensor: &[u8]) -> bool {
    tensor.as_ptr_range().contains(&matrix.data().as_ptr())
}

/// Makes every tensor that `architecture` needs resident on `backend`. Optional parts are those the file has.
/// `progress` is told the layers done, and their number with that of the rehearsals that follow.
///
/// # Errors
/// [`Error::Tensor`] for missing, misshapen or invalid tensors; [`Error::Unsupported`] if the file holds
/// tensors that the forward pass has no place for.
pub(crate) fn load<B: Backend>(
    source: &mut dyn Source,
    mut architecture: Architecture,
    backend: B,
    (activations, head_mode): (Activations, HeadMode),
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(Transformer<B>, Summary)> {
    let mut summary = Summary::default();
    let mut loader = Loader {
        source,
        backend: &backend,
        summary: &mut summary,
    };
    let (hidden, ffn) = (architecture.hidden, architecture.feed_forward);
    let heads = architecture.heads;
    let (attention, kv) = (heads.query * heads.dim, heads.kv * heads.dim);

    let half = architecture.rope.dims / 2;
    if let Some(divisors) = loader.vector("rope_freqs", half)? {
        let wrong = divisors
            .iter()
            .find(|divisor| !(**divisor > 0.0 && divisor.is_finite()));
        if let Some(wrong) = wrong {
            let name = loader.source.tensor_name("rope_freqs");
            let expected = "finite numbers above 0, which divide frequencies";
            return Err(Error::tensor(loader.source.file(), name, expected, wrong));
        }
        architecture.rope.divide(&divisors);
    }
    let embedding = loader.matrix("token_embd", None, hidden)?;
    loader.summary.vocabulary = embedding.rows();
    let vocabulary = Some(embedding.rows());
    let head = match loader.optional_matrix("output", vocabulary, hidden)? {
        Some(head) => Some(loader.head("output", head, head_mode)?),
        None => None,
    };
    let embedding = if head.is_some() {
        loader.resident("token_embd", embedding, B::table)?
    } else {
        loader.head("token_embd", embedding, head_mode)?
    };
    let output_norm = loader.gain("output_norm", hidden)?;

    let total = architecture.layers + backend.rehearsals().len();
    let mut layers = Vec::new();
    for index in 0..architecture.layers {
        progress(index, total);
        let role = |name: &str| format!("blk.{index}.{name}");
        let attention_sub_norm = loader.optional_gain(&role("attn_sub_norm"), attention)?;
        let feed_forward_sub_norm = loader.optional_gain(&role("ffn_sub_norm"), ffn)?;
        if attention_sub_norm.is_some() != feed_forward_sub_norm.is_some() {
            let missing = if attention_sub_norm.is_some() {
                "ffn_sub_norm"
            } else {
                "attn_sub_norm"
            };
            return Err(loader.missing(&role(missing)));
        }
        let head_norms = match (
            loader.optional_gain(&role("attn_q_norm"), heads.dim)?,
            loader.optional_gain(&role("attn_k_norm"), heads.dim)?,
        ) {
            (Some(q), Some(k)) => Some([q, k]),
            (None, None) => None,
            (Some(_), None) => return Err(loader.missing(&role("attn_k_norm"))),
            (None, Some(_)) => return Err(loader.missing(&role("attn_q_norm"))),
        };
        layers.push(Layer {
            attention_norm: loader.gain(&role("attn_norm"), hidden)?,
            query: loader.projection(&role("attn_q"), attention, hidden)?,
            key: loader.projection(&role("attn_k"), kv, hidden)?,
            value: loader.projection(&role("attn_v"), kv, hidden)?,
            head_norms,
            attention_sub_norm,
            output: loader.projection(&role("attn_output"), hidden, attention)?,
            feed_forward_norm: loader.gain(&role("ffn_norm"), hidden)?,
            gate: loader.projection(&role("ffn_gate"), ffn, hidden)?,
            up: loader.projection(&role("ffn_up"), ffn, hidden)?,
            feed_forward_sub_norm,
            down: loader.projection(&role("ffn_down"), hidden, ffn)?,
        });
    }
    progress(architecture.layers, total);
    if let Some(tensor) = source.unused().first() {
        return Err(Error::Unsupported {
            file: source.file().into(),
            what: format!(
                "tensor {tensor} of a model of architecture {}",
                architecture.name
            ),
            advice: "leaving it out would change the model's output; use a file without it".into(),
        });
    }
    let transformer = Transformer {
        backend,
        architecture,
        activations,
        embedding,
        layers,
        output_norm,
        head,
    };
    Ok((transformer, summary))
}

/// What was loaded.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Summary {
    /// Rows of the embedding.
    pub(crate) vocabulary: usize,
    /// Weights in all matrices.
    pub(crate) parameters: u64,
    /// Bytes of all matrices.
    pub(crate) bytes: u64,
    /// Those of them, or of what stands for them, that decoding a token reads.
    pub(crate) decode_bytes: u64,
}

struct Loader<'a, B: Backend> {
    source: &'a mut dyn Source,
    backend: &'a B,
    summary: &'a mut Summary,
}

impl<B: Backend> Loader<'_, B> {
    fn missing(&self, role: &str) -> Error {
        let name = self.source.tensor_name(role);
        Error::tensor(self.source.file(), name, "a tensor", "none in the file")
    }

    fn matrix(&mut self, role: &str, rows: Option<usize>, cols: usize) -> Result<WeightMatrix> {
        let matrix = self.optional_matrix(role, rows, cols)?;
        matrix.ok_or_else(|| self.missing(role))
    }

    fn optional_matrix(
        &mut self,
        role: &str,
        rows: Option<usize>,
        cols: usize,
    ) -> Result<Option<WeightMatrix>> {
        let pool = self.backend.pool();
        let matrix = self.source.matrix(role, rows, cols, pool)?;
        if let Some(matrix) = &matrix {
            let movement = if self.source.is_borrowed(matrix) {
                Movement::ZeroCopy
            } else {
                Movement::Copy
            };
            pool.zero_copy().record(movement, matrix.data().len());
        }
        Ok(matrix)
    }

    /// The numbers of a vector, which are few enough to be copied to f32.
    fn vector(&mut self, role: &str, len: usize) -> Result<Option<Vec<f32>>> {
        let values = self.source.vector(role, len)?;
        if let Some(values) = &values {
            let tracker = self.backend.pool().zero_copy();
            tracker.record(Movement::Copy, size_of_val(&values[..]));
        }
        Ok(values)
    }

    fn projection(&mut self, role: &str, rows: usize, cols: usize) -> Result<B::Matrix> {
        let matrix = self.matrix(role, Some(rows), cols)?;
        let matrix = self.resident(role, matrix, B::matrix)?;
        self.summary.decode_bytes += self.backend.matrix_bytes(&matrix) as u64;
        Ok(matrix)
    }

    /// Hands the head to the backend.
    fn head(&mut self, role: &str, matrix: WeightMatrix, mode: HeadMode) -> Result<B::Table> {
        let table = self.resident(role, matrix, |backend, matrix| {
            backend.head_table(matrix, mode)
        })?;
        self.summary.decode_bytes += self.backend.head_bytes(&table) as u64;
        Ok(table)
    }

    /// Hands a matrix to the backend; its complaint becomes one about the tensor.
    fn resident<R>(
        &mut self,
        role: &str,
        matrix: WeightMatrix,
        take: impl Fn(&B, WeightMatrix) -> Result<R, bitnet_core::Error>,
    ) -> Result<R> {
        self.summary.parameters += matrix.rows() as u64 * matrix.cols() as u64;
        self.summary.bytes += matrix.data().len() as u64;
        // Where the backend reads something else instead, it can give pages of a mapped file back.
        let matrix = if self.source.is_borrowed(&matrix) {
            matrix.with_reclaim(crate::file::map::give_back)
        } else {
            matrix
        };
        take(self.backend, matrix).map_err(|error| match error {
            bitnet_core::Error::Value {
                expected, found, ..
            } => Error::tensor(
                self.source.file(),
                self.source.tensor_name(role),
                expected,
                found,
            ),
            error => error.into(),
        })
    }

    fn optional_gain(&mut self, role: &str, len: usize) -> Result<Option<B::Gain>> {
        match self.vector(role, len)? {
            None => Ok(None),
            Some(values) => {
                let gain = self.backend.gain(values).map_err(|error| {
                    let name = self.source.tensor_name(role);
                    Error::tensor(self.source.file(), name, "finite gains", error)
                })?;
                Ok(Some(gain))
            }
        }
    }

    fn gain(&mut self, role: &str, len: usize) -> Result<B::Gain> {
        self.optional_gain(role, len)?
            .ok_or_else(|| self.missing(role))
    }
}
