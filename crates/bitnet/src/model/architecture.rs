//! A model's shape as data: everything in which the supported architectures differ, read from GGUF metadata or
//! config.json. The forward pass is written once, over this.

use super::hadamard::Contract;
use super::hybrid::Hybrid;
use super::mixture::Mixture;
use super::scaling::{RopeScaling, ScalingKind};
use super::windows::{WindowRotation, Windows};
use crate::embed::Pooling;
use crate::file::Gguf;
use crate::file::gguf::{GgufArchitecture, Sliding};
use crate::{Error, Result};
use bitnet_core::{AttentionHeads, Gate, KvType, MixerState, Rope, RopePairs};
use std::sync::Arc;

/// More layers than any model has; larger counts are refused before anything is allocated for them.
pub(super) const MOST_LAYERS: usize = 1024;

/// The shape of a decoder-only transformer. Which optional parts a model has (sub-norms, head norms, a head of its
/// own) follows from its tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// The name in the file: `bitnet-b1.58`, `llama`, `BitNetForCausalLM`, …
    pub name: String,
    /// Transformer blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the gated feed-forward.
    pub feed_forward: usize,
    /// Positions the model was trained for.
    pub context: usize,
    /// Attention heads.
    pub heads: AttentionHeads,
    /// Rotary embedding, scaled.
    pub rope: Rope,
    /// How the file says that positions are scaled.
    pub rope_scaling: RopeScaling,
    /// Added to the mean square in every norm.
    pub eps: f32,
    /// The gate's function.
    pub gate: Gate,
    /// Multiplies the rows of the embedding.
    pub embedding_scale: f32,
    /// Whether the result of each sublayer is normed before it is added.
    pub norms_results: bool,
    /// How the file says that the rows of a text become one.
    pub pooling: Option<Pooling>,
    /// Which layers are gated delta nets, where some are.
    pub hybrid: Option<Hybrid>,
    /// Experts, where layers have them.
    pub mixture: Option<Mixture>,
    /// Which layers attend in a window, where some do.
    pub windows: Option<Windows>,
    /// Which matrices are rotated, where some are.
    pub(crate) hadamard: Option<Arc<Contract>>,
}

/// The numbers of an architecture before they are checked.
pub(super) struct Raw {
    pub(super) name: String,
    pub(super) layers: usize,
    pub(super) hidden: usize,
    pub(super) feed_forward: usize,
    pub(super) context: usize,
    pub(super) query_heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: Option<usize>,
    pub(super) rope_dims: RopeDims,
    pub(super) rope_base: f32,
    pub(super) rope_scaling: RopeScaling,
    pub(super) pairs: RopePairs,
    pub(super) eps: f32,
    pub(super) gate: Gate,
    pub(super) scales_embedding: bool,
    pub(super) norms_results: bool,
    pub(super) pooling: Option<Pooling>,
    pub(super) hybrid: Option<Hybrid>,
    pub(super) mixture: Option<Mixture>,
    pub(super) windows: Option<Windows>,
    pub(super) hadamard: Option<Arc<Contract>>,
}

/// The names of these numbers in a file.
pub(super) struct Keys {
    pub(super) layers: &'static str,
    pub(super) hidden: &'static str,
    pub(super) feed_forward: &'static str,
    pub(super) context: &'static str,
    pub(super) query_heads: &'static str,
    pub(super) kv_heads: &'static str,
    pub(super) head_dim: &'static str,
    pub(super) rope_dims: &'static str,
    pub(super) rope_base: &'static str,
    pub(super) eps: &'static str,
}

/// Keys of GGUF files, behind the name of the architecture.
const GGUF_KEYS: Keys = Keys {
    layers: "block_count",
    hidden: "embedding_length",
    feed_forward: "feed_forward_length",
    context: "context_length",
    query_heads: "attention.head_count",
    kv_heads: "attention.head_count_kv",
    head_dim: "attention.key_length",
    rope_dims: "rope.dimension_count",
    rope_base: "rope.freq_base",
    eps: "attention.layer_norm_rms_epsilon",
};

