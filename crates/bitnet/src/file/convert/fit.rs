//! Floating-point projections on their way to ternary ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitnet_core::Rotation;
use bitnet_quant::{Format, QuantError};

use super::weights::{Content, Tensor};
use super::{ConvertReport, ConvertType};
use crate::file::gguf::GgufArchitecture;
use crate::file::names::is_projection;
use crate::file::ternary::{FloatRows, RowChange, ScaleRule, Ternary};
use crate::model::{ContractKeys, widest_block};
use crate::{Error, Result};

/// How projections become ternary that are floating-point numbers, in a model that no training prepared for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fit {
    /// How codes and scales are chosen: for the whole matrix where the output has one scale for it, else for each block.
    pub scales: ScaleRule,
    /// Whether the columns are rotated first, which spreads outliers over a block.
    pub rotation: Option<FitRotation>,
}

/// A Hadamard rotation with random signs that matrices are stored behind (`prism.hadamard.*`), so that rows are rotated before they are
/// multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FitRotation {
    /// Columns of a block, a power of two that divides the columns of every projection; 0 for the largest such number.
    pub block: usize,
    /// Chooses the signs.
    pub seed: u64,
}

/// Makes the floating-point projections among `tensors` ternary, and returns the contract of their rotation, if there is one.
/// `arch` is the architecture of the output in GGUF.
///
/// # Errors
/// If there are none, they have a shape that cannot be rotated, or the output cannot say that they are.
pub(super) fn fit(
    file: &str,
    tensors: &mut [Tensor],
    fit: Fit,
    to: ConvertType,
    arch: Option<&GgufArchitecture>,
    report: &mut ConvertReport,
) -> Result<Option<ContractKeys>> {
    let is_plain = |tensor: &&mut Tensor| {
        let floats = matches!(
            tensor.content,
            Content::Plain {
                format: Format::F32 | Format::F16 | Format::Bf16,
                ..
            }
        );
        floats && is_projection(&tensor.name)
    };
    let mut plain: Vec<&mut Tensor> = tensors.iter_mut().filter(is_plain).collect();
    if plain.is_empty() {
        return Err(Error::Argument {
            what: "quantize",
            expected: "a model with projections of floating-point numbers".to_owned(),
            found: format!("{file}, which has none: leave the option out"),
        });
    }
    let rotations = match fit.rotation {
        None => BTreeMap::new(),
        Some(rotation) => rotations(file, &plain, rotation, to, arch)?,
    };
    let by_block = to
        .ternary()
        .is_some_and(|ternary| !matches!(ternary.format(), Format::I2s(_)));
    for tensor in &mut plain {
        let Content::Plain { format, data } = &tensor.content else {
            continue;
        };
        let rows = FloatRows {
            format: *format,
            data: data.clone(),
            change: rotations.get(&tensor.cols).map(change),
        };
        let shape = (tensor.rows, tensor.cols);
        let ternary = Ternary::fitted(rows, shape, fit.scales, by_block)
            .map_err(|error| Error::tensor(file, &tensor.source, "finite weights", error))?;
        tensor.content = Content::Ternary(ternary);
        tensor.rounded = true;
        report.fitted += 1;
    }
    let Some(first) = rotations.values().next() else {
        return Ok(None);
    };
    let signs = rotations.iter();
    Ok(Some(ContractKeys {
        block: first.block,
        signs: signs
            .map(|(width, own)| (*width, own.signs.clone()))
            .collect(),
        names: plain.iter().map(|tensor| tensor.name.clone()).collect(),
        table: false,
        tied: false,
        grouped: false,
    }))
}

/// Rotates each row that is read.
fn change(rotation: &Arc<Rotation>) -> RowChange {
    let rotation = Arc::clone(rotation);
    Arc::new(move |row| {
        rotation.rotate(row).map_err(|_| QuantError::Shape {
            what: "a row that is to be rotated",
            expected: rotation.block,
            found: row.len(),
        })
    })
}

/// The rotation of each width of projections.
fn rotations(
    file: &str,
    plain: &[&mut Tensor],
    rotation: FitRotation,
    to: ConvertType,
    arch: Option<&GgufArchitecture>,
) -> Result<BTreeMap<usize, Arc<Rotation>>> {
    let refuse = |what: String, advice: &str| Error::Unsupported {
        file: file.to_owned(),
        what,
        advice: advice.to_owned(),
    };
    if to.ternary().is_none() {
        return Err(refuse(
            "rotated weights in safetensors".to_owned(),
            "convert to a GGUF type",
        ));
    }
    if !arch.is_some_and(|arch| arch.rotates && !arch.is_hybrid) {
        let name = arch.map_or("unknown", |arch| arch.name);
        return Err(refuse(
            format!("rotating the weights of architecture {name}"),
            "leave the rotation out, or convert a qwen3 model",
        ));
    }
    let mut widths: Vec<usize> = plain.iter().map(|tensor| tensor.cols).collect();
    widths.sort_unstable();
    widths.dedup();
    let widest = widest_block(&widths);
    let block = match rotation.block {
        0 => widest,
        block if block.is_power_of_two() && block <= widest => block,
        other => {
            return Err(Error::Argument {
                what: "block of the rotation",
                expected: format!(
                    "a power of two up to {widest}, which divides the columns of every projection"
                ),
                found: other.to_string(),
            });
        }
    };
    let rotation = |width: usize| Rotation {
        block,
        signs: ContractKeys::random_signs(rotation.seed, width),
        regroup: None,
    };
    let all = widths.into_iter();
    Ok(all
        .map(|width| (width, Arc::new(rotation(width))))
        .collect())
}
