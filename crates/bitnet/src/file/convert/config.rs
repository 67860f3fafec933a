//! The numbers of an architecture, between GGUF metadata and config.json.

use bitnet_core::{Gate, RopePairs};
use serde_json::{Map, Value as Json, json};

use super::rope;
use super::weights::{RowOrder, Tensor};
use crate::file::gguf::GgufArchitecture;
use crate::file::gguf::GgufWriter;
use crate::file::names::to_gguf;
use crate::file::synth::TernaryType;
use crate::file::{Gguf, SafeTensorsModel};
use crate::model::Architecture;
use crate::{Error, Result};

/// An architecture and what the two kinds of file call it.
pub(super) struct Numbers {
    architecture: Architecture,
    /// The architecture in GGUF.
    gguf: &'static GgufArchitecture,
    /// The class in config.json.
    class: String,
    /// What the model calls itself.
    title: String,
    /// `rope_scaling` of a config.json to be written.
    rope: Option<Json>,
}

impl Numbers {
    /// The numbers in the metadata of a GGUF file.
    ///
    /// # Errors
    /// If they are incomplete or wrong, or the architecture is none that is known here.
    pub(super) fn from_gguf(file: &Gguf) -> Result<Self> {
        let mut architecture = Architecture::from_gguf(file)?;
        if architecture.hadamard.is_some() {
            return Err(Error::Unsupported {
                file: file.name().to_owned(),
                what: "converting rotated weights to safetensors".to_owned(),
                advice: "convert it to another GGUF type".to_owned(),
            });
        }
        rope::recognize_divisors(file, &mut architecture)?;
        if architecture.rope.dims != architecture.heads.dim {
            return Err(Error::Unsupported {
                file: file.name().to_owned(),
                what: "converting a model that rotates only part of each head to safetensors"
                    .to_owned(),
                advice: "convert it to another GGUF type".to_owned(),
            });
        }
        let name = &architecture.name;
        let Some(gguf) = GgufArchitecture::named(name) else {
            return Err(no_class(file.name(), name));
        };
        let Some(class) = gguf.classes.first() else {
            return Err(no_class(file.name(), name));
        };
        Ok(Self {
            gguf,
            class: (*class).to_owned(),
            title: file.text("general.name").unwrap_or_default(),
            rope: rope::to_config(file.name(), &architecture.rope_scaling)?,
            architecture,
        })
    }

    /// The numbers in the config.json of a checkpoint.
    ///
    /// # Errors
    /// If they are incomplete or wrong, or GGUF has no name for the architecture.
    pub(super) fn from_checkpoint(file: &SafeTensorsModel) -> Result<Self> {
        let architecture = Architecture::from_config(file)?;
        let class = architecture.name.as_str();
        if architecture.hybrid.is_some() {
            return Err(Error::Unsupported {
                file: file.name().to_owned(),
                what: format!("converting {class}, whose layers GGUF holds in another order"),
                advice: "run it as it is, or use the GGUF file of the same model".to_owned(),
            });
        }
        let Some(gguf) = GgufArchitecture::of_class(class, architecture.gate) else {
            return Err(Error::Unsupported {
                file: file.name().to_owned(),
                what: format!("converting {class} with squared ReLU"),
                advice: "only BitNetForCausalLM can have it".to_owned(),
            });
        };
        let title = file.config()["_name_or_path"].as_str().unwrap_or_default();
        Ok(Self {
            gguf,
            class: architecture.name.clone(),
            title: title.to_owned(),
            rope: None,
            architecture,
        })
    }