/// How much of each head rotates.
#[derive(Clone, Copy)]
pub(super) enum RopeDims {
    /// So many elements.
    Count(usize),
    /// This share of the elements.
    Share(f64),
}

/// Positions a session holds unless asked otherwise: what the model was trained for, but at most this many.
const DEFAULT_CONTEXT: usize = 4096;

impl Architecture {
    /// Positions a session holds unless [`ModelOptions::context`](crate::ModelOptions::context) says otherwise: those the
    /// model was trained for, but at most 4096.
    pub fn default_context(&self) -> usize {
        self.context.min(DEFAULT_CONTEXT)
    }

    /// The longest session that the positions allow: [`context`](Self::context) under dynamic scaling, otherwise none.
    pub(crate) fn longest_session(&self) -> Option<usize> {
        matches!(self.rope_scaling.kind, ScalingKind::Dynamic { .. }).then_some(self.context)
    }

    /// Whether layer `index` is a gated delta net.
    pub fn is_recurrent(&self, index: usize) -> bool {
        let hybrid = self.hybrid.as_ref();
        hybrid.is_some_and(|hybrid| hybrid.recurrent.get(index) == Some(&true))
    }

    /// Positions that a token attends to in layer `index`, if it is a window of them.
    pub fn window_of(&self, index: usize) -> Option<usize> {
        self.windows.as_ref()?.window_of(index)
    }

    /// How queries and keys rotate in layer `index`, if they do.
    pub fn rope_of(&self, index: usize) -> Option<Rope> {
        let Some(windows) = &self.windows else {
            return Some(self.rope.clone());
        };
        match (windows.rotation, self.window_of(index)) {
            (WindowRotation::WindowsAlone, None) => None,
            (WindowRotation::OwnBase(base), Some(_)) => Some(Rope {
                base,
                divisors: Vec::new(),
                magnitude: 1.0,
                ..self.rope.clone()
            }),
            _ => Some(self.rope.clone()),
        }
    }

    /// Parameters of experts that a token does not meet.
    pub fn idle_parameters(&self) -> u64 {
        self.mixture.as_ref().map_or(0, |mixture| {
            let expert = 3 * mixture.width as u64 * self.hidden as u64;
            let idle = (mixture.experts - mixture.used) as u64;
            expert.saturating_mul(idle * self.layers as u64)
        })
    }

    /// Layers that keep keys and values.
    fn attention_layers(&self) -> u64 {
        (0..self.layers)
            .filter(|index| !self.is_recurrent(*index))
            .count() as u64
    }

    /// Bytes of keys and values of this type that a session holds for one position, in all layers that keep them: those with a
    /// window give them back [after a while](Self::state_bytes).
    pub fn kv_bytes_per_position(&self, kv: KvType) -> u64 {
        let heads = 2 * self.attention_layers() * self.heads.kv as u64;
        heads.saturating_mul(kv.bytes(self.heads.dim) as u64)
    }

    /// Bytes of the states of delta nets at one position, of which a session holds a few.
    pub fn recurrent_bytes(&self) -> u64 {
        self.hybrid.as_ref().map_or(0, |hybrid| {
            let layers = (0..self.layers)
                .filter(|index| self.is_recurrent(*index))
                .count();
            let floats = hybrid.delta.state_len() + hybrid.delta.conv_len();
            (layers * floats * size_of::<f32>()) as u64
        })
    }

    /// The memory of each layer for a sequence.
    fn mixer_states(&self) -> Vec<MixerState> {
        let delta = self.hybrid.as_ref().map(|hybrid| hybrid.delta);
        let of_layer = |layer| match (delta, self.window_of(layer)) {
            (Some(delta), _) if self.is_recurrent(layer) => MixerState::Recurrent(delta),
            (_, Some(window)) => MixerState::Window(self.heads, window),
            (_, None) => MixerState::KeysValues(self.heads),
        };
        (0..self.layers).map(of_layer).collect()
    }

