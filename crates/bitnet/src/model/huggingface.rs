//! Tensors and tokenizer of a Hugging Face checkpoint (safetensors with config.json).
//!
//! Ternary projections come packed (U8, with a `weight_scale`) or as master weights that are quantized here by
//! absmean; both become I2_S rows in memory. Embedding, head and norms stay where the file is mapped.

use super::weights::Source;
use crate::file::{Dtype, RawTensor, SafeTensorsModel};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};
use bitnet_core::WeightMatrix;
use bitnet_quant::hf_packed::{self, WeightScale};
use bitnet_quant::{AbsMean, Format, I2sLayout, ternarize};
use rayon::prelude::*;
use serde_json::Value as Json;
use std::collections::HashSet;
use std::path::Path;

/// The in-memory format of quantized projections, and the columns its rows are padded to.
const PACKED: Format = Format::I2s(I2sLayout::A);

/// A checkpoint as a source of tensors.
pub(crate) struct CheckpointSource<'a> {
    file: &'a SafeTensorsModel,
    quantized: bool,
    scale: WeightScale,
    keep: Vec<String>,
    used: HashSet<String>,
}

impl<'a> CheckpointSource<'a> {
    pub(crate) fn new(file: &'a SafeTensorsModel) -> Result<Self> {
        let config = file.config();
        let quantization = &config["quantization_config"];
        let method = quantization["quant_method"].as_str();
        if let Some(other) = method.filter(|method| *method != "bitnet") {
            return Err(Error::Unsupported {
                file: file.name().into(),
                what: format!("quantization method {other:?}"),
                advice: "use a checkpoint quantized by the bitnet method, or a GGUF file".into(),
            });
        }
        if quantization["use_rms_norm"].as_bool() == Some(true) {
            return Err(Error::Unsupported {
                file: file.name().into(),
                what: "a norm inside every projection (use_rms_norm)".into(),
                advice: "use a checkpoint without it".into(),
            });
        }
        let scale = match quantization["linear_class"].as_str() {
            Some("autobitlinear") => WeightScale::Multiply,
            None | Some("bitlinear") => WeightScale::Divide,
            Some(other) => {
                let expected = "bitlinear or autobitlinear";
                return Err(Error::malformed(
                    file.name(),
                    "linear_class",
                    expected,
                    other,
                ));
            }
        };
        let keep = quantization["modules_to_not_convert"].as_array();
        let keep = keep
            .into_iter()
            .flatten()
            .filter_map(|name| Some(name.as_str()?.to_owned()));
        // 1bitLLM's checkpoints are master weights without a quantization_config.
        let master = config["architectures"][0].as_str() == Some("BitnetForCausalLM");
        let flagged = config["is_bitnet_config"].as_bool() == Some(true);
        Ok(Self {
            file,
            quantized: method.is_some() || master || flagged,
            scale,
            keep: keep.collect(),
            used: HashSet::new(),
        })
    }

    /// The tensor of a role under the first of its names that the file has.
    fn take(&mut self, role: &str) -> Option<RawTensor> {
        let tensor = names(role)
            .into_iter()
            .find_map(|name| self.file.tensor(&name))?;
        self.used.insert(tensor.name.clone());
        Some(tensor)
    }

    fn error(&self, tensor: &RawTensor, expected: impl ToString, found: impl ToString) -> Error {
        Error::tensor(self.file.name(), &tensor.name, expected, found)
    }

    fn expect_shape(&self, tensor: &RawTensor, expected: &[usize]) -> Result<()> {
        if tensor.shape == expected {
            return Ok(());
        }
        let expected = format!("shape {expected:?}");
        Err(self.error(tensor, expected, format!("{:?}", tensor.shape)))
    }

    fn float_format(&self, tensor: &RawTensor) -> Result<Format> {
        match tensor.dtype {
            Dtype::F32 => Ok(Format::F32),
            Dtype::F16 => Ok(Format::F16),
            Dtype::BF16 => Ok(Format::Bf16),
            other => Err(self.error(tensor, "F32, F16 or BF16", format!("{other:?}"))),
        }
    }

    /// The multiplier in a `weight_scale` tensor beside `weight`, if there is one.
    fn weight_scale(&mut self, weight: &RawTensor) -> Result<Option<f32>> {
        let Some(tensor) = self.file.tensor(&format!("{}_scale", weight.name)) else {
            return Ok(None);
        };
        self.used.insert(tensor.name.clone());
        if tensor.shape.iter().product::<usize>() != 1 {
            return Err(self.error(&tensor, "one number", format!("shape {:?}", tensor.shape)));
        }
        let mut value = [0.0];
        self.float_format(&tensor)?
            .decode_row(&tensor.data, 1.0, &mut value)?;
        let factor = self.scale.factor(value[0]);
        factor
            .map(Some)
            .map_err(|error| self.error(&tensor, "a usable scale", error))
    }

