//! Hybrid models: layers of gated delta nets between layers of gated attention (`qwen35`).

use super::architecture::missing;
use super::config::Config;
use crate::file::Gguf;
use crate::{Error, Result};
use bitnet_core::DeltaHeads;
use serde_json::Value as Json;

/// Layers of a hybrid model.
#[derive(Debug, Clone, PartialEq)]
pub struct Hybrid {
    /// Widths of the delta nets.
    pub delta: DeltaHeads,
    /// Whether each layer is a delta net.
    pub recurrent: Vec<bool>,
    /// Layers in a GGUF file behind those of the model: drafts of a next token, which are left out.
    pub left_out: usize,
}

/// The names of the numbers of delta nets in a file.
struct Names {
    key: &'static str,
    value: &'static str,
    key_dim: &'static str,
    value_dim: &'static str,
    taps: &'static str,
}

const IN_GGUF: Names = Names {
    key: "ssm.group_count",
    value: "ssm.time_step_rank",
    key_dim: "ssm.state_size",
    value_dim: "ssm.state_size",
    taps: "ssm.conv_kernel",
};

const IN_CONFIG: Names = Names {
    key: "linear_num_key_heads",
    value: "linear_num_value_heads",
    key_dim: "linear_key_head_dim",
    value_dim: "linear_value_head_dim",
    taps: "linear_conv_kernel_dim",
};

impl Names {
    /// Refuses impossible numbers. `wrong` makes an error of a name, what is expected and what was found.
    fn check(&self, heads: DeltaHeads, wrong: impl Fn(&str, String, usize) -> Error) -> Result<()> {
        for (name, count) in [
            (self.key_dim, heads.key_dim),
            (self.value_dim, heads.value_dim),
            (self.key, heads.key),
            (self.value, heads.value),
        ] {
            if count == 0 || count > 1 << 12 {
                return Err(wrong(name, "1 to 4096".into(), count));
            }
        }
        if !heads.value.is_multiple_of(heads.key) {
            let expected = format!("a multiple of the {} of {}", heads.key, self.key);
            return Err(wrong(self.value, expected, heads.value));
        }
        if !(1..=64).contains(&heads.taps) {
            return Err(wrong(self.taps, "1 to 64".into(), heads.taps));
        }
        Ok(())
    }
}

impl Hybrid {
    /// Reads the keys of a file of architecture `arch` with `blocks` layers in all.
    ///
    /// # Errors
    /// If a key is missing or impossible.
    pub(super) fn read(file: &Gguf, arch: &str, blocks: usize) -> Result<Self> {
        let key = |name: &str| format!("{arch}.{name}");
        let required = |name: &str| {
            file.usize(&key(name))?
                .ok_or_else(|| missing(file.name(), &key(name)))
        };
        let wrong = |name: &str, expected: String, found: usize| {
            Error::malformed(file.name(), key(name), expected, found)
        };
        let left_out = file.usize(&key("nextn_predict_layers"))?.unwrap_or(0);
        if left_out >= blocks {
            let expected = format!("fewer than the {blocks} of block_count");
            return Err(wrong("nextn_predict_layers", expected, left_out));
        }
        let dim = required(IN_GGUF.key_dim)?;
        let delta = DeltaHeads {
            key: required(IN_GGUF.key)?,
            value: required(IN_GGUF.value)?,
            key_dim: dim,
            value_dim: dim,
            taps: required(IN_GGUF.taps)?,
        };
        IN_GGUF.check(delta, wrong)?;
        let inner = required("ssm.inner_size")?;
        if inner != delta.value_width() {
            let expected = format!("{} heads of {dim}", delta.value);
            return Err(wrong("ssm.inner_size", expected, inner));
        }
        check_sections(file, arch)?;
        let layers = blocks - left_out;
        Ok(Self {
            delta,
            recurrent: recurrent_layers(file, arch, layers, blocks)?,
            left_out,
        })
    }

    /// Reads the keys of a config.json of `layers` layers. What it leaves out is as in `Qwen3_5TextConfig`.
    ///
    /// # Errors
    /// If a key is impossible.
    pub(super) fn from_config(config: &Config<'_>, layers: usize) -> Result<Self> {
        let delta = DeltaHeads {
            key: config.integer(IN_CONFIG.key, 16)?,
            value: config.integer(IN_CONFIG.value, 32)?,
            key_dim: config.integer(IN_CONFIG.key_dim, 128)?,
            value_dim: config.integer(IN_CONFIG.value_dim, 128)?,
            taps: config.integer(IN_CONFIG.taps, 4)?,
        };
        IN_CONFIG.check(delta, |key, expected, found| {
            Error::malformed(config.name, key, expected, found)
        })?;
        Ok(Self {
            delta,
            recurrent: layer_types(config, layers)?,
            left_out: 0,
        })
    }