    /// Bytes of keys, values and states that a session of `positions` holds on a processor at most, in all layers.
    ///
    /// # Errors
    /// If heads are misshapen.
    pub fn state_bytes(&self, positions: usize, kv: KvType) -> Result<usize> {
        let bytes = bitnet_core::cpu::state_bytes(&self.mixer_states(), positions, kv);
        Ok(bytes?)
    }

    /// Reads the metadata of a GGUF file.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for architectures this runtime does not run, [`Error::Malformed`] for missing or
    /// impossible numbers.
    pub fn from_gguf(file: &Gguf) -> Result<Self> {
        let arch = file
            .string("general.architecture")?
            .ok_or_else(|| missing(file.name(), "general.architecture"))?
            .to_owned();
        let key = |name: &str| format!("{arch}.{name}");
        let required = |name: &str| -> Result<usize> {
            file.usize(&key(name))?
                .ok_or_else(|| missing(file.name(), &key(name)))
        };
        let Some(known) = GgufArchitecture::named(&arch) else {
            return Err(Error::Unsupported {
                file: file.name().into(),
                what: format!("architecture {arch:?}"),
                advice: format!("supported are {}", GgufArchitecture::names()),
            });
        };
        let hadamard = Contract::read(file)?;
        if hadamard.is_some() && !known.rotates {
            return Err(Error::Unsupported {
                file: file.name().into(),
                what: format!("rotated weights (prism.hadamard.version) of architecture {arch:?}"),
                advice: "use a file without rotated weights".into(),
            });
        }
        let query_heads = required("attention.head_count")?;
        let context = required("context_length")?;
        let blocks = required("block_count")?;
        if blocks > MOST_LAYERS {
            let expected = format!("1 to {MOST_LAYERS}");
            return Err(Error::malformed(
                file.name(),
                key("block_count"),
                expected,
                blocks,
            ));
        }
        let hybrid = match known.is_hybrid {
            true => Some(Hybrid::read(file, &arch, blocks)?),
            false => None,
        };
        let mixture = match known.is_mixture {
            true => Some(Mixture::read(file, &arch, blocks)?),
            false => None,
        };
        let windows = Windows::read(file, (&arch, known.sliding), blocks)?;
        if known.is_hybrid {
            // Their defaults would be wrong, and would not show.
            required("attention.key_length")?;
            required("attention.value_length")?;
            if file.f32(&key("rope.freq_base"))?.is_none() {
                return Err(missing(file.name(), &key("rope.freq_base")));
            }
        }
        let mut raw = Raw {
            layers: hybrid
                .as_ref()
                .map_or(blocks, |hybrid| hybrid.recurrent.len()),
            hidden: required("embedding_length")?,
            feed_forward: match &mixture {
                // The file's own number is that of a dense sublayer that there is not.
                Some(mixture) => mixture.width,
                None => required("feed_forward_length")?,
            },
            context,
            query_heads,
            kv_heads: file
                .usize(&key("attention.head_count_kv"))?
                .unwrap_or(query_heads),
            head_dim: file.usize(&key("attention.key_length"))?,
            rope_dims: match file.usize(&key("rope.dimension_count"))? {
                Some(dims) => RopeDims::Count(dims),
                None => RopeDims::Share(1.0),
            },
            rope_base: rope_base(file, known)?.unwrap_or(10_000.0),
            rope_scaling: RopeScaling::from_gguf(file, &arch, context)?,
            pairs: known.pairs,
            eps: file
                .f32(&key("attention.layer_norm_rms_epsilon"))?
                .ok_or_else(|| missing(file.name(), &key("attention.layer_norm_rms_epsilon")))?,
            gate: known.gate,
            scales_embedding: known.scales_embedding,
            norms_results: known.norms_results,
            pooling: pooling(file, &key("pooling_type"))?,
            hybrid,
            mixture,
            windows,
            hadamard: hadamard.map(Arc::new),
            name: arch.clone(),
        };
        let is_2b4t =
            (raw.layers, raw.hidden, raw.feed_forward, raw.kv_heads) == (30, 2560, 6912, 5);
        raw.gate = match file.string(&key("hidden_activation"))? {
            Some(name) => gate(file.name(), &key("hidden_activation"), name)?,
            // 2B-4T as upstream tools convert it: the name says SiLU, the model was trained with ReLU².
            None if arch == "bitnet" && is_2b4t => Gate::Relu2,
            None => known.gate,
        };
        refuse_other_attention(file, known)?;
        if let Some(values) = file.usize(&key("attention.value_length"))? {
            check(
                file.name(),
                &key("attention.value_length"),
                raw.head_dim.unwrap_or(values),
                values,
            )?;
        }
        raw.build(file.name(), (&key(""), &GGUF_KEYS))
    }
}