    /// Codes of every row, by `row(index, codes)`, as one I2_S matrix.
    fn pack(
        &self,
        tensor: &RawTensor,
        (rows, cols): (usize, usize),
        scale: f32,
        row: impl Fn(usize, &mut [i8]) -> Result<()> + Sync,
    ) -> Result<WeightMatrix> {
        let stored = cols.next_multiple_of(PACKED.block_len());
        let row_bytes = PACKED.row_bytes(stored)?;
        let bytes = rows.saturating_mul(row_bytes);
        let mut data = Vec::new();
        data.try_reserve_exact(bytes)
            .map_err(|_| bitnet_core::Error::OutOfMemory {
                what: tensor.name.clone(),
                bytes,
                in_use: 0,
                limit: None,
            })?;
        data.resize(bytes, 0);
        data.par_chunks_mut(row_bytes)
            .enumerate()
            .try_for_each(|(index, out)| {
                let mut codes = vec![0; stored];
                row(index, &mut codes[..cols])?;
                Ok::<_, Error>(PACKED.encode_codes(&codes, &[], out)?)
            })?;
        Ok(WeightMatrix::new(
            &tensor.name,
            PACKED,
            (rows, cols, stored),
            scale,
            data.into(),
        )?)
    }

    /// A packed projection: four rows to a byte row.
    fn packed(&mut self, tensor: &RawTensor, rows: usize, cols: usize) -> Result<WeightMatrix> {
        self.expect_shape(tensor, &[rows.div_ceil(4), cols])?;
        let Some(scale) = self.weight_scale(tensor)? else {
            let name = format!("{}_scale", tensor.name);
            return Err(Error::tensor(
                self.file.name(),
                name,
                "a tensor",
                "none in the file",
            ));
        };
        self.pack(tensor, (rows, cols), scale, |row, codes| {
            hf_packed::unpack_row(&tensor.data, rows, cols, row, codes)
                .map_err(|error| self.error(tensor, "ternary codes", error))
        })
    }

    /// Master weights, quantized by the mean of their magnitudes.
    fn quantize(&mut self, tensor: &RawTensor, rows: usize, cols: usize) -> Result<WeightMatrix> {
        let format = self.float_format(tensor)?;
        let row_bytes = format.row_bytes(cols)?;
        let decode = |row: usize, out: &mut [f32]| {
            format.decode_row(&tensor.data[row * row_bytes..][..row_bytes], 1.0, out)
        };
        let mut mean = AbsMean::new();
        let mut values = vec![0.0; cols];
        for row in 0..rows {
            decode(row, &mut values)?;
            mean.add(&values);
        }
        let scale = mean
            .scale()
            .map_err(|error| self.error(tensor, "finite weights", error))?;
        // A checkpoint of mode "offline" whose weights were left as floats still scales its products.
        let factor = self.weight_scale(tensor)?.unwrap_or(1.0);
        let matrix = self.pack(tensor, (rows, cols), scale, |row, codes| {
            let mut values = vec![0.0; cols];
            decode(row, &mut values)?;
            Ok(ternarize(&values, scale, codes)?)
        })?;
        Ok(matrix.with_output_scale(factor)?)
    }
}