    /// The architecture in GGUF.
    pub(super) fn gguf(&self) -> &'static GgufArchitecture {
        self.gguf
    }

    /// The order that the rows of queries and keys get on their way from a checkpoint to GGUF.
    pub(super) fn order_to_gguf(&self) -> RowOrder {
        match self.gguf.pairs {
            RopePairs::Interleaved => RowOrder::Interleave(self.architecture.heads.dim),
            RopePairs::HalfSplit => RowOrder::Same,
        }
    }

    /// The order that the rows of queries and keys get on their way from GGUF to a checkpoint.
    pub(super) fn order_to_checkpoint(&self) -> RowOrder {
        match self.gguf.pairs {
            RopePairs::Interleaved => RowOrder::Separate(self.architecture.heads.dim),
            RopePairs::HalfSplit => RowOrder::Same,
        }
    }

    /// Tokens that the embedding has a row for.
    pub(super) fn vocabulary(tensors: &[Tensor]) -> usize {
        let embedding = tensors
            .iter()
            .find(|tensor| tensor.name == "token_embd.weight");
        embedding.map_or(0, |tensor| tensor.rows)
    }

    /// Rows and columns that a tensor of a layer, named as in GGUF, must have.
    pub(super) fn shape(&self, name: &str) -> Option<(usize, usize)> {
        let shape = &self.architecture;
        let (heads, hidden, ffn) = (shape.heads, shape.hidden, shape.feed_forward);
        let (_, part) = name.strip_prefix("blk.")?.split_once('.')?;
        Some(match part {
            "attn_q.weight" => (heads.query * heads.dim, hidden),
            "attn_k.weight" | "attn_v.weight" => (heads.kv * heads.dim, hidden),
            "attn_output.weight" => (hidden, heads.query * heads.dim),
            "ffn_gate.weight" | "ffn_up.weight" => (ffn, hidden),
            "ffn_down.weight" => (hidden, ffn),
            _ => return None,
        })
    }

    /// Writes the metadata of the architecture, in the order of published files.
    pub(super) fn to_metadata(
        &self,
        tensors: &[Tensor],
        ternary: TernaryType,
        writer: &mut GgufWriter,
    ) {
        let shape = &self.architecture;
        let (heads, rope) = (shape.heads, &shape.rope);
        let key = |name: &str| format!("{}.{name}", self.gguf.name);
        writer.entry("general.architecture", self.gguf.name);
        if !self.title.is_empty() {
            writer.entry("general.name", self.title.as_str());
        }
        writer
            .entry(key("vocab_size"), Self::vocabulary(tensors) as u32)
            .entry(key("context_length"), shape.context as u32)
            .entry(key("embedding_length"), shape.hidden as u32)
            .entry(key("block_count"), shape.layers as u32)
            .entry(key("feed_forward_length"), shape.feed_forward as u32)
            .entry(key("rope.dimension_count"), rope.dims as u32)
            .entry(key("attention.head_count"), heads.query as u32)
            .entry(key("attention.head_count_kv"), heads.kv as u32);
        if self.gguf.name == "qwen3" || heads.dim * heads.query != shape.hidden {
            writer
                .entry(key("attention.key_length"), heads.dim as u32)
                .entry(key("attention.value_length"), heads.dim as u32);
        }
        writer
            .entry(key("attention.layer_norm_rms_epsilon"), shape.eps)
            .entry(key("rope.freq_base"), rope.base);
        rope::to_metadata(self.gguf.name, &shape.rope_scaling, writer);
        writer.entry("general.file_type", ternary.file_type());
    }

    /// The tensor that states the model's rotary scaling, where that has no metadata in GGUF.
    ///
    /// # Errors
    /// [`Error::Unsupported`], about `file`, for scaling that GGUF cannot state.
    pub(super) fn rope_tensor(&self, file: &str) -> Result<Option<Tensor>> {
        rope::refuse_without_keys(file, self.gguf, &self.architecture)?;
        Ok(rope::to_tensor(&self.architecture))
    }

    /// What a GGUF file leaves unsaid of the model's rotary scaling.
    pub(super) fn rope_note(&self) -> Option<String> {
        rope::unsaid(&self.architecture)
    }

    /// A config.json.
    ///
    /// # Errors
    /// If a special token's id has the wrong type.
    pub(super) fn to_config(&self, tensors: &[Tensor], file: &Gguf) -> Result<Json> {
        let shape = &self.architecture;
        let (heads, rope) = (shape.heads, &shape.rope);
        let act = match shape.gate {
            Gate::Relu2 => "relu2",
            Gate::Silu => "silu",
            Gate::Gelu => "gelu_pytorch_tanh",
        };
        let tied = !tensors.iter().any(|tensor| tensor.name == "output.weight");
        let mut config = json!({
            "architectures": [self.class],
            "model_type": self.gguf.model_type,
            "hidden_size": shape.hidden,
            "intermediate_size": shape.feed_forward,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": heads.query,
            "num_key_value_heads": heads.kv,
            "head_dim": heads.dim,
            "vocab_size": Self::vocabulary(tensors),
            "max_position_embeddings": shape.context,
            "hidden_act": act,
            "rms_norm_eps": decimal(shape.eps),
            "rope_theta": decimal(rope.base),
            "tie_word_embeddings": tied,
            "attention_bias": false,
            "torch_dtype": "bfloat16",
        });
        for name in ["bos_token_id", "eos_token_id"] {
            if let Some(id) = file.u32(&format!("tokenizer.ggml.{name}"))? {
                config[name] = id.into();
            }
        }
        if let Some(scaling) = &self.rope {
            config["rope_scaling"] = scaling.clone();
        }
        if !self.title.is_empty() {
            config["_name_or_path"] = self.title.clone().into();
        }
        Ok(config)
    }
}