impl Raw {
    /// Checks the numbers. `file` is what errors call the file, and `keys` the numbers, behind `prefix`.
    pub(super) fn build(self, file: &str, (prefix, keys): (&str, &Keys)) -> Result<Architecture> {
        let wrong = |key: &str, expected: String, found: &dyn std::fmt::Display| {
            Error::malformed(file, format_args!("{prefix}{key}"), expected, found)
        };
        let positive = |key: &str, value: usize, most: usize| {
            if value == 0 || value > most {
                Err(wrong(key, format!("1 to {most}"), &value))
            } else {
                Ok(value)
            }
        };
        positive(keys.layers, self.layers, MOST_LAYERS)?;
        positive(keys.hidden, self.hidden, 1 << 20)?;
        positive(keys.feed_forward, self.feed_forward, 1 << 22)?;
        positive(keys.context, self.context, u32::MAX as usize)?;
        positive(keys.query_heads, self.query_heads, 1 << 12)?;
        positive(keys.kv_heads, self.kv_heads, self.query_heads)?;
        if !self.query_heads.is_multiple_of(self.kv_heads) {
            let expected = format!("a divisor of the {} heads", self.query_heads);
            return Err(wrong(keys.kv_heads, expected, &self.kv_heads));
        }
        let dim = match self.head_dim {
            Some(dim) => positive(keys.head_dim, dim, 1 << 14)?,
            None if self.hidden.is_multiple_of(self.query_heads) => self.hidden / self.query_heads,
            None => {
                let expected = format!("a multiple of the {} heads", self.query_heads);
                return Err(wrong(keys.hidden, expected, &self.hidden));
            }
        };
        let rope_dims = match self.rope_dims {
            RopeDims::Count(dims) => dims,
            RopeDims::Share(share) if share > 0.0 && share <= 1.0 => (dim as f64 * share) as usize,
            RopeDims::Share(share) => {
                return Err(wrong(
                    keys.rope_dims,
                    "more than 0, at most 1".into(),
                    &share,
                ));
            }
        };
        if rope_dims == 0 || rope_dims > dim || !rope_dims.is_multiple_of(2) {
            let expected = format!("an even number up to the head width {dim}");
            let found = match self.rope_dims {
                RopeDims::Count(dims) => dims.to_string(),
                RopeDims::Share(share) => format!("{rope_dims}, {share} of it"),
            };
            return Err(wrong(keys.rope_dims, expected, &found));
        }
        for (key, value) in [(keys.eps, self.eps), (keys.rope_base, self.rope_base)] {
            if !value.is_finite() || value <= 0.0 {
                return Err(wrong(key, "a positive number".into(), &value));
            }
        }
        self.rope_scaling.check(file, self.rope_base)?;
        Ok(Architecture {
            name: self.name,
            layers: self.layers,
            hidden: self.hidden,
            feed_forward: self.feed_forward,
            context: self.context,
            heads: AttentionHeads {
                query: self.query_heads,
                kv: self.kv_heads,
                dim,
            },
            rope: Rope {
                pairs: self.pairs,
                dims: rope_dims,
                base: self.rope_base,
                divisors: self.rope_scaling.divisors(rope_dims, self.rope_base),
                magnitude: self.rope_scaling.magnitude as f32,
            },
            rope_scaling: self.rope_scaling,
            eps: self.eps,
            gate: self.gate,
            embedding_scale: if self.scales_embedding {
                (self.hidden as f32).sqrt()
            } else {
                1.0
            },
            norms_results: self.norms_results,
            pooling: self.pooling,
            hybrid: self.hybrid,
            mixture: self.mixture,
            windows: self.windows,
            hadamard: self.hadamard,
        })
    }
}

