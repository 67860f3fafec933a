//! A model's shape from the config.json of a checkpoint. What the file leaves out is what the configuration class of its
//! architecture has in transformers.
//!
//! Models that also see keep the numbers of the part that reads in an object of their own, `text_config`.

use super::architecture::{Architecture, Keys, MOST_LAYERS, Raw, RopeDims, gate};
use super::config_class::{CLASSES, ConfigClass};
use super::hybrid::Hybrid;
use super::scaling::ConfigRope;
use crate::file::SafeTensorsModel;
use crate::{Error, Result};
use bitnet_core::RopePairs;
use serde_json::Value as Json;

const KEYS: Keys = Keys {
    layers: "num_hidden_layers",
    hidden: "hidden_size",
    feed_forward: "intermediate_size",
    context: "max_position_embeddings",
    query_heads: "num_attention_heads",
    kv_heads: "num_key_value_heads",
    head_dim: "head_dim",
    rope_dims: "partial_rotary_factor",
    rope_base: "rope_theta",
    eps: "rms_norm_eps",
};

impl Architecture {
    /// Reads a Hugging Face config.json. What it leaves out is what the configuration class of its architecture has in
    /// transformers.
    ///
    /// # Errors
    /// As [`from_gguf`](Self::from_gguf).
    pub fn from_config(file: &SafeTensorsModel) -> Result<Self> {
        let name = format!("{} (config.json)", file.name());
        let whole = Config {
            name: &name,
            json: file.config(),
        };
        whole.refuse_rotated_weights(file)?;
        let architecture = whole.json["architectures"][0].as_str().unwrap_or_default();
        let Some(class) = CLASSES.iter().find(|class| class.name == architecture) else {
            let known: Vec<&str> = CLASSES.iter().map(|class| class.name).collect();
            return Err(Error::Unsupported {
                what: format!("architecture {architecture:?}"),
                advice: format!("supported are {}", known.join(", ")),
                file: name,
            });
        };
        whole.flag("tie_word_embeddings")?;
        let config = match class.is_hybrid {
            true => whole.of_text()?,
            false => whole,
        };
        config.refuse_other_layers(class)?;
        let query_heads = config.integer("num_attention_heads", class.heads)?;
        let context = config.integer("max_position_embeddings", class.context)?;
        let layers = config.integer("num_hidden_layers", class.layers)?;
        if !(1..=MOST_LAYERS).contains(&layers) {
            let expected = format!("1 to {MOST_LAYERS}");
            return Err(Error::malformed(&name, KEYS.layers, expected, layers));
        }
        let rope = ConfigRope::read(&name, config.json, class, context)?;
        let raw = Raw {
            name: architecture.into(),
            layers,
            hidden: config.integer("hidden_size", class.hidden)?,
            feed_forward: config.integer("intermediate_size", class.feed_forward)?,
            context,
            query_heads,
            kv_heads: match config.json.get("num_key_value_heads") {
                None => class.kv_heads.unwrap_or(query_heads),
                _ => config.integer("num_key_value_heads", query_heads)?,
            },
            head_dim: config.optional("head_dim")?.or(class.head_dim),
            rope_dims: RopeDims::Share(rope.share),
            rope_base: rope.base as f32,
            rope_scaling: rope.scaling,
            pairs: RopePairs::HalfSplit,
            eps: match config.get("rms_norm_eps") {
                None => class.eps,
                Some(value) => value
                    .as_f64()
                    .map(|value| value as f32)
                    .ok_or_else(|| Error::malformed(&name, "rms_norm_eps", "a number", value))?,
            },
            gate: match config.get("hidden_act") {
                None => gate(&name, "hidden_act", class.activation)?,
                Some(Json::String(activation)) => gate(&name, "hidden_act", activation)?,
                Some(other) => {
                    return Err(Error::malformed(&name, "hidden_act", "a string", other));
                }
            },
            scales_embedding: false,
            norms_results: false,
            pooling: None,
            hybrid: match class.is_hybrid {
                true => Some(Hybrid::from_config(&config, layers)?),
                false => None,
            },
            mixture: None,
            windows: None,
            hadamard: None,
        };
        raw.build(&name, ("", &KEYS))
    }
}