/// A number with the fewest digits that give the same f32 again.
pub(super) fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// Says in a config.json that the projections are packed, but for the modules of the weights `kept`.
pub(super) fn mark_packed(config: &mut Json, kept: &[String]) {
    let mut modules: Vec<Json> = config["quantization_config"]["modules_to_not_convert"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    for weight in kept {
        let module = Json::from(weight.trim_end_matches(".weight"));
        if to_gguf(weight).is_some() && !modules.contains(&module) {
            modules.push(module);
        }
    }
    let mut quantization = Map::new();
    quantization.insert("quant_method".into(), "bitnet".into());
    quantization.insert("linear_class".into(), "autobitlinear".into());
    quantization.insert("quantization_mode".into(), "offline".into());
    // Without a list transformers leaves the head alone; with one it must be on it.
    let head = Json::from("lm_head");
    let modules = if modules.is_empty() {
        Json::Null
    } else {
        if !modules.contains(&head) {
            modules.push(head);
        }
        modules.into()
    };
    quantization.insert("modules_to_not_convert".into(), modules);
    config["quantization_config"] = quantization.into();
}

fn no_class(file: &str, architecture: &str) -> Error {
    Error::Unsupported {
        file: file.to_owned(),
        what: format!("converting architecture {architecture:?} to safetensors"),
        advice: "no class of config.json is known for it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_bits_and_look_short() {
        assert_eq!(decimal(1e-5).to_string(), "0.00001");
        for value in [1e-5f32, 500_000.0, 1_000_042.0, 1e-6, 0.1] {
            assert_eq!(decimal(value) as f32, value);
        }
    }

    #[test]
    fn packing_is_marked() {
        let mut config = json!({"quantization_config": {"modules_to_not_convert": ["lm_head"], "linear_class": "bitlinear"}});
        mark_packed(
            &mut config,
            &["model.layers.0.mlp.up_proj.weight".to_owned()],
        );
        let quantization = &config["quantization_config"];
        assert_eq!(quantization["linear_class"], "autobitlinear");
        assert_eq!(
            quantization["modules_to_not_convert"],
            json!(["lm_head", "model.layers.0.mlp.up_proj"])
        );
        let mut config = json!({});
        mark_packed(&mut config, &[]);
        assert_eq!(
            config["quantization_config"]["modules_to_not_convert"],
            Json::Null
        );
    }
}