/// The function that `key` names.
pub(super) fn gate(file: &str, key: &str, name: &str) -> Result<Gate> {
    match name {
        "relu2" | "relu_squared" => Ok(Gate::Relu2),
        "silu" | "swish" => Ok(Gate::Silu),
        "gelu_pytorch_tanh" => Ok(Gate::Gelu),
        other => Err(Error::Unsupported {
            file: file.into(),
            what: format!("activation function {other:?} ({key})"),
            advice: "supported are relu2, silu and gelu_pytorch_tanh".into(),
        }),
    }
}

/// How a GGUF file says that the rows of a text become one.
fn pooling(file: &Gguf, key: &str) -> Result<Option<Pooling>> {
    match file.usize(key)? {
        None | Some(0) => Ok(None),
        Some(1) => Ok(Some(Pooling::Mean)),
        Some(2) => Ok(Some(Pooling::First)),
        Some(3) => Ok(Some(Pooling::Last)),
        Some(4) => Err(Error::Unsupported {
            file: file.name().into(),
            what: format!("{key} 4, a model that ranks"),
            advice: "use a model that embeds or one that generates".into(),
        }),
        Some(other) => Err(Error::malformed(file.name(), key, "0 to 4", other)),
    }
}

/// θ of the layers that rotate.
fn rope_base(file: &Gguf, known: &GgufArchitecture) -> Result<Option<f32>> {
    let key = |name: &str| format!("{}.rope.{name}", known.name);
    // Where windows rotate and nothing else does, theirs is the one that counts.
    let own = match known.sliding {
        Sliding::Always => file.f32(&key("freq_base_swa"))?,
        Sliding::Never | Sliding::IfStated => None,
    };
    match own {
        Some(base) => Ok(Some(base)),
        None => file.f32(&key("freq_base")),
    }
}

/// Refuses attention that does more than that here.
fn refuse_other_attention(file: &Gguf, known: &GgufArchitecture) -> Result<()> {
    let refuse = |key: String, what: &str, value: &dyn std::fmt::Display| {
        Err(Error::Unsupported {
            file: file.name().into(),
            what: format!("{what} ({key} {value})"),
            advice: "use a model with full attention and plain scores".into(),
        })
    };
    let key = |name: &str| format!("{}.attention.{name}", known.name);
    let cap = file.f32(&key("logit_softcapping"))?.unwrap_or(0.0);
    if cap != 0.0 {
        return refuse(key("logit_softcapping"), "capped attention scores", &cap);
    }
    let window = file.usize(&key("sliding_window"))?.unwrap_or(0);
    if known.sliding == Sliding::Never && window > 0 {
        return refuse(key("sliding_window"), "sliding-window attention", &window);
    }
    Ok(())
}

pub(super) fn missing(file: &str, key: &str) -> Error {
    Error::malformed(file, key, "a value", "no such key")
}

fn check(file: &str, what: &str, expected: usize, found: usize) -> Result<()> {
    if expected == found {
        Ok(())
    } else {
        Err(Error::malformed(file, what, expected, found))
    }
}
