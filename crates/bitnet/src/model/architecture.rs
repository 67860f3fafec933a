//! A model's shape as data: everything in which the supported architectures differ, read from GGUF metadata or
//! config.json. The forward pass is written once, over this.

use crate::file::{Gguf, SafeTensorsModel};
use crate::{Error, Result};
use bitnet_core::{Gate, Heads, Rope, RopePairs};
use serde_json::Value as Json;

/// More layers than any model has; larger counts are refused before anything is allocated for them.
const MOST_LAYERS: usize = 1024;

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
    pub heads: Heads,
    /// Rotary embedding.
    pub rope: Rope,
    /// Added to the mean square in every norm.
    pub eps: f32,
    /// The gate's function.
    pub gate: Gate,
}

/// The numbers of an architecture before they are checked.
struct Raw {
    name: String,
    layers: usize,
    hidden: usize,
    feed_forward: usize,
    context: usize,
    query_heads: usize,
    kv_heads: usize,
    head_dim: Option<usize>,
    rope_dims: Option<usize>,
    rope_base: f32,
    pairs: RopePairs,
    eps: f32,
    gate: Gate,
}

/// Positions a session holds unless asked otherwise: what the model was trained for, but at most this many.
const DEFAULT_CONTEXT: usize = 4096;

impl Architecture {
    /// Positions a session holds unless [`ModelOptions::context`](crate::ModelOptions::context) says otherwise: those the
    /// model was trained for, but at most 4096.
    pub fn default_context(&self) -> usize {
        self.context.min(DEFAULT_CONTEXT)
    }

    /// Bytes of keys and values that a session holds for one position: f32, in every layer.
    pub fn kv_bytes_per_position(&self) -> u64 {
        let floats = 2 * self.heads.kv as u64 * self.heads.dim as u64;
        self.layers as u64 * floats * size_of::<f32>() as u64
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
        let known = ["bitnet-b1.58", "bitnet-25", "bitnet", "llama", "qwen3"];
        if !known.contains(&arch.as_str()) {
            return Err(Error::Unsupported {
                file: file.name().into(),
                what: format!("architecture {arch:?}"),
                advice: format!("supported are {}", known.join(", ")),
            });
        }
        if let Some(kind) = file.string(&key("rope.scaling.type"))? {
            let factor = file.f32(&key("rope.scaling.factor"))?.unwrap_or(1.0);
            if kind != "none" && !(kind == "linear" && factor == 1.0) {
                return Err(rope_scaling(file.name(), kind));
            }
        }
        let query_heads = required("attention.head_count")?;
        let mut raw = Raw {
            layers: required("block_count")?,
            hidden: required("embedding_length")?,
            feed_forward: required("feed_forward_length")?,
            context: required("context_length")?,
            query_heads,
            kv_heads: file
                .usize(&key("attention.head_count_kv"))?
                .unwrap_or(query_heads),
            head_dim: file.usize(&key("attention.key_length"))?,
            rope_dims: file.usize(&key("rope.dimension_count"))?,
            rope_base: file.f32(&key("rope.freq_base"))?.unwrap_or(10_000.0),
            pairs: if arch == "llama" {
                RopePairs::Interleaved
            } else {
                RopePairs::HalfSplit
            },
            eps: file
                .f32(&key("attention.layer_norm_rms_epsilon"))?
                .ok_or_else(|| missing(file.name(), &key("attention.layer_norm_rms_epsilon")))?,
            gate: Gate::Silu,
            name: arch.clone(),
        };
        let is_2b4t =
            (raw.layers, raw.hidden, raw.feed_forward, raw.kv_heads) == (30, 2560, 6912, 5);
        raw.gate = match file.string(&key("hidden_activation"))? {
            Some(name) => gate(file.name(), name)?,
            None if arch == "bitnet-b1.58" || arch == "bitnet-25" => Gate::Relu2,
            // 2B-4T as upstream tools convert it: the name says SiLU, the model was trained with ReLU².
            None if arch == "bitnet" && is_2b4t => Gate::Relu2,
            None => Gate::Silu,
        };
        if let Some(values) = file.usize(&key("attention.value_length"))? {
            check(
                file.name(),
                "attention.value_length",
                raw.head_dim.unwrap_or(values),
                values,
            )?;
        }
        raw.build(file.name())
    }

