//! Rotary scaling between GGUF, which has keys and a tensor of divisors for it, and config.json, which has a dictionary.

use bitnet_core::RopePairs;
use bitnet_quant::Format;
use serde_json::{Value as Json, json};

use super::config::decimal;
use super::weights::{Content, RowOrder, Tensor};
use crate::file::gguf::{GgufArchitecture, GgufWriter};
use crate::file::{Bytes, Gguf};
use crate::model::{Architecture, RopeScaling, ScalingKind};
use crate::{Error, Result};

/// The tensor of divisors of frequencies, F32, one for each pair.
pub(super) const DIVISORS: &str = "rope_freqs.weight";

/// Writes the metadata of `scaling`. llama.cpp multiplies YaRN's own magnitude by `attn_factor`.
pub(super) fn to_metadata(arch: &str, scaling: &RopeScaling, writer: &mut GgufWriter) {
    let key = |name: &str| format!("{arch}.rope.scaling.{name}");
    match scaling.kind {
        ScalingKind::Linear { factor } => {
            writer
                .entry(key("type"), "linear")
                .entry(key("factor"), factor as f32);
        }
        ScalingKind::Yarn {
            factor, original, ..
        } => {
            writer
                .entry(key("type"), "yarn")
                .entry(key("factor"), factor as f32)
                .entry(key("original_context_length"), original as u32);
            let attention = scaling.attention_factor() as f32;
            if attention != 1.0 {
                writer.entry(key("attn_factor"), attention);
            }
        }
        ScalingKind::None | ScalingKind::Llama3 { .. } | ScalingKind::Dynamic { .. } => {}
    }
}

/// The tensor of divisors, for scaling that has no metadata: Llama 3's.
pub(super) fn to_tensor(architecture: &Architecture) -> Option<Tensor> {
    let ScalingKind::Llama3 { .. } = architecture.rope_scaling.kind else {
        return None;
    };
    let divisors = &architecture.rope.divisors;
    let data: Vec<u8> = divisors.iter().flat_map(|d| d.to_le_bytes()).collect();
    Some(Tensor {
        name: DIVISORS.to_owned(),
        source: "rope_scaling of config.json".to_owned(),
        rows: 1,
        cols: divisors.len(),
        ne: vec![divisors.len() as u64],
        content: Content::Plain {
            format: Format::F32,
            data: Bytes::from(data),
        },
        order: RowOrder::Same,
        rounded: false,
    })
}

/// What a GGUF file leaves unsaid.
pub(super) fn unsaid(architecture: &Architecture) -> Option<String> {
    let ScalingKind::Dynamic { .. } = architecture.rope_scaling.kind else {
        return None;
    };
    Some(format!(
        "GGUF has no dynamic rotary scaling: beyond its {} positions the model is not scaled.",
        architecture.context
    ))
}

/// Refuses scaling for which a GGUF file of that architecture has no keys that its readers heed.
pub(super) fn refuse_without_keys(
    file: &str,
    gguf: &GgufArchitecture,
    architecture: &Architecture,
) -> Result<()> {
    let what = match architecture.rope_scaling.kind {
        ScalingKind::Yarn {
            original,
            beta_fast,
            beta_slow,
            truncate,
            ..
        } => {
            let whole = original.fract() == 0.0 && original <= f64::from(u32::MAX);
            if (beta_fast, beta_slow, truncate, whole) == (32.0, 1.0, true, true) {
                None
            } else {
                Some("YaRN with a beta_fast, beta_slow, truncate or original length of its own")
            }
        }
        ScalingKind::Llama3 { .. } if gguf.name != "llama" => {
            Some("Llama 3's rotary scaling in another architecture")
        }
        _ if gguf.pairs == RopePairs::Interleaved
            && architecture.rope.dims != architecture.heads.dim =>
        {
            Some("interleaved pairs of only part of each head")
        }
        _ => None,
    };
    what.map_or(Ok(()), |what| {
        Err(Error::Unsupported {
            file: file.to_owned(),
            what: format!("converting {what} to GGUF"),
            advice: "other readers of the file would not heed it; keep the model as safetensors"
                .to_owned(),
        })
    })
}