/// A config.json, or the object in it that is about the part of the model that reads.
#[derive(Clone, Copy)]
pub(super) struct Config<'a> {
    /// Its name in errors.
    pub(super) name: &'a str,
    json: &'a Json,
}

impl<'a> Config<'a> {
    /// The object that is about text: `text_config`, or else the whole.
    fn of_text(self) -> Result<Self> {
        match self.get("text_config") {
            None => Ok(self),
            Some(json @ Json::Object(_)) => {
                let text = Self { json, ..self };
                text.flag("tie_word_embeddings")?;
                Ok(text)
            }
            Some(other) => {
                let expected = "an object or null";
                Err(Error::malformed(self.name, "text_config", expected, other))
            }
        }
    }

    /// The value of a key; `None` if there is none, or null.
    pub(super) fn get(&self, key: &str) -> Option<&'a Json> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    /// A whole number, if the key is there.
    pub(super) fn optional(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let number = value.as_u64().and_then(|value| usize::try_from(value).ok());
        match number {
            Some(number) => Ok(Some(number)),
            None => Err(Error::malformed(self.name, key, "a whole number", value)),
        }
    }

    /// A whole number, or that of the class.
    pub(super) fn integer(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self.optional(key)?.unwrap_or(default))
    }

    /// Whether the key is true. False if it is missing.
    fn flag(&self, key: &str) -> Result<bool> {
        match self.get(key) {
            None => Ok(false),
            Some(Json::Bool(flag)) => Ok(*flag),
            Some(other) => Err(Error::malformed(self.name, key, "true or false", other)),
        }
    }

    fn unsupported(&self, what: &str, advice: &str) -> Error {
        Error::Unsupported {
            file: self.name.into(),
            what: what.into(),
            advice: advice.into(),
        }
    }

    /// Refuses checkpoints for MLX whose weights are rotated. Run as plain ones they would give garbage.
    fn refuse_rotated_weights(&self, file: &SafeTensorsModel) -> Result<()> {
        let kind = self.json["model_type"].as_str().unwrap_or_default();
        let what = if kind.starts_with("prism_hadamard") {
            format!("rotated weights (model_type {kind:?})")
        } else if file.sibling("hadamard.json")?.is_some() {
            "rotated weights (hadamard.json beside it)".to_owned()
        } else {
            return Ok(());
        };
        Err(self.unsupported(&what, "use the same model as a GGUF file"))
    }

    /// Refuses layers that do more than those here.
    fn refuse_other_layers(&self, class: &ConfigClass) -> Result<()> {
        for (key, what) in [
            ("attention_bias", "biases of attention (attention_bias)"),
            ("mlp_bias", "biases of the feed-forward (mlp_bias)"),
        ] {
            if self.flag(key)? {
                return Err(self.unsupported(what, "use a model whose projections have no biases"));
            }
        }
        if class.is_hybrid {
            // Its layers are read where its heads are.
            let is_gated =
                self.get("attn_output_gate").is_none() || self.flag("attn_output_gate")?;
            return match is_gated {
                true => Ok(()),
                false => {
                    let what = "attention without a gate (attn_output_gate false)";
                    Err(self.unsupported(what, "use a model whose attention is gated"))
                }
            };
        }
        let windows = "use a model with full attention";
        let full = |kind: &Json| kind.as_str() == Some("full_attention");
        let kinds = self.get("layer_types").and_then(Json::as_array);
        if let Some(kind) = kinds.and_then(|kinds| kinds.iter().find(|kind| !full(kind))) {
            return Err(self.unsupported(&format!("a layer of type {kind}"), windows));
        }
        if class.slides && self.flag("use_sliding_window")? && kinds.is_none() {
            let layers = self.integer("num_hidden_layers", class.layers)?;
            // Qwen3Config: layers from this one on have a window.
            if self.integer("max_window_layers", 28)? < layers {
                return Err(self.unsupported("sliding-window attention", windows));
            }
        }
        // The code of 1bitLLM rounds to as many bits as these say.
        for (key, bits) in [("weight_bits", 1), ("input_bits", 8)] {
            if class.name == "BitnetForCausalLM" && self.integer(key, bits)? != bits {
                let advice = format!("use a model of {bits} bits there");
                return Err(self.unsupported(&format!("another {key} than {bits}"), &advice));
            }
        }
        Ok(())
    }
}