    /// Reads a Hugging Face config.json.
    ///
    /// # Errors
    /// As [`from_gguf`](Self::from_gguf).
    pub fn from_config(file: &SafeTensorsModel) -> Result<Self> {
        let config = file.config();
        let name = format!("{} (config.json)", file.name());
        let integer = |key: &str| -> Result<Option<usize>> {
            match config.get(key) {
                None | Some(Json::Null) => Ok(None),
                Some(value) => value
                    .as_u64()
                    .and_then(|value| usize::try_from(value).ok())
                    .map(Some)
                    .ok_or_else(|| Error::malformed(&name, key, "a whole number", value)),
            }
        };
        let required =
            |key: &str| -> Result<usize> { integer(key)?.ok_or_else(|| missing(&name, key)) };
        let rope = config
            .get("rope_parameters")
            .filter(|value| value.is_object());
        let number = |key: &str| -> Result<Option<f32>> {
            match rope
                .and_then(|rope| rope.get(key))
                .or_else(|| config.get(key))
            {
                None | Some(Json::Null) => Ok(None),
                Some(value) => value
                    .as_f64()
                    .map(|value| Some(value as f32))
                    .ok_or_else(|| Error::malformed(&name, key, "a number", value)),
            }
        };
        let architecture = config["architectures"][0].as_str().unwrap_or_default();
        let known = [
            "BitNetForCausalLM",
            "BitnetForCausalLM",
            "LlamaForCausalLM",
            "Qwen3ForCausalLM",
        ];
        if !known.contains(&architecture) {
            return Err(Error::Unsupported {
                file: name,
                what: format!("architecture {architecture:?}"),
                advice: format!("supported are {}", known.join(", ")),
            });
        }
        let scaling = [config.get("rope_scaling"), rope].into_iter().flatten();
        for scaling in scaling.filter(|scaling| scaling.is_object()) {
            let kind = scaling.get("rope_type").or_else(|| scaling.get("type"));
            let kind = kind.and_then(Json::as_str).unwrap_or("default");
            if kind != "default" {
                return Err(rope_scaling(&name, kind));
            }
        }
        if config["use_sliding_window"].as_bool() == Some(true) {
            return Err(Error::Unsupported {
                file: name,
                what: "sliding-window attention".into(),
                advice: "use a model with full attention".into(),
            });
        }
        let query_heads = required("num_attention_heads")?;
        let raw = Raw {
            name: architecture.into(),
            layers: required("num_hidden_layers")?,
            hidden: required("hidden_size")?,
            feed_forward: required("intermediate_size")?,
            context: required("max_position_embeddings")?,
            query_heads,
            kv_heads: integer("num_key_value_heads")?.unwrap_or(query_heads),
            head_dim: integer("head_dim")?,
            rope_dims: None,
            rope_base: number("rope_theta")?.unwrap_or(10_000.0),
            pairs: RopePairs::HalfSplit,
            eps: number("rms_norm_eps")?.ok_or_else(|| missing(&name, "rms_norm_eps"))?,
            gate: gate(&name, config["hidden_act"].as_str().unwrap_or("silu"))?,
        };
        raw.build(&name)
    }
}

impl Raw {
    fn build(self, file: &str) -> Result<Architecture> {
        let positive = |what: &str, value: usize, most: usize| {
            if value == 0 || value > most {
                Err(Error::malformed(
                    file,
                    what,
                    format_args!("1 to {most}"),
                    value,
                ))
            } else {
                Ok(value)
            }
        };
        positive("number of layers", self.layers, MOST_LAYERS)?;
        positive("embedding length", self.hidden, 1 << 20)?;
        positive("feed-forward length", self.feed_forward, 1 << 22)?;
        positive("context length", self.context, u32::MAX as usize)?;
        positive("attention heads", self.query_heads, 1 << 12)?;
        positive("key-value heads", self.kv_heads, self.query_heads)?;
        if !self.query_heads.is_multiple_of(self.kv_heads) {
            return Err(Error::malformed(
                file,
                "key-value heads",
                format_args!("a divisor of the {} heads", self.query_heads),
                self.kv_heads,
            ));
        }
        let dim = match self.head_dim {
            Some(dim) => positive("head width", dim, 1 << 14)?,
            None if self.hidden.is_multiple_of(self.query_heads) => self.hidden / self.query_heads,
            None => {
                return Err(Error::malformed(
                    file,
                    "embedding length",
                    format_args!("a multiple of the {} heads", self.query_heads),
                    self.hidden,
                ));
            }
        };
        let rope_dims = self.rope_dims.unwrap_or(dim);
        if rope_dims == 0 || rope_dims > dim || !rope_dims.is_multiple_of(2) {
            let expected = format!("an even number up to the head width {dim}");
            return Err(Error::malformed(
                file,
                "rotary dimensions",
                expected,
                rope_dims,
            ));
        }
        for (what, value) in [("norm epsilon", self.eps), ("rotary base", self.rope_base)] {
            if !value.is_finite() || value <= 0.0 {
                return Err(Error::malformed(file, what, "a positive number", value));
            }
        }
        Ok(Architecture {
            name: self.name,
            layers: self.layers,
            hidden: self.hidden,
            feed_forward: self.feed_forward,
            context: self.context,
            heads: Heads {
                query: self.query_heads,
                kv: self.kv_heads,
                dim,
            },
            rope: Rope {
                pairs: self.pairs,
                dims: rope_dims,
                base: self.rope_base,
                divisors: Vec::new(),
            },
            eps: self.eps,
            gate: self.gate,
        })
    }
}

fn gate(file: &str, name: &str) -> Result<Gate> {
    match name {
        "relu2" | "relu_squared" => Ok(Gate::Relu2),
        "silu" | "swish" => Ok(Gate::Silu),
        other => Err(Error::Unsupported {
            file: file.into(),
            what: format!("activation function {other:?}"),
            advice: "supported are relu2 and silu".into(),
        }),
    }
}

fn missing(file: &str, key: &str) -> Error {
    Error::malformed(file, key, "a value", "no such key")
}

fn check(file: &str, what: &str, expected: usize, found: usize) -> Result<()> {
    if expected == found {
        Ok(())
    } else {
        Err(Error::malformed(file, what, expected, found))
    }
}

fn rope_scaling(file: &str, kind: &str) -> Error {
    Error::Unsupported {
        file: file.into(),
        what: format!("rotary scaling {kind:?}"),
        advice: "use a model whose positions are not scaled".into(),
    }
}
