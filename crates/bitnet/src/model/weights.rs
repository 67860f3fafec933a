//! From the tensors of a file to a transformer on a backend.
//!
//! Tensors are asked for by role, named as GGUF names them (`blk.0.attn_q`, `output_norm`, …); a [`Source`] finds
//! them in its file and checks their shapes.

use super::architecture::Architecture;
use super::transformer::{Layer, Transformer};
use crate::{Cancel, Error, Result};
use bitnet_core::pool::Movement;
use bitnet_core::{
    Activations, AttentionWeights, Backend, FeedForwardWeights, GatedWeights, HybridMemoryPool,
    LmHeadMode, MixerWeights, NormWeights, Projection, Sublayer, VocabularyWeights, WeightMatrix,
};

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
    /// Tensors not consumed by the loader; a complete load must leave none.
    fn unused(&self) -> Vec<String>;
}

/// Whether the rows of `matrix` are bytes of `tensor`, and not a copy.
pub(super) fn lies_in(matrix: &WeightMatrix, tensor: &[u8]) -> bool {
    tensor.as_ptr_range().contains(&matrix.data().as_ptr())
}

/// Makes every tensor that `architecture` needs resident on `backend`. Optional parts are those the file has.
/// `progress` is told the layers done, and their number with that of the warm-up batches that follow.
///
/// # Errors
/// [`Error::Tensor`] for missing, misshapen or invalid tensors; [`Error::Unsupported`] if the file holds
/// tensors that the forward pass has no place for; [`Error::Cancelled`], for which it looks before each matrix.
pub(crate) fn load<B: Backend>(
    source: &mut dyn Source,
    mut architecture: Architecture,
    backend: B,
    (activations, head_mode): (Activations, LmHeadMode),
    cancel: &Cancel,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(Transformer<B>, Summary)> {
    let mut summary = Summary::default();
    let mut loader = Loader {
        source,
        backend: &backend,
        summary: &mut summary,
        eps: architecture.eps,
        cancel,
    };
    let hidden = architecture.hidden;
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
    let vocabulary = embedding.rows();
    loader.summary.vocabulary = vocabulary;
    let weights = VocabularyWeights {
        embedding,
        norm: loader.norm("output_norm", hidden)?,
        head: loader.optional_matrix("output", Some(vocabulary), hidden)?,
        mode: head_mode,
    };
    let (embedding, head) = loader.named(backend.load_vocabulary(weights))?;
    loader.summary.decode_bytes += head.bytes() as u64;

    let warm_up = backend
        .warm_up()
        .map_or(0, |warm_up| warm_up.batches().len());
    let total = architecture.layers + warm_up;
    let (mut layers, mut states) = (Vec::new(), Vec::new());
    for index in 0..architecture.layers {
        progress(index, total);
        // Sub-norms come in pairs, over two sublayers.
        let roles = ["attn_sub_norm", "ffn_sub_norm"].map(|name| format!("blk.{index}.{name}"));
        let widths = [architecture.heads.query_width(), architecture.feed_forward];
        let sub_norms = loader.both_norms(roles.each_ref().map(String::as_str), widths)?;
        let [attention, dense] = match sub_norms {
            Some(norms) => norms.map(Some),
            None => [None, None],
        };
        let kind = (&architecture, activations);
        let mixer = loader.mixer(kind, index, attention)?;
        let feed_forward = loader.feed_forward(kind, index, dense)?;
        states.push(mixer.state());
        let mixer = loader.named(backend.load_mixer(mixer))?;
        let feed_forward = loader.named(backend.load_feed_forward(feed_forward))?;
        loader.summary.decode_bytes += (mixer.bytes() + feed_forward.bytes()) as u64;
        layers.push(Layer {
            mixer,
            feed_forward,
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
        embedding,
        layers,
        states,
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
    eps: f32,
    cancel: &'a Cancel,
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

    /// The matrix of a role, if the file has it, counted.
    fn optional_matrix(
        &mut self,
        role: &str,
        rows: Option<usize>,
        cols: usize,
    ) -> Result<Option<WeightMatrix>> {
        self.cancel.check()?;
        let pool = self.backend.pool();
        let Some(matrix) = self.source.matrix(role, rows, cols, pool)? else {
            return Ok(None);
        };
        self.summary.parameters += matrix.rows() as u64 * matrix.cols() as u64;
        self.summary.bytes += matrix.data().len() as u64;
        let (movement, matrix) = if self.source.is_borrowed(&matrix) {
            // Where the backend reads something else instead, it can give pages of a mapped file back.
            let matrix = matrix.with_reclaim(crate::file::map::give_back);
            (Movement::ZeroCopy, matrix)
        } else {
            (Movement::Copy, matrix)
        };
        pool.zero_copy().record(movement, matrix.data().len());
        Ok(Some(matrix))
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

    fn optional_norm(&mut self, role: &str, len: usize) -> Result<Option<NormWeights>> {
        let weight = self.vector(role, len)?;
        Ok(weight.map(|weight| NormWeights {
            name: self.source.tensor_name(role),
            weight,
            eps: self.eps,
        }))
    }

    fn norm(&mut self, role: &str, len: usize) -> Result<NormWeights> {
        self.optional_norm(role, len)?
            .ok_or_else(|| self.missing(role))
    }

    /// The mixer of layer `index`.
    fn mixer(
        &mut self,
        (architecture, activations): (&Architecture, Activations),
        index: usize,
        sub_norm: Option<NormWeights>,
    ) -> Result<MixerWeights> {
        let role = |name: &str| format!("blk.{index}.{name}");
        let (hidden, heads) = (architecture.hidden, architecture.heads);
        let (attention, kv) = (heads.query_width(), heads.kv_width());
        let head_norms =
            self.both_norms([&role("attn_q_norm"), &role("attn_k_norm")], [heads.dim; 2])?;
        Ok(MixerWeights::Attention(AttentionWeights {
            heads,
            rope: architecture.rope.clone(),
            activations,
            norm: Some(self.norm(&role("attn_norm"), hidden)?),
            query: self.matrix(&role("attn_q"), Some(attention), hidden)?,
            key: self.matrix(&role("attn_k"), Some(kv), hidden)?,
            value: self.matrix(&role("attn_v"), Some(kv), hidden)?,
            head_norms,
            output: Projection {
                norm: sub_norm,
                matrix: self.matrix(&role("attn_output"), Some(hidden), attention)?,
            },
        }))
    }

    /// The feed-forward sublayer of layer `index`.
    fn feed_forward(
        &mut self,
        (architecture, activations): (&Architecture, Activations),
        index: usize,
        sub_norm: Option<NormWeights>,
    ) -> Result<FeedForwardWeights> {
        let role = |name: &str| format!("blk.{index}.{name}");
        let (hidden, width) = (architecture.hidden, architecture.feed_forward);
        Ok(FeedForwardWeights::Gated(GatedWeights {
            function: architecture.gate,
            activations,
            norm: Some(self.norm(&role("ffn_norm"), hidden)?),
            gate: self.matrix(&role("ffn_gate"), Some(width), hidden)?,
            up: self.matrix(&role("ffn_up"), Some(width), hidden)?,
            down: Projection {
                norm: sub_norm,
                matrix: self.matrix(&role("ffn_down"), Some(hidden), width)?,
            },
        }))
    }

    /// Two norms of which a file has both or none.
    fn both_norms(
        &mut self,
        roles: [&str; 2],
        widths: [usize; 2],
    ) -> Result<Option<[NormWeights; 2]>> {
        let one = self.optional_norm(roles[0], widths[0])?;
        let two = self.optional_norm(roles[1], widths[1])?;
        match (one, two) {
            (Some(one), Some(two)) => Ok(Some([one, two])),
            (None, None) => Ok(None),
            (Some(_), None) => Err(self.missing(roles[1])),
            (None, Some(_)) => Err(self.missing(roles[0])),
        }
    }

    /// An error of the backend about a value becomes one about the file that has it.
    fn named<R>(&self, result: Result<R, bitnet_core::Error>) -> Result<R> {
        result.map_err(|error| match error {
            bitnet_core::Error::Value {
                what,
                expected,
                found,
            } => Error::tensor(self.source.file(), what, expected, found),
            error => error.into(),
        })
    }
}
