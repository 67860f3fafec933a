//! Model files, and the command.

use crate::error::{argument, exception, of_command};
use crate::model::resolve;
use crate::process::interruptible;
use bitnet::Cancel;
use bitnet::file::convert::{ConvertOptions, ConvertType, Fit, FitRotation, convert_with};
use pyo3::prelude::*;
use std::ffi::OsString;
use std::path::PathBuf;

/// The contents of a model file, or of the demo model, as JSON.
#[pyfunction]
#[pyo3(signature = (source = None))]
pub(crate) fn inspect(py: Python<'_>, source: Option<PathBuf>) -> PyResult<String> {
    let cancel = Cancel::default();
    interruptible(py, &cancel, || {
        let path = source.map(|source| resolve(source, &cancel)).transpose()?;
        bitnet_cli::inspection(path.as_ref().map(|path| path.as_os_str()))
    })?
    .map(|report| report.to_string())
    .map_err(of_command)
}

/// Converts a model to a GGUF file, or to a folder of safetensors. Returns what became of it, and whether every weight has the value
/// it had. `quantize` says how floating-point projections become ternary, and `rotate` in blocks of how many columns they are rotated first.
#[pyfunction]
#[pyo3(signature = (source, output, to, quantize = None, rotate = None))]
pub(crate) fn convert(
    py: Python<'_>,
    source: PathBuf,
    output: PathBuf,
    to: &str,
    quantize: Option<&str>,
    rotate: Option<usize>,
) -> PyResult<(String, bool)> {
    let to: ConvertType = to.parse().map_err(exception)?;
    let rotation = rotate.map(|block| FitRotation { block, seed: 0 });
    let fit = match quantize {
        Some(rule) => Some(Fit {
            scales: rule.parse().map_err(exception)?,
            rotation,
        }),
        None if rotation.is_some() => {
            return Err(argument("rotate", "quantize beside it", "none".to_owned()));
        }
        None => None,
    };
    let cancel = Cancel::default();
    let report = interruptible(py, &cancel, || {
        let input = resolve(source, &cancel)?;
        let options = ConvertOptions {
            fit,
            cancel: cancel.clone(),
            ..ConvertOptions::default()
        };
        convert_with(&input, &output, to, &options, &mut |_, _| ())
    })?
    .map_err(exception)?;
    Ok((report.to_string(), report.lossless()))
}

/// Runs the command `bitnet` with these arguments, the first of which is its name, and returns its exit code.
#[pyfunction]
pub(crate) fn run_command(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| bitnet_cli::run(arguments))
}
