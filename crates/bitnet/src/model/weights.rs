//! From the tensors of a file to a transformer on a backend.
//!
//! Tensors are asked for by role, named as GGUF names them (`blk.0.attn_q`, `output_norm`, …); a [`Source`] finds
//! them in its file and checks their shapes.

use super::architecture::Architecture;
use super::hadamard::Contract;
use super::mixture::Mixture;
use super::transformer::{Layer, Transformer};
use crate::{Cancel, Error, Result};
use bitnet_core::device::Memory;
use bitnet_core::pool::Movement;
use bitnet_core::{
    Activations, AttentionWeights, Backend, DeltaNetWeights, ExpertsWeights, FeedForwardWeights,
    GatedWeights, HybridMemoryPool, LmHeadMode, MixerWeights, NormWeights, Projection, Regroup,
    Rotation, Sublayer, VocabularyWeights, WeightMatrix,
};
use bitnet_quant::Format;
use std::sync::Arc;

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
    /// The matrices of a role, of `count` experts of `rows × cols` each, one after the other in one matrix, if the file has them.
    fn experts(
        &mut self,
        role: &str,
        shape: [usize; 3],
        pool: &HybridMemoryPool,
    ) -> Result<Option<WeightMatrix>>;
    /// The vector of a role, if the file has it.
    fn vector(&mut self, role: &str, len: usize) -> Result<Option<Vec<f32>>>;
    /// The floats of the tensor that GGUF calls `name`, the fastest dimension first, if the file has it.
    fn floats(&mut self, name: &str, shape: &[usize]) -> Result<Option<Vec<f32>>>;
    /// Whether a matrix that this source gave lies where the file does, and is no repacked copy.
    fn is_borrowed(&self, matrix: &WeightMatrix) -> bool;
    /// The file's own name of the tensor that GGUF calls `name`.
    fn own_name(&self, name: &str) -> String;
    /// What the file calls the tensor of a role.
    fn tensor_name(&self, role: &str) -> String {
        self.own_name(&format!("{role}.weight"))
    }
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
        hadamard: architecture.hadamard.clone(),
        comes_from_disk: exceeds_memory(&architecture),
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
    let is_mixture = architecture.mixture.is_some();
    if !is_mixture {
        let probe = loader.optional_norm("blk.0.attn_q_norm_in", hidden)?;
        loader.summary.input_norms = probe.is_some();
    }
    let embedding = loader.matrix("token_embd", None, hidden)?;
    let vocabulary = embedding.rows();
    loader.summary.vocabulary = vocabulary;
    let weights = VocabularyWeights {
        embedding,
        norm: loader.norm("output_norm", hidden)?,
        head: match is_mixture {
            // None of these models is tied.
            true => Some(loader.matrix("output", Some(vocabulary), hidden)?),
            false => loader.optional_matrix("output", Some(vocabulary), hidden)?,
        },
        // Models that only embed texts never use their head.
        mode: match loader.summary.input_norms {
            true => LmHeadMode::Full,
            false => head_mode,
        },
        embedding_scale: architecture.embedding_scale,
        activations,
        embedding_rotation: loader
            .hadamard
            .as_ref()
            .and_then(|hadamard| hadamard.table_rotation(hidden)),
        head_rotation: loader.rotation("output", hidden, None),
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
        let mut norms = match is_mixture {
            true => LayerNorms::default(),
            false => loader.inner_norms(&architecture, index)?,
        };
        if architecture.norms_results {
            let role = |name: &str| format!("blk.{index}.{name}");
            let result = loader.norm(&role("post_attention_norm"), hidden)?;
            norms.mixer_result = Some(result);
            norms.feed_forward_result = Some(loader.norm(&role("post_ffw_norm"), hidden)?);
        }
        let kind = (&architecture, activations);
        let mixer = if architecture.is_recurrent(index) {
            loader.delta_net(kind, index)?
        } else {
            loader.mixer(kind, index, &mut norms)?
        };
        let feed_forward = match &architecture.mixture {
            Some(mixture) => loader.experts(mixture, kind, index)?,
            None => loader.feed_forward(kind, index, &mut norms)?,
        };
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
    let left_out = |name: &String| {
        let hybrid = architecture.hybrid.as_ref();
        hybrid.is_some_and(|hybrid| hybrid.leaves_out(name))
    };
    if let Some(tensor) = source.unused().iter().find(|name| !left_out(name)) {
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

/// Whether the experts of a mixture are more than this machine's memory holds beside everything else. Then those that a router
/// chose are fetched from the file together: touched page by page, they would be waited for a few pages at a time.
fn exceeds_memory(architecture: &Architecture) -> bool {
    if architecture.mixture.is_none() {
        return false;
    }
    // Two bits a parameter, and room for another third.
    let experts = architecture.idle_parameters() / 3;
    Memory::detect().is_some_and(|memory| {
        let most = memory.limit.unwrap_or(memory.total);
        experts > most
    })
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
    /// Whether each projection norms its input (BitNet-embedding).
    pub(crate) input_norms: bool,
}

/// Norms of a layer that not every model has.
#[derive(Default)]
struct LayerNorms {
    query: Option<NormWeights>,
    key: Option<NormWeights>,
    value: Option<NormWeights>,
    output: Option<NormWeights>,
    gate: Option<NormWeights>,
    up: Option<NormWeights>,
    down: Option<NormWeights>,
    mixer_result: Option<NormWeights>,
    feed_forward_result: Option<NormWeights>,
}

struct Loader<'a, B: Backend> {
    source: &'a mut dyn Source,
    backend: &'a B,
    summary: &'a mut Summary,
    eps: f32,
    hadamard: Option<Arc<Contract>>,
    /// Whether not all experts stay in memory.
    comes_from_disk: bool,
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
        let matrix = (self.source).matrix(role, rows, cols, self.backend.pool())?;
        Ok(matrix.map(|matrix| self.counted(matrix)))
    }

    /// The matrices of a role, of `[experts, rows, columns]`, as one.
    fn stack(&mut self, role: &str, shape: [usize; 3]) -> Result<WeightMatrix> {
        self.cancel.check()?;
        let matrix = (self.source).experts(role, shape, self.backend.pool())?;
        let matrix = matrix.ok_or_else(|| self.missing(role))?;
        Ok(self.counted(matrix))
    }

    /// Counts a matrix.
    fn counted(&mut self, matrix: WeightMatrix) -> WeightMatrix {
        self.summary.parameters += matrix.rows() as u64 * matrix.cols() as u64;
        self.summary.bytes += matrix.data().len() as u64;
        let (movement, matrix) = if self.source.is_borrowed(&matrix) {
            // Where the backend reads something else instead, it can give pages of a mapped file back.
            let matrix = matrix.with_reclaim(crate::file::map::give_back);
            let mut matrix = matrix.with_copy(crate::file::map::copy);
            if self.comes_from_disk {
                matrix = matrix.with_fetch(crate::file::map::fetch);
            }
            (Movement::ZeroCopy, matrix)
        } else {
            (Movement::Copy, matrix)
        };
        let tracker = self.backend.pool().zero_copy();
        tracker.record(movement, matrix.data().len());
        matrix
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

    /// The rotation of the rows that the matrix of a role multiplies, if it was rotated.
    fn rotation(
        &self,
        role: &str,
        width: usize,
        regroup: Option<Regroup>,
    ) -> Option<Arc<Rotation>> {
        let hadamard = self.hadamard.as_ref()?;
        hadamard.rotation(&self.source.tensor_name(role), width, regroup)
    }

    /// The matrix of a role, `rows × cols`, and what happens to the rows that it multiplies.
    fn projection(
        &mut self,
        role: &str,
        norm: Option<NormWeights>,
        (rows, cols): (usize, usize),
    ) -> Result<Projection> {
        Ok(Projection {
            norm,
            rotation: self.rotation(role, cols, None),
            matrix: self.matrix(role, Some(rows), cols)?,
        })
    }

    /// The floats of a tensor that GGUF calls `name`.
    fn floats(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let Some(values) = self.source.floats(name, shape)? else {
            let name = self.source.own_name(name);
            return Err(Error::tensor(
                self.source.file(),
                name,
                "a tensor",
                "none in the file",
            ));
        };
        if let Some(wrong) = values.iter().find(|value| !value.is_finite()) {
            let (file, name) = (self.source.file(), self.source.own_name(name));
            return Err(Error::tensor(file, name, "finite numbers", wrong));
        }
        let tracker = self.backend.pool().zero_copy();
        tracker.record(Movement::Copy, size_of_val(&values[..]));
        Ok(values)
    }

    /// The gated delta net of layer `index`.
    fn delta_net(
        &mut self,
        (architecture, activations): (&Architecture, Activations),
        index: usize,
    ) -> Result<MixerWeights> {
        let Some(hybrid) = &architecture.hybrid else {
            return Err(self.missing(&format!("blk.{index}.attn_q")));
        };
        let role = |name: &str| format!("blk.{index}.{name}");
        let (hidden, heads) = (architecture.hidden, hybrid.delta);
        let (conv, values) = (heads.conv_width(), heads.value_width());
        let taps = self.floats(&role("ssm_conv1d.weight"), &[heads.taps, conv])?;
        // Taps of a column lie together in the file.
        let by_tap = (0..heads.taps).flat_map(|tap| taps.iter().skip(tap).step_by(heads.taps));
        let grouped = self
            .hadamard
            .as_ref()
            .is_some_and(|hadamard| hadamard.grouped);
        let regroup = grouped.then_some(Regroup {
            heads: heads.value,
            groups: heads.key,
        });
        Ok(MixerWeights::DeltaNet(DeltaNetWeights {
            heads,
            activations,
            norm: Some(self.norm(&role("attn_norm"), hidden)?),
            mixed: self.projection(&role("attn_qkv"), None, (conv, hidden))?,
            gate: self.projection(&role("attn_gate"), None, (values, hidden))?,
            rate: self.projection(&role("ssm_beta"), None, (heads.value, hidden))?,
            decay: self.projection(&role("ssm_alpha"), None, (heads.value, hidden))?,
            decay_bias: self.floats(&role("ssm_dt.bias"), &[heads.value])?,
            decay_factor: self.floats(&role("ssm_a"), &[heads.value])?,
            conv: by_tap.copied().collect(),
            eps: self.eps,
            head_norm: self.norm(&role("ssm_norm"), heads.value_dim)?,
            output: Projection {
                rotation: self.rotation(&role("ssm_out"), values, regroup),
                ..self.projection(&role("ssm_out"), None, (hidden, values))?
            },
        }))
    }

    /// The mixer of layer `index`.
    fn mixer(
        &mut self,
        (architecture, activations): (&Architecture, Activations),
        index: usize,
        norms: &mut LayerNorms,
    ) -> Result<MixerWeights> {
        let role = |name: &str| format!("blk.{index}.{name}");
        let (hidden, heads) = (architecture.hidden, architecture.heads);
        let (attention, kv) = (heads.query_width(), heads.kv_width());
        let query_rows = match architecture.hybrid {
            // Each head's gate behind it.
            Some(_) => 2 * attention,
            None => attention,
        };
        let head_norms =
            self.both_norms([&role("attn_q_norm"), &role("attn_k_norm")], [heads.dim; 2])?;
        if architecture.mixture.is_some() && head_norms.is_none() {
            return Err(self.missing(&role("attn_q_norm")));
        }
        Ok(MixerWeights::Attention(AttentionWeights {
            heads,
            rope: architecture.rope_of(index),
            window: architecture.window_of(index),
            activations,
            norm: Some(self.norm(&role("attn_norm"), hidden)?),
            gated: architecture.hybrid.is_some(),
            query: self.projection(&role("attn_q"), norms.query.take(), (query_rows, hidden))?,
            key: self.projection(&role("attn_k"), norms.key.take(), (kv, hidden))?,
            value: self.projection(&role("attn_v"), norms.value.take(), (kv, hidden))?,
            head_norms,
            output: self.projection(
                &role("attn_output"),
                norms.output.take(),
                (hidden, attention),
            )?,
            output_norm: norms.mixer_result.take(),
        }))
    }

    /// The feed-forward sublayer of layer `index`.
    fn feed_forward(
        &mut self,
        (architecture, activations): (&Architecture, Activations),
        index: usize,
        norms: &mut LayerNorms,
    ) -> Result<FeedForwardWeights> {
        let role = |name: &str| format!("blk.{index}.{name}");
        let (hidden, width) = (architecture.hidden, architecture.feed_forward);
        let norm = match architecture.hybrid {
            Some(_) => "post_attention_norm",
            None => "ffn_norm",
        };
        Ok(FeedForwardWeights::Gated(GatedWeights {
            function: architecture.gate,
            activations,
            norm: Some(self.norm(&role(norm), hidden)?),
            gate: self.projection(&role("ffn_gate"), norms.gate.take(), (width, hidden))?,
            up: self.projection(&role("ffn_up"), norms.up.take(), (width, hidden))?,
            down: self.projection(&role("ffn_down"), norms.down.take(), (hidden, width))?,
            output_norm: norms.feed_forward_result.take(),
        }))
    }

    /// The mixture of experts of layer `index`.
    fn experts(
        &mut self,
        mixture: &Mixture,
        (architecture, activations): (&Architecture, Activations),
        index: usize,
    ) -> Result<FeedForwardWeights> {
        let role = |name: &str| format!("blk.{index}.{name}");
        let (count, width, hidden) = (mixture.experts, mixture.width, architecture.hidden);
        let router = self.matrix(&role("ffn_gate_inp"), Some(count), hidden)?;
        if !matches!(router.format(), Format::F32 | Format::F16 | Format::Bf16) {
            let (file, found) = (self.source.file(), router.format());
            return Err(Error::tensor(
                file,
                router.name(),
                "F32, F16 or BF16",
                found,
            ));
        }
        Ok(FeedForwardWeights::Experts(ExpertsWeights {
            function: architecture.gate,
            limit: mixture.limits.get(index).copied().flatten(),
            activations,
            norm: Some(self.norm(&role("ffn_norm"), hidden)?),
            router,
            used: mixture.used,
            gate: self.stack(&role("ffn_gate_exps"), [count, width, hidden])?,
            up: self.stack(&role("ffn_up_exps"), [count, width, hidden])?,
            down: self.stack(&role("ffn_down_exps"), [count, hidden, width])?,
        }))
    }

    /// Norms within the sublayers of layer `index`, which not every file has.
    fn inner_norms(&mut self, architecture: &Architecture, index: usize) -> Result<LayerNorms> {
        // Sub-norms come in pairs, over two sublayers.
        let roles = ["attn_sub_norm", "ffn_sub_norm"].map(|name| format!("blk.{index}.{name}"));
        let widths = [architecture.heads.query_width(), architecture.feed_forward];
        let sub_norms = self.both_norms(roles.each_ref().map(String::as_str), widths)?;
        let mut norms = match sub_norms {
            Some([attention, down]) => LayerNorms {
                output: Some(attention),
                down: Some(down),
                ..LayerNorms::default()
            },
            None => LayerNorms::default(),
        };
        self.input_norms(architecture, index, &mut norms)?;
        Ok(norms)
    }

    /// The norms of the inputs of a layer's seven projections, of which a file has all or none, in all layers or in none.
    fn input_norms(
        &mut self,
        architecture: &Architecture,
        index: usize,
        norms: &mut LayerNorms,
    ) -> Result<()> {
        let (hidden, attention) = (architecture.hidden, architecture.heads.query_width());
        let slots = [
            ("attn_q", hidden, &mut norms.query),
            ("attn_k", hidden, &mut norms.key),
            ("attn_v", hidden, &mut norms.value),
            ("attn_output", attention, &mut norms.output),
            ("ffn_gate", hidden, &mut norms.gate),
            ("ffn_up", hidden, &mut norms.up),
            ("ffn_down", architecture.feed_forward, &mut norms.down),
        ];
        for (name, width, slot) in slots {
            let role = format!("blk.{index}.{name}_norm_in");
            let norm = self.optional_norm(&role, width)?;
            let file = self.source.file();
            match (self.summary.input_norms, norm) {
                (false, None) => {}
                (true, None) => return Err(self.missing(&role)),
                (false, Some(norm)) => {
                    let expected = "no such tensor, as in the first layer";
                    return Err(Error::tensor(file, norm.name, expected, "one"));
                }
                (true, Some(norm)) => {
                    if let Some(other) = slot.replace(norm) {
                        let expected = format!("none, beside {role}");
                        return Err(Error::tensor(file, other.name, expected, "one"));
                    }
                }
            }
        }
        Ok(())
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
