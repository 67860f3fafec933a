//! Checkpoints (safetensors with config.json) as input and output of a conversion.

use std::path::Path;

use bitnet_quant::{Format, WeightScale};
use half::bf16;
use serde_json::Value as Json;

use super::config::{Numbers, mark_packed};
use super::names::{self, is_projection};
use super::weights::{Content, RowOrder, Tensor, Ternary};
use super::{ConvertReport, refuse_without_ternary};
use crate::file::create::NewDirectory;
use crate::file::safetensors::SafeTensorsWriter;
use crate::file::{Bytes, Dtype, RawTensor, SafeTensorsModel};
use crate::{Error, Result};

/// What a config.json says about how weights are stored.
struct Quantization {
    /// Whether float weights of projections are master weights, to be made ternary by absmean.
    master: bool,
    scale: WeightScale,
    /// Modules that stay as they are.
    kept: Vec<String>,
}

impl Quantization {
    fn read(file: &SafeTensorsModel) -> Result<Self> {
        let config = file.config();
        let quantization = &config["quantization_config"];
        let unsupported = |what: String, advice: &str| Error::Unsupported {
            file: file.name().to_owned(),
            what,
            advice: advice.to_owned(),
        };
        let method = quantization["quant_method"].as_str();
        if let Some(other) = method
            && other != "bitnet"
        {
            let what = format!("the quantization method {other:?}");
            return Err(unsupported(what, "use a checkpoint of method \"bitnet\""));
        }
        if quantization["use_rms_norm"].as_bool() == Some(true) {
            let what = "a norm inside every projection (use_rms_norm)".to_owned();
            return Err(unsupported(what, "use a checkpoint without it"));
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
        // Checkpoints by 1bitLLM are master weights and say so by their class alone.
        let class = config["architectures"][0].as_str() == Some("BitnetForCausalLM");
        let flag = config["is_bitnet_config"].as_bool() == Some(true);
        let kept = quantization["modules_to_not_convert"].as_array();
        Ok(Self {
            master: method.is_some() || class || flag,
            scale,
            kept: kept
                .into_iter()
                .flatten()
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect(),
        })
    }

    /// Whether the weight called `name` stays as it is.
    fn keeps(&self, name: &str) -> bool {
        let module = name.trim_end_matches(".weight");
        self.kept
            .iter()
            .any(|kept| module == kept || module.split('.').any(|part| part == kept))
    }
}

/// The tensors of a checkpoint in the order of GGUF files. `order` is the row order that queries and keys get.
pub(super) fn read(
    file: &SafeTensorsModel,
    numbers: &Numbers,
    order: RowOrder,
    report: &mut ConvertReport,
) -> Result<Vec<Tensor>> {
    let quantization = Quantization::read(file)?;
    let tied = file.config()["tie_word_embeddings"].as_bool() == Some(true);
    let mut tensors = Vec::new();
    for raw in file.tensors() {
        if raw.name.ends_with("rotary_emb.inv_freq") {
            continue;
        }
        if raw.name == "lm_head.weight" && tied {
            report
                .notes
                .push("lm_head.weight was left out: the head is tied to the embedding.".to_owned());
            continue;
        }
        if let Some(weight) = raw.name.strip_suffix("_scale")
            && file.tensor(weight).is_some()
        {
            continue;
        }
        let Some(name) = names::to_gguf(&raw.name) else {
            return Err(Error::Unsupported {
                file: file.name().to_owned(),
                what: format!("converting tensor {}", raw.name),
                advice:
                    "only tensors of the BitNet, Llama and Qwen3 architectures have a known place"
                        .to_owned(),
            });
        };
        let rotary = name.ends_with(".attn_q.weight") || name.ends_with(".attn_k.weight");
        let mut tensor = tensor(file, raw, name, numbers, &quantization, report)?;
        tensor.order = if rotary { order } else { RowOrder::Same };
        tensors.push(tensor);
    }
    tensors.sort_by_cached_key(|tensor| names::position(&tensor.name));
    refuse_without_ternary(file.name(), &tensors)?;
    Ok(tensors)
}

fn tensor(
    file: &SafeTensorsModel,
    raw: &RawTensor,
    name: String,
    numbers: &Numbers,
    quantization: &Quantization,
    report: &mut ConvertReport,
) -> Result<Tensor> {
    let wrong = |expected: String| {
        let found = format!("{} {:?}", raw.dtype, raw.shape);
        Error::tensor(file.name(), &raw.name, expected, found)
    };
    let projection = is_projection(&name);
    let packed = projection && raw.dtype == Dtype::U8;
    let stated = numbers.shape(&name);
    let (rows, cols) = match (&raw.shape[..], stated) {
        (&[cols], None) if cols > 0 => (1, cols),
        (&[rows, cols], None) if rows > 0 && cols > 0 && !projection => (rows, cols),
        (&[found, cols], Some((rows, expected)))
            if cols == expected && found == if packed { rows.div_ceil(4) } else { rows } =>
        {
            (rows, cols)
        }
        (_, Some((rows, cols))) => {
            return Err(wrong(format!(
                "a matrix of {rows} × {cols} (or four rows packed in one)"
            )));
        }
        _ => return Err(wrong("a vector or a matrix".to_owned())),
    };
    let vector = raw.shape.len() == 1;
    let content = if packed {
        let Some(scale) = weight_scale(file, raw, quantization)? else {
            let missing = format!("{}_scale", raw.name);
            return Err(Error::tensor(
                file.name(),
                missing,
                "one number",
                "no such tensor",
            ));
        };
        Content::Ternary(Ternary::Packed {
            data: raw.data.clone(),
            scale,
        })
    } else {
        let format = match raw.dtype {
            Dtype::F32 => Format::F32,
            Dtype::F16 => Format::F16,
            Dtype::BF16 => Format::Bf16,
            _ => {
                return Err(wrong(
                    "F32, F16 or BF16 (or U8 for packed projections)".to_owned(),
                ));
            }
        };
        if vector {
            Content::Plain {
                format: Format::F32,
                data: widened(format, &raw.data, cols)?,
            }
        } else if projection && !quantization.keeps(&raw.name) {
            let factor = weight_scale(file, raw, quantization)?;
            let floats = Ternary::of_floats(
                format,
                raw.data.clone(),
                cols,
                factor.unwrap_or(1.0),
                quantization.master,
            );
            match floats
                .map_err(|error| Error::tensor(file.name(), &raw.name, "finite weights", error))?
            {
                Some((ternary, rounded)) => {
                    report.quantized += usize::from(rounded);
                    Content::Ternary(ternary)
                }
                None => {
                    report
                        .notes
                        .push(format!("{} is not ternary and stays {format}.", raw.name));
                    Content::Plain {
                        format,
                        data: raw.data.clone(),
                    }
                }
            }
        } else {
            Content::Plain {
                format,
                data: raw.data.clone(),
            }
        }
    };
    let ne = if vector {
        vec![cols as u64]
    } else {
        vec![cols as u64, rows as u64]
    };
    Ok(Tensor {
        name,
        source: raw.name.clone(),
        rows,
        cols,
        ne,
        content,
        order: RowOrder::Same,
    })
}

/// What the codes of `weight` are multiplied by, if the checkpoint says.
fn weight_scale(
    file: &SafeTensorsModel,
    weight: &RawTensor,
    quantization: &Quantization,
) -> Result<Option<f32>> {
    let Some(raw) = file.tensor(&format!("{}_scale", weight.name)) else {
        return Ok(None);
    };
    let stored = match (raw.dtype, &raw.data[..]) {
        (Dtype::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
        (Dtype::BF16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f32(),
        (Dtype::F16, &[a, b]) => half::f16::from_le_bytes([a, b]).to_f32(),
        _ => {
            let found = format!("{} {:?}", raw.dtype, raw.shape);
            return Err(Error::tensor(file.name(), &raw.name, "one number", found));
        }
    };
    match quantization.scale.factor(stored) {
        Ok(factor) => Ok(Some(factor)),
        Err(error) => Err(Error::tensor(
            file.name(),
            &raw.name,
            "a usable scale",
            error,
        )),
    }
}

/// `len` numbers as F32, exactly.
fn widened(format: Format, data: &Bytes, len: usize) -> Result<Bytes> {
    if format == Format::F32 {
        return Ok(data.clone());
    }
    let mut values = vec![0.0; len];
    format.decode_row(data, 1.0, &mut values)?;
    Ok(values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect())
}

/// A tensor of the output.
struct Output<'a> {
    name: String,
    tensor: &'a Tensor,
    /// The scale, where it is stored by itself.
    scale: Option<f32>,
}

/// Writes a checkpoint of `tensors`, which come from the file that errors call `file`, into the directory `output`.
/// `files` are written beside it.
pub(super) fn write(
    file: &str,
    tensors: Vec<Tensor>,
    mut config: Json,
    files: Vec<(String, Vec<u8>)>,
    output: &Path,
    progress: &mut dyn FnMut(u64, u64),
    report: &mut ConvertReport,
) -> Result<()> {
    let mut directory = NewDirectory::create(output)?;
    let model_path = output.join("model.safetensors");
    let mut writer = SafeTensorsWriter::new(model_path.display().to_string());
    let mut outputs = Vec::new();
    let mut kept = Vec::new();
    for tensor in &tensors {
        let name = match names::to_gguf(&tensor.source) {
            Some(_) => tensor.source.clone(),
            None => names::to_checkpoint(&tensor.name).ok_or_else(|| no_place(file, tensor))?,
        };
        let shape = if tensor.ne.len() == 1 {
            vec![tensor.cols]
        } else {
            vec![tensor.rows, tensor.cols]
        };
        let mut scale = None;
        match &tensor.content {
            Content::Ternary(ternary) if is_projection(&tensor.name) => {
                // A matrix of nothing but 0 has any scale; readers refuse 0.
                let one = tensor.one_scale(file, ternary)?;
                let one = if one == 0.0 { 1.0 } else { one };
                scale = Some(one);
                writer.tensor(&name, Dtype::U8, &[tensor.rows.div_ceil(4), tensor.cols])?;
                writer.tensor(format!("{name}_scale"), scale_dtype(one), &[1])?;
            }
            Content::Plain { format, .. } | Content::Ternary(Ternary::Scaled { format, .. })
                if tensor.ne.len() <= 2 =>
            {
                if is_projection(&tensor.name) {
                    kept.push(name.clone());
                }
                writer.tensor(&name, dtype(*format), &shape)?;
            }
            _ => return Err(no_place(file, tensor)),
        }
        outputs.push(Output {
            name,
            tensor,
            scale,
        });
    }
    mark_packed(&mut config, &kept);

    let total = writer.data_bytes();
    let mut done = 0;
    progress(done, total);
    let mut out = directory.file("model.safetensors")?;
    let mut data = writer.begin(&mut out)?;
    for Output {
        name,
        tensor,
        scale,
    } in &outputs
    {
        let mut push = |name: &str, bytes: &[u8]| {
            data.push(name, bytes)?;
            done += bytes.len() as u64;
            progress(done, total);
            Ok(())
        };
        match (&tensor.content, scale) {
            (Content::Ternary(ternary), Some(scale)) => {
                push(name, &tensor.pack(file, ternary)?)?;
                let bytes = scale.to_le_bytes();
                let bytes = if scale_dtype(*scale) == Dtype::BF16 {
                    &bytes[2..]
                } else {
                    &bytes[..]
                };
                push(&format!("{name}_scale"), bytes)?;
                report.ternary += 1;
            }
            (Content::Plain { format, data }, _) => {
                write_plain(tensor, *format, data, 1.0, |bytes| push(name, bytes))?;
                report.carried += 1;
            }
            (
                Content::Ternary(Ternary::Scaled {
                    format,
                    data,
                    scale,
                }),
                _,
            ) => {
                write_plain(tensor, *format, data, *scale, |bytes| push(name, bytes))?;
                report.carried += 1;
            }
            _ => return Err(no_place(file, tensor)),
        }
    }
    data.finish()?;
    out.keep()?;
    let mut config = serde_json::to_vec_pretty(&config)
        .map_err(|error| Error::malformed(file, "config.json", "what JSON can hold", error))?;
    config.push(b'\n');
    for (name, content) in [("config.json".to_owned(), config)]
        .into_iter()
        .chain(files)
    {
        directory.write(&name, &content)?;
    }
    directory.keep();
    report.data_bytes = total;
    Ok(())
}

fn no_place(file: &str, tensor: &Tensor) -> Error {
    Error::Unsupported {
        file: file.to_owned(),
        what: format!("tensor {} in a checkpoint", tensor.source),
        advice: "checkpoints have no place for it; convert to a GGUF type".to_owned(),
    }
}

/// BF16, as published checkpoints have it, where that is exact.
fn scale_dtype(scale: f32) -> Dtype {
    if bf16::from_f32(scale).to_f32() == scale {
        Dtype::BF16
    } else {
        Dtype::F32
    }
}

/// How a checkpoint stores numbers of `format`: in the same way if it can, or widened to F32.
fn dtype(format: Format) -> Dtype {
    match format {
        Format::F16 => Dtype::F16,
        Format::Bf16 => Dtype::BF16,
        _ => Dtype::F32,
    }
}

fn write_plain(
    tensor: &Tensor,
    format: Format,
    data: &Bytes,
    scale: f32,
    mut write: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    if matches!(format, Format::F32 | Format::F16 | Format::Bf16) {
        return tensor.plain(format, data, write);
    }
    let mut values = vec![0f32; tensor.cols];
    let mut bytes = Vec::with_capacity(4 * tensor.cols);
    tensor.plain_rows(format, data, |row| {
        format.decode_row(row, scale, &mut values)?;
        bytes.clear();
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        write(&bytes)
    })
}
