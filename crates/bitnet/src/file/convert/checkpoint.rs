//! Checkpoints (safetensors with config.json) as input and output of a conversion.

use bitnet_quant::Format;
use half::f16;
use rayon::prelude::*;
use serde_json::Value as Json;

use super::config::{Numbers, mark_packed};
use super::weights::{Content, RowOrder, Tensor};
use super::{ConvertReport, Job};
use crate::file::create::NewDirectory;
use crate::file::names::{self, is_projection};
use crate::file::quantization::{Projection, Quantization, scale_name};
use crate::file::safetensors::SafeTensorsWriter;
use crate::file::ternary::{Ternary, row_of};
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
    let mut is_rounded = false;
    let (rows, cols, content) = match (numbers.shape(&name), &raw.shape[..]) {
        (Some((rows, cols)), _) => {
            let content = match quantization.projection(file, raw, (rows, cols))? {
                Projection::Ternary { weights, rounded } => {
                    report.quantized += usize::from(rounded);
                    is_rounded = rounded;
                    Content::Ternary(weights)
                }
                Projection::Floats(format) => {
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
            let (format, data) = narrowed(format, &raw.data);
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
        rounded: is_rounded,
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
        cancel,
        progress,
        report,
    } = job;
    let mut directory = NewDirectory::create(output)?;
    let model_path = output.join("model.safetensors");
    let mut writer = SafeTensorsWriter::new(model_path.display().to_string());
    let mut outputs = Vec::new();
    let mut kept = Vec::new();
    let mut scales = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        scales.push(match &tensor.content {
            Content::Ternary(ternary) if is_projection(&tensor.name) => {
                // A matrix of nothing but 0 has any scale; readers refuse 0.
                let one = tensor.one_scale(file, ternary)?;
                Some(if one == 0.0 { 1.0 } else { one })
            }
            _ => None,
        });
    }
    let floats = Floats::of(tensors, &scales)?;
    if let Some(tensor) = &floats.beyond_bf16 {
        report.notes.push(format!(
            "Scales, norms and embeddings are stored as F32: BF16 would round {tensor}, and transformers runs a model in one type."
        ));
    }
    for (tensor, scale) in tensors.iter().zip(scales) {
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
        match &tensor.content {
            Content::Ternary(_) if scale.is_some() => {
                writer.tensor(&name, Dtype::U8, &[tensor.rows.div_ceil(4), tensor.cols])?;
                writer.tensor(scale_name(&name), floats.dtype(), &[1])?;
            }
            Content::Plain { .. } | Content::Ternary(Ternary::Scaled { .. })
                if tensor.ne.len() <= 2 =>
            {
                if is_projection(&tensor.name) {
                    kept.push(name.clone());
                }
                writer.tensor(&name, floats.dtype(), &shape)?;
            }
            _ => return Err(no_place(file, tensor)),
        }
        outputs.push(Output {
            name,
            tensor,
            scale,
        });
    }
    if !kept.is_empty() {
        // A list stands in the place of transformers' own, which is the head.
        kept.push(names::CHECKPOINT_HEAD.to_owned());
    }
    mark_packed(&mut config, &kept);
    // Both names: the second is that of transformers 5, where the input has it.
    config["torch_dtype"] = floats.name().into();
    if config.get("dtype").is_some() {
        config["dtype"] = floats.name().into();
    }

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
            cancel.check()?;
            data.push(name, bytes)?;
            done += bytes.len() as u64;
            progress(done, total);
            Ok(())
        };
        match (&tensor.content, scale) {
            (Content::Ternary(ternary), Some(scale)) => {
                let (packed, loss) = tensor.pack(file, ternary)?;
                push(name, &packed)?;
                report.add(tensor, &loss);
                push(&scale_name(name), &floats.bytes(&[*scale]))?;
                report.ternary += 1;
            }
            (Content::Plain { format, data }, _) => {
                floats.write(tensor, *format, data, 1.0, |bytes| push(name, bytes))?;
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
                floats.write(tensor, *format, data, *scale, |bytes| push(name, bytes))?;
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
    for (name, content) in files {
        directory.write(&name, &content)?;
    }
    // The last, since a directory without it is no model.
    directory.write("config.json", &config)?;
    cancel.check()?;
    directory.keep()?;
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

/// The one type of all numbers that are not packed. transformers runs a model in the type that config.json states, and where
/// tensors have others, a product of two types fails.
struct Floats {
    /// A tensor with numbers that BF16, the type of published checkpoints, would round.
    beyond_bf16: Option<String>,
}

impl Floats {
    /// The narrowest type that is exact for `tensors` and the `scales` that they are stored with.
    fn of(tensors: &[Tensor], scales: &[Option<f32>]) -> Result<Self> {
        for (tensor, stored) in tensors.iter().zip(scales) {
            let exact = match (&tensor.content, stored) {
                (_, Some(scale)) => is_bf16(*scale),
                (Content::Plain { format, data }, _) => all_bf16(tensor, *format, data, 1.0)?,
                (
                    Content::Ternary(Ternary::Scaled {
                        format,
                        data,
                        scale,
                    }),
                    _,
                ) => all_bf16(tensor, *format, data, *scale)?,
                // What a checkpoint has no place for.
                _ => true,
            };
            if !exact {
                let beyond_bf16 = Some(tensor.source.clone());
                return Ok(Self { beyond_bf16 });
            }
        }
        Ok(Self { beyond_bf16: None })
    }

    fn dtype(&self) -> Dtype {
        match self.beyond_bf16 {
            None => Dtype::BF16,
            Some(_) => Dtype::F32,
        }
    }

    /// What config.json calls it.
    fn name(&self) -> &'static str {
        match self.beyond_bf16 {
            None => "bfloat16",
            Some(_) => "float32",
        }
    }

    /// `values` as the file has them, little-endian.
    fn bytes(&self, values: &[f32]) -> Vec<u8> {
        let bytes = values.iter().map(|value| value.to_le_bytes());
        match self.beyond_bf16 {
            // Nothing is lost: the lower half is 0.
            None => bytes.flat_map(|[_, _, low, high]| [low, high]).collect(),
            Some(_) => bytes.flatten().collect(),
        }
    }

    /// Writes the rows of `tensor`, whose values are `scale` times those that `data` has in `format`.
    fn write(
        &self,
        tensor: &Tensor,
        format: Format,
        data: &Bytes,
        scale: f32,
        mut write: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        if (self.dtype(), format) == (Dtype::BF16, Format::Bf16)
            || (self.dtype(), format) == (Dtype::F32, Format::F32)
        {
            return tensor.plain(format, data, write);
        }
        let mut values = vec![0f32; tensor.cols];
        tensor.plain_rows(format, data, |row| {
            format.decode_row(row, scale, &mut values)?;
            write(&self.bytes(&values))
        })
    }
}

/// Whether BF16, the upper half of F32, has this number.
fn is_bf16(value: f32) -> bool {
    value.to_bits() & 0xffff == 0
}

/// Whether BF16 has all numbers of a tensor that are `scale` times those that `data` has in `format`.
fn all_bf16(tensor: &Tensor, format: Format, data: &Bytes, scale: f32) -> Result<bool> {
    if format == Format::Bf16 {
        return Ok(true);
    }
    let rows = (0..tensor.rows).into_par_iter();
    let exact = rows.map_init(
        || vec![0f32; tensor.cols],
        |values, row| {
            let row = row_of(format, data, (tensor.rows, tensor.cols), row)?;
            format.decode_row(row, scale, values)?;
            Ok(values.iter().all(|value| is_bf16(*value)))
        },
    );
    exact.try_reduce(|| true, |a, b| Ok(a && b))
}

/// The elements of a matrix as F16 or BF16 where that is exact for F32 ones: what [`Floats`] had to widen comes back.
fn narrowed(format: Format, data: &Bytes) -> (Format, Bytes) {
    if format != Format::F32 {
        return (format, data.clone());
    }
    let (elements, _) = data.as_chunks::<4>();
    let values = || elements.par_iter().map(|bytes| f32::from_le_bytes(*bytes));
    let is_f16 = |value: f32| f16::from_f32(value).to_f32().to_bits() == value.to_bits();
    if values().all(is_bf16) {
        let halves = elements.iter().flat_map(|[_, _, low, high]| [*low, *high]);
        (Format::Bf16, halves.collect())
    } else if values().all(is_f16) {
        let halves = elements
            .iter()
            .map(|bytes| f16::from_f32(f32::from_le_bytes(*bytes)));
        let bytes: Vec<u8> = halves.flat_map(f16::to_le_bytes).collect();
        (Format::F16, bytes.into())
    } else {
        (format, data.clone())
    }
}
