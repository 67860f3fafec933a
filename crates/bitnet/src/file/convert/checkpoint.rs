//! Checkpoints (safetensors with config.json) as input and output of a conversion.

use bitnet_quant::Format;
use half::bf16;
use serde_json::Value as Json;

use super::config::{Numbers, mark_packed};
use super::weights::{Content, RowOrder, Tensor};
use super::{ConvertReport, Job, refuse_without_ternary};
use crate::file::create::NewDirectory;
use crate::file::names::{self, is_projection};
use crate::file::quantization::{Projection, Quantization, scale_name};
use crate::file::safetensors::SafeTensorsWriter;
use crate::file::ternary::Ternary;
use crate::file::{Bytes, Dtype, RawTensor, SafeTensorsModel};
use crate::{Error, Result};

/// The tensors of a checkpoint in the order of GGUF files. `order` is the row order that queries and keys get.
pub(super) fn read(
    file: &SafeTensorsModel,
    numbers: &Numbers,
    order: RowOrder,
    report: &mut ConvertReport,
) -> Result<Vec<Tensor>> {
    let quantization = Quantization::read(file)?;
    let mut tensors = Vec::new();
    for raw in file.tensors() {
        if names::is_redundant(&raw.name, file.config()) {
            if raw.name == names::CHECKPOINT_HEAD {
                report.notes.push(format!(
                    "{} was left out: the head is tied to the embedding.",
                    raw.name
                ));
            }
            continue;
        }
        let weight = raw.name.strip_suffix("_scale");
        let weight = weight.filter(|weight| file.tensor(weight).is_some());
        if weight
            .and_then(names::to_gguf)
            .is_some_and(|name| is_projection(&name))
        {
            // Read with its weight.
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
    let (rows, cols, content) = match (numbers.shape(&name), &raw.shape[..]) {
        (Some((rows, cols)), _) => {
            let content = match quantization.projection(file, raw, (rows, cols))? {
                Projection::Ternary { weights, rounded } => {
                    report.quantized += usize::from(rounded);
                    Content::Ternary(weights)
                }
                Projection::Floats(format) => {
                    report.notes.push(format!(
                        "{} was not made ternary and stays {format}.",
                        raw.name
                    ));
                    let data = raw.data.clone();
                    Content::Plain { format, data }
                }
            };
            (rows, cols, content)
        }
        (None, &[cols]) if cols > 0 => {
            // Vectors are F32 in GGUF.
            let values = raw.floats(file.name())?;
            let format = Format::F32;
            let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (1, cols, Content::Plain { format, data })
        }
        (None, &[rows, cols]) if rows > 0 && cols > 0 => {
            let format = raw.float_format(file.name())?;
            let data = raw.data.clone();
            (rows, cols, Content::Plain { format, data })
        }
        (None, found) => {
            return Err(Error::tensor(
                file.name(),
                &raw.name,
                "a vector or a matrix",
                format_args!("shape {found:?}"),
            ));
        }
    };
    let ne = match raw.shape.len() {
        1 => vec![cols as u64],
        _ => vec![cols as u64, rows as u64],
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

/// A tensor of the output.
struct Output<'a> {
    name: String,
    tensor: &'a Tensor,
    /// The scale, where it is stored by itself.
    scale: Option<f32>,
}

/// Writes a checkpoint of `tensors` into the directory of the job's output. `files` are written beside it.
pub(super) fn write(
    job: &mut Job<'_>,
    tensors: &[Tensor],
    mut config: Json,
    files: Vec<(String, Vec<u8>)>,
) -> Result<()> {
    let Job {
        file,
        output,
        progress,
        report,
    } = job;
    let mut directory = NewDirectory::create(output)?;
    let model_path = output.join("model.safetensors");
    let mut writer = SafeTensorsWriter::new(model_path.display().to_string());
    let mut outputs = Vec::new();
    let mut kept = Vec::new();
    for tensor in tensors {
        let name = match names::to_gguf(&tensor.source) {
            Some(_) => tensor.source.clone(),
            None => names::to_checkpoint(&tensor.name)
                .into_iter()
                .next()
                .ok_or_else(|| no_place(file, tensor))?,
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
                writer.tensor(scale_name(&name), scale_dtype(one), &[1])?;
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
                push(&scale_name(name), bytes)?;
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
        .map_err(|error| Error::malformed(*file, "config.json", "what JSON can hold", error))?;
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