impl Source for CheckpointSource<'_> {
    fn file(&self) -> &str {
        self.file.name()
    }

    fn matrix(
        &mut self,
        role: &str,
        rows: Option<usize>,
        cols: usize,
    ) -> Result<Option<WeightMatrix>> {
        let Some(tensor) = self.take(role) else {
            return Ok(None);
        };
        let rows = rows.or(tensor.shape.first().copied()).unwrap_or_default();
        let module = tensor.name.trim_end_matches(".weight");
        let kept = self
            .keep
            .iter()
            .any(|name| module.split('.').any(|part| part == name) || module == name);
        if tensor.dtype == Dtype::U8 {
            return self.packed(&tensor, rows, cols).map(Some);
        }
        self.expect_shape(&tensor, &[rows, cols])?;
        if role.starts_with("blk.") && self.quantized && !kept {
            return self.quantize(&tensor, rows, cols).map(Some);
        }
        let format = self.float_format(&tensor)?;
        let shape = (rows, cols, cols);
        Ok(Some(WeightMatrix::new(
            &tensor.name,
            format,
            shape,
            1.0,
            tensor.data,
        )?))
    }

    fn vector(&mut self, role: &str, len: usize) -> Result<Option<Vec<f32>>> {
        let Some(tensor) = self.take(role) else {
            return Ok(None);
        };
        self.expect_shape(&tensor, &[len])?;
        let mut values = vec![0.0; len];
        self.float_format(&tensor)?
            .decode_row(&tensor.data, 1.0, &mut values)?;
        Ok(Some(values))
    }

    fn tensor_name(&self, role: &str) -> String {
        names(role)
            .into_iter()
            .next()
            .unwrap_or_else(|| role.into())
    }

    fn unused(&self) -> Vec<String> {
        let names = self.file.names().filter(|name| {
            // Old checkpoints store the rotary frequencies, which follow from the configuration; a tied head may be
            // written out.
            !self.used.contains(*name) && !name.ends_with("rotary_emb.inv_freq")
        });
        names.map(str::to_owned).collect()
    }
}

/// The names that checkpoints give to a role, the usual one first.
fn names(role: &str) -> Vec<String> {
    let top = match role {
        "token_embd" => Some("model.embed_tokens"),
        "output" => Some("lm_head"),
        "output_norm" => Some("model.norm"),
        _ => None,
    };
    if let Some(name) = top {
        return vec![format!("{name}.weight")];
    }
    let Some((layer, part)) = role
        .strip_prefix("blk.")
        .and_then(|rest| rest.split_once('.'))
    else {
        return Vec::new();
    };
    let parts: &[&str] = match part {
        "attn_norm" => &["input_layernorm"],
        "attn_q" => &["self_attn.q_proj"],
        "attn_k" => &["self_attn.k_proj"],
        "attn_v" => &["self_attn.v_proj"],
        "attn_q_norm" => &["self_attn.q_norm"],
        "attn_k_norm" => &["self_attn.k_norm"],
        "attn_sub_norm" => &["self_attn.attn_sub_norm", "self_attn.inner_attn_ln"],
        "attn_output" => &["self_attn.o_proj"],
        "ffn_norm" => &["post_attention_layernorm"],
        "ffn_gate" => &["mlp.gate_proj"],
        "ffn_up" => &["mlp.up_proj"],
        "ffn_sub_norm" => &["mlp.ffn_sub_norm", "mlp.ffn_layernorm"],
        "ffn_down" => &["mlp.down_proj"],
        _ => &[],
    };
    parts
        .iter()
        .map(|part| format!("model.layers.{layer}.{part}.weight"))
        .collect()
}

/// The tokenizer beside a checkpoint, and the chat template it comes with.
///
/// # Errors
/// If tokenizer.json is missing or is no tokenizer.
pub(crate) fn tokenizer(file: &SafeTensorsModel) -> Result<(Tokenizer, Option<String>)> {
    let Some(path) = file.sibling("tokenizer.json") else {
        return Err(Error::Tokenizer {
            file: file.name().into(),
            message: "no tokenizer.json beside the weights".into(),
        });
    };
    let config = match file.sibling("tokenizer_config.json") {
        Some(path) => Some(read_json(&path)?),
        None => None,
    };
    let json = std::fs::read(&path).map_err(|error| Error::io(&path, error))?;
    let tokenizer = Tokenizer::from_json(&path.display().to_string(), &json, config.as_ref())?;
    let template = match file.sibling("chat_template.jinja") {
        Some(path) => {
            Some(std::fs::read_to_string(&path).map_err(|error| Error::io(&path, error))?)
        }
        None => config
            .as_ref()
            .and_then(|config| template(&config["chat_template"])),
    };
    Ok((tokenizer, template))
}

/// A template is a string, or a list of named ones of which "default" counts.
fn template(value: &Json) -> Option<String> {
    let named = |list: &Vec<Json>| {
        let default = list
            .iter()
            .find(|entry| entry["name"] == "default")
            .or(list.first())?;
        default["template"].as_str().map(str::to_owned)
    };
    value
        .as_str()
        .map(str::to_owned)
        .or_else(|| value.as_array().and_then(named))
}

fn read_json(path: &Path) -> Result<Json> {
    let text = std::fs::read(path).map_err(|error| Error::io(path, error))?;
    serde_json::from_slice(&text)
        .map_err(|error| Error::malformed(path.display().to_string(), "contents", "JSON", error))
}
