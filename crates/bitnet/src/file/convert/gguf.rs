//! GGUF files as input and output of a conversion.

use bitnet_quant::{Format, I2sLayout};

use super::weights::{Content, RowOrder, Tensor};
use super::{Job, refuse_row_length};
use crate::file::create::NewFile;
use crate::file::gguf::GgufWriter;
use crate::file::names::is_projection;
use crate::file::synth::TernaryType;
use crate::file::ternary::Ternary;
use crate::file::{Gguf, GgufTensor};
use crate::{Error, Result};

/// The tensors of a file. `order` is the row order that queries and keys get.
pub(super) fn read(file: &Gguf, layout: I2sLayout, order: RowOrder) -> Result<Vec<Tensor>> {
    let mut tensors = Vec::with_capacity(file.tensors().len());
    for tensor in file.tensors() {
        let rotary =
            tensor.name.ends_with(".attn_q.weight") || tensor.name.ends_with(".attn_k.weight");
        tensors.push(Tensor {
            name: tensor.name.clone(),
            source: tensor.name.clone(),
            rows: tensor.rows(),
            cols: tensor.cols(),
            ne: tensor.ne.clone(),
            content: content(file, tensor, layout)?,
            order: if rotary { order } else { RowOrder::Same },
            rounded: false,
        });
    }
    Ok(tensors)
}

fn content(file: &Gguf, tensor: &GgufTensor, layout: I2sLayout) -> Result<Content> {
    let name = file.name();
    let Ok(format) = tensor.format(layout, name) else {
        return Ok(Content::Opaque {
            kind: tensor.kind,
            data: tensor.data.clone(),
        });
    };
    let data = tensor.row_data();
    let projection = is_projection(&tensor.name);
    match format {
        Format::I2s(_) => {
            let scale = tensor.i2s_scale(name)?;
            Ok(Content::Ternary(Ternary::Scaled {
                format,
                data,
                scale,
            }))
        }
        _ if format.is_ternary() && projection => {
            Ok(Content::Ternary(Ternary::Blocks { format, data }))
        }
        Format::F32 | Format::F16 | Format::Bf16 if projection => {
            let floats = Ternary::of_floats(format, data.clone(), tensor.cols(), 1.0, false)
                .map_err(|error| Error::tensor(name, &tensor.name, "finite weights", error))?;
            Ok(match floats {
                Some((ternary, _)) => Content::Ternary(ternary),
                None => Content::Plain { format, data },
            })
        }
        _ => Ok(Content::Plain { format, data }),
    }
}

/// Copies all metadata but the type of the file.
pub(super) fn copy_metadata(file: &Gguf, ternary: TernaryType, writer: &mut GgufWriter) {
    for (key, value) in file.metadata() {
        match key.as_str() {
            // The output is one file.
            "general.alignment" | "split.no" | "split.count" | "split.tensors.count" => {}
            "general.file_type" => {
                writer.entry(key.clone(), ternary.file_type());
            }
            _ => {
                writer.entry(key.clone(), value.clone());
            }
        }
    }
}

/// Writes a GGUF file of `tensors`. `writer` has the metadata.
pub(super) fn write(
    job: &mut Job<'_>,
    tensors: &[Tensor],
    mut writer: GgufWriter,
    ternary: TernaryType,
) -> Result<()> {
    let Job {
        file,
        output,
        cancel,
        progress,
        report,
    } = job;
    let target = ternary.format();
    let single = matches!(target, Format::I2s(_));
    let mut scales = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let mut scale = 0.0;
        match &tensor.content {
            Content::Ternary(source) => {
                refuse_row_length(file, tensor, target)?;
                writer.tensor(&tensor.name, &tensor.ne, target)?;
                if single {
                    // Asked for now, so that a matrix with several is refused before anything is written.
                    scale = tensor.one_scale(file, source)?;
                }
            }
            Content::Plain { format, .. } => writer.tensor(&tensor.name, &tensor.ne, *format)?,
            Content::Opaque { kind, data } => {
                writer.opaque_tensor(&tensor.name, &tensor.ne, *kind, data.len() as u64)?;
            }
        }
        scales.push(scale);
    }
    let total = writer.data_bytes();
    let mut done = 0;
    progress(done, total);
    let mut out = NewFile::create(output)?;
    let mut data = writer.begin(&mut out)?;
    for (tensor, scale) in tensors.iter().zip(scales) {
        let mut push = |bytes: &[u8]| {
            cancel.check()?;
            data.push(&tensor.name, bytes)?;
            done += bytes.len() as u64;
            progress(done, total);
            Ok(())
        };
        match &tensor.content {
            Content::Ternary(source) => {
                let loss = tensor.encode(file, source, target, &mut push)?;
                report.add(tensor, &loss);
                if single {
                    let mut tail = [0; 32];
                    tail[..4].copy_from_slice(&scale.to_le_bytes());
                    push(&tail)?;
                }
                report.ternary += 1;
            }
            Content::Plain { format, data } => {
                tensor.plain(*format, data, &mut push)?;
                report.carried += 1;
            }
            Content::Opaque { data, .. } => {
                push(data)?;
                report.carried += 1;
            }
        }
    }
    data.finish()?;
    out.keep()?;
    report.data_bytes = total;
    Ok(())
}