    /// Whether a tensor belongs to layers that are left out, or to a part of the model that sees.
    pub fn leaves_out(&self, name: &str) -> bool {
        let layers = self.recurrent.len();
        let layer = name
            .strip_prefix("blk.")
            .and_then(|rest| rest.split_once('.'))
            .and_then(|(layer, _)| layer.parse::<usize>().ok());
        let behind = layer.is_some_and(|layer| (layers..layers + self.left_out).contains(&layer));
        // Of GGUF files, and of checkpoints.
        let others = ["v.", "mm.", "mtp.", "model.visual."];
        behind || others.iter().any(|prefix| name.starts_with(prefix))
    }
}

/// Whether each of `layers` layers is a delta net, by a config.json.
fn layer_types(config: &Config<'_>, layers: usize) -> Result<Vec<bool>> {
    const KEY: &str = "layer_types";
    let wrong = |key: &str, expected: &str, found: &dyn std::fmt::Display| {
        Error::malformed(config.name, key, expected, found)
    };
    let kinds = match config.get(KEY) {
        None => {
            let key = "full_attention_interval";
            return match config.integer(key, 4)? {
                0 => Err(wrong(key, "at least 1", &0)),
                interval => Ok(every(interval, layers)),
            };
        }
        Some(Json::Array(kinds)) => kinds,
        Some(other) => return Err(wrong(KEY, "a list of names", other)),
    };
    if kinds.len() != layers {
        let expected = format!("{layers} names, one for each layer");
        return Err(wrong(KEY, &expected, &kinds.len()));
    }
    let kind = |kind: &Json| match kind.as_str() {
        Some("linear_attention") => Ok(true),
        Some("full_attention") => Ok(false),
        _ => {
            let expected = "\"linear_attention\" or \"full_attention\"";
            Err(wrong(KEY, expected, kind))
        }
    };
    kinds.iter().map(kind).collect()
}

/// Whether each layer is a delta net, where one of `interval` layers is not.
fn every(interval: usize, layers: usize) -> Vec<bool> {
    let is_full = |layer: usize| (layer + 1).is_multiple_of(interval);
    (0..layers).map(|layer| !is_full(layer)).collect()
}

/// Whether each of the model's layers is a delta net.
fn recurrent_layers(file: &Gguf, arch: &str, layers: usize, blocks: usize) -> Result<Vec<bool>> {
    let key = format!("{arch}.attention.recurrent_layers");
    let interval_key = format!("{arch}.full_attention_interval");
    let Some(mut flags) = file.flags(&key)? else {
        let interval = file.usize(&interval_key)?.unwrap_or(4);
        if interval == 0 {
            return Err(Error::malformed(file.name(), interval_key, "at least 1", 0));
        }
        return Ok(every(interval, layers));
    };
    if flags.len() != layers && flags.len() != blocks {
        let expected = format!("{layers} or {blocks} elements, one for each layer");
        return Err(Error::malformed(file.name(), key, expected, flags.len()));
    }
    flags.truncate(layers);
    Ok(flags)
}

/// Refuses rotary sections by which positions of text would rotate other than plainly.
fn check_sections(file: &Gguf, arch: &str) -> Result<()> {
    let key = format!("{arch}.rope.dimension_sections");
    let sections = file.i32s(&key)?.ok_or_else(|| missing(file.name(), &key))?;
    let dims_key = format!("{arch}.rope.dimension_count");
    let dims = file
        .usize(&dims_key)?
        .ok_or_else(|| missing(file.name(), &dims_key))?;
    let pairs = i32::try_from(dims / 2).unwrap_or(i32::MAX);
    let thirds = [
        pairs / 3 + i32::from(pairs % 3 > 0),
        pairs / 3 + i32::from(pairs % 3 > 1),
        pairs / 3,
    ];
    let plain = match sections[..] {
        [t, h, w] | [t, h, w, 0] => [t, h, w] == thirds,
        _ => false,
    };
    if plain {
        return Ok(());
    }
    Err(Error::Unsupported {
        file: file.name().into(),
        what: format!("{key} {sections:?}"),
        advice: format!("supported are thirds of the {pairs} pairs, {thirds:?}"),
    })
}
