//! Hybrid models: layers of gated delta nets between layers of gated attention (`qwen35`).

use super::architecture::missing;
use crate::file::Gguf;
use crate::{Error, Result};
use bitnet_core::DeltaHeads;

/// Layers of a hybrid model.
#[derive(Debug, Clone, PartialEq)]
pub struct Hybrid {
    /// Widths of the delta nets.
    pub delta: DeltaHeads,
    /// Whether each layer is a delta net.
    pub recurrent: Vec<bool>,
    /// Layers in the file behind those of the model: drafts of a next token, which are left out.
    pub left_out: usize,
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
        let wrong = |name: &str, expected: String, found: String| {
            Err(Error::malformed(file.name(), key(name), expected, found))
        };
        let left_out = file.usize(&key("nextn_predict_layers"))?.unwrap_or(0);
        if left_out >= blocks {
            let expected = format!("fewer than the {blocks} of block_count");
            return wrong("nextn_predict_layers", expected, left_out.to_string());
        }
        let dim = required("ssm.state_size")?;
        let delta = DeltaHeads {
            key: required("ssm.group_count")?,
            value: required("ssm.time_step_rank")?,
            key_dim: dim,
            value_dim: dim,
            taps: required("ssm.conv_kernel")?,
        };
        for (name, count) in [
            ("ssm.state_size", dim),
            ("ssm.group_count", delta.key),
            ("ssm.time_step_rank", delta.value),
        ] {
            if count == 0 || count > 1 << 12 {
                return wrong(name, "1 to 4096".into(), count.to_string());
            }
        }
        if !delta.value.is_multiple_of(delta.key) {
            let expected = format!("a multiple of the {} key heads", delta.key);
            return wrong("ssm.time_step_rank", expected, delta.value.to_string());
        }
        if !(1..=64).contains(&delta.taps) {
            return wrong("ssm.conv_kernel", "1 to 64".into(), delta.taps.to_string());
        }
        let inner = required("ssm.inner_size")?;
        if inner != delta.value_width() {
            let expected = format!("{} heads of {dim}", delta.value);
            return wrong("ssm.inner_size", expected, inner.to_string());
        }
        check_sections(file, arch)?;
        let layers = blocks - left_out;
        Ok(Self {
            delta,
            recurrent: recurrent_layers(file, arch, layers, blocks)?,
            left_out,
        })
    }

    /// Whether a tensor belongs to layers that are left out, or to a part of the model that sees.
    pub(super) fn leaves_out(&self, name: &str) -> bool {
        let layers = self.recurrent.len();
        let layer = name
            .strip_prefix("blk.")
            .and_then(|rest| rest.split_once('.'))
            .and_then(|(layer, _)| layer.parse::<usize>().ok());
        let behind = layer.is_some_and(|layer| (layers..layers + self.left_out).contains(&layer));
        behind || name.starts_with("v.") || name.starts_with("mm.")
    }
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
        let is_full = |layer: usize| (layer + 1).is_multiple_of(interval);
        return Ok((0..layers).map(|layer| !is_full(layer)).collect());
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