/// The dictionary `rope_scaling` of a config.json, which transformers 4 and 5 read beside `rope_theta`; none where
/// nothing is scaled.
///
/// # Errors
/// [`Error::Unsupported`] for a magnitude that such a dictionary cannot state.
pub(super) fn to_config(file: &str, scaling: &RopeScaling) -> Result<Option<Json>> {
    let number = |value: f64| decimal(value as f32);
    let dictionary = match scaling.kind {
        ScalingKind::Yarn {
            factor, original, ..
        } => {
            let mut dictionary = json!({
                "rope_type": "yarn",
                "factor": number(factor),
                "original_max_position_embeddings": original as u64,
            });
            if (scaling.attention_factor() - 1.0).abs() > 1e-9 {
                dictionary["attention_factor"] = number(scaling.magnitude).into();
            }
            return Ok(Some(dictionary));
        }
        ScalingKind::Linear { factor } => {
            Some(json!({"rope_type": "linear", "factor": number(factor)}))
        }
        ScalingKind::Llama3 {
            factor,
            low,
            high,
            original,
        } => Some(json!({
            "rope_type": "llama3",
            "factor": number(factor),
            "low_freq_factor": low,
            "high_freq_factor": high,
            "original_max_position_embeddings": original as u64,
        })),
        ScalingKind::Dynamic { factor } => {
            Some(json!({"rope_type": "dynamic", "factor": number(factor)}))
        }
        ScalingKind::None => None,
    };
    if scaling.magnitude == 1.0 {
        return Ok(dictionary);
    }
    Err(Error::Unsupported {
        file: file.to_owned(),
        what: "converting rope.scaling.attn_factor without YaRN to safetensors".to_owned(),
        advice: "config.json has no place for it; convert to another GGUF type".to_owned(),
    })
}

/// Finds the numbers from which the divisors in `file`, if it has any, were computed: those of Llama 3.1 and later. Divisors of
/// 1 say nothing.
///
/// # Errors
/// [`Error::Unsupported`] for other divisors, [`Error::Tensor`] for what are none.
pub(super) fn recognize_divisors(file: &Gguf, architecture: &mut Architecture) -> Result<()> {
    let Some(tensor) = file.tensor(DIVISORS) else {
        return Ok(());
    };
    let rope = &architecture.rope;
    let values = tensor.row_data();
    let (values, rest) = values.as_chunks::<4>();
    let divisors: Vec<f32> = values.iter().map(|v| f32::from_le_bytes(*v)).collect();
    if tensor.format(Default::default(), file.name())? != Format::F32
        || !rest.is_empty()
        || divisors.len() != rope.dims / 2
    {
        let expected = format!("{} numbers of type F32", rope.dims / 2);
        let found = format!("{} of shape {:?}", tensor.kind, tensor.ne);
        return Err(Error::tensor(file.name(), DIVISORS, expected, found));
    }
    if divisors.iter().all(|divisor| *divisor == 1.0) {
        return Ok(());
    }
    let scaling = RopeScaling {
        kind: ScalingKind::Llama3 {
            factor: f64::from(divisors.iter().copied().fold(1.0, f32::max)),
            low: 1.0,
            high: 4.0,
            original: 8192.0,
        },
        magnitude: 1.0,
    };
    let near = |(found, expected): (&f32, f32)| (found / expected - 1.0).abs() < 1e-5;
    let expected = scaling.divisors(rope.dims, rope.base);
    if architecture.rope_scaling != RopeScaling::NONE || !divisors.iter().zip(expected).all(near) {
        return Err(Error::Unsupported {
            file: file.name().to_owned(),
            what: format!("converting {DIVISORS} that is not Llama 3.1's to safetensors"),
            advice: "config.json has no place for it; convert to another GGUF type".to_owned(),
        });
    }
    architecture.rope_scaling = scaling;
    architecture.rope.divisors = divisors;
    Ok(())
}
