//! From one kind of model file to another: safetensors and GGUF, and the ternary types among themselves.
//!
//! ```text
//! input ─► tensors, each with a way to read its codes and scales ─► output
//!          numbers of the architecture ── metadata or config.json ──►
//!          tokenizer and chat template ─────────────────────────────►
//! ```
//!
//! Ternary codes are carried exactly, never by way of floating-point weights that are quantized again. What an output
//! cannot hold is refused; what it rounds is reported. Everything but the projections of the layers is carried as it is.

mod checkpoint;
mod config;
mod fit;
mod gguf;
mod rope;
mod tokens;
mod weights;

use std::fmt;
use std::path::Path;

use bitnet_quant::{ErrorMetrics, Format, I2sLayout};

use super::ModelFile;
use super::gguf::GgufArchitecture;
use super::names::is_projection;
use super::synth::TernaryType;
use crate::model::{Contract, ContractKeys};
use crate::{Cancel, Error, Result};
use weights::{Content, RowOrder, Tensor};

pub use super::ternary::ScaleRule;
pub use fit::{Fit, FitRotation};

named! {
    /// What to convert to.
    ConvertType, "type" {
        /// GGUF with 2 bits per weight and one scale per matrix.
        #[default]
        I2S = "i2_s",
        /// GGUF with 1.6875 bits per weight.
        TQ1_0 = "tq1_0",
        /// GGUF with 2.0625 bits per weight and a scale for every 256.
        TQ2_0 = "tq2_0",
        /// GGUF with 2.25 bits per weight and a scale for every 64.
        Q2_0 = "q2_0",
        /// GGUF with 1.75 bits per weight and a scale for every 128.
        PTQ1_0 = "ptq1_0",
        /// GGUF with 2.125 bits per weight and a scale for every 128.
        PQ2_0 = "pq2_0",
        /// A directory with packed safetensors, config.json and tokenizer.json, which transformers 5 loads too.
        SafeTensors = "safetensors",
    }
}

impl ConvertType {
    /// The ternary type of a GGUF output; `None` for safetensors.
    fn ternary(self) -> Option<TernaryType> {
        match self {
            Self::I2S => Some(TernaryType::I2S),
            Self::TQ1_0 => Some(TernaryType::TQ1_0),
            Self::TQ2_0 => Some(TernaryType::TQ2_0),
            Self::Q2_0 => Some(TernaryType::Q2_0),
            Self::PTQ1_0 => Some(TernaryType::PTQ1_0),
            Self::PQ2_0 => Some(TernaryType::PQ2_0),
            Self::SafeTensors => None,
        }
    }
}

/// What became of a model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ConvertReport {
    /// Matrices that are ternary in the output.
    pub ternary: usize,
    /// Of these, how many were master weights that absmean made ternary, as the model's own training does.
    pub quantized: usize,
    /// How many were floating-point numbers that [`ConvertOptions::fit`] made ternary.
    pub fitted: usize,
    /// Of each matrix that was rounded, how far it is from before, in the order of the output.
    pub errors: Vec<MatrixError>,
    /// Tensors that were carried as they are.
    pub carried: usize,
    /// The largest relative error of a scale that was rounded to f16; 0 if none was.
    pub scale_error: f64,
    /// Bytes of tensor data in the output.
    pub data_bytes: u64,
    /// What was left behind, in sentences.
    pub notes: Vec<String>,
}

/// How far a matrix is from the numbers that were rounded.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixError {
    /// The tensor's name in GGUF.
    pub name: String,
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix.
    pub cols: usize,
    /// The differences.
    pub metrics: ErrorMetrics,
}

impl ConvertReport {
    /// The least, the mean and the greatest signal over noise of a matrix that was rounded, in decibels; `None` if none was.
    pub fn sqnr_db(&self) -> Option<[f64; 3]> {
        let values = || self.errors.iter().map(|error| error.metrics.sqnr_db);
        let mean = values().sum::<f64>() / self.errors.len() as f64;
        let least = values().reduce(f64::min)?;
        Some([least, mean, values().reduce(f64::max)?])
    }

    /// Adds what a matrix lost.
    fn add(&mut self, tensor: &Tensor, loss: &weights::Loss) {
        self.scale_error = self.scale_error.max(loss.scale);
        if tensor.rounded {
            self.errors.push(MatrixError {
                name: tensor.name.clone(),
                rows: tensor.rows,
                cols: tensor.cols,
                metrics: loss.sums.metrics(),
            });
        }
    }

    /// Whether the output holds exactly the weights of the input.
    pub fn lossless(&self) -> bool {
        self.quantized == 0 && self.fitted == 0 && self.scale_error == 0.0
    }
}

impl fmt::Display for ConvertReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ternary matrices and {} other tensors, {} bytes. ",
            self.ternary, self.carried, self.data_bytes
        )?;
        if self.lossless() {
            f.write_str("Lossless: every weight has the value it had.")?;
        }
        if self.quantized > 0 {
            write!(
                f,
                "{} matrices of master weights were made ternary by their mean magnitude, as the model does itself.",
                self.quantized
            )?;
        }
        if self.fitted > 0 {
            write!(
                f,
                "{} matrices of floating-point numbers were made ternary. A model that was not trained for it loses most of what it knew: \
                 compare the perplexity before and after.",
                self.fitted
            )?;
        }
        if self.scale_error > 0.0 && self.fitted == 0 {
            let and = if self.quantized > 0 { " " } else { "" };
            write!(
                f,
                "{and}All codes are kept; scales were rounded to f16, a relative error of at most {:.2e}.",
                self.scale_error
            )?;
        }
        if let Some([least, mean, most]) = self.sqnr_db() {
            write!(
                f,
                " Signal over noise of a matrix: {least:.2} to {most:.2} dB, on average {mean:.2}."
            )?;
        }
        for note in &self.notes {
            write!(f, "\n{note}")?;
        }
        Ok(())
    }
}

/// How to convert.
#[derive(Debug, Clone, Default)]
pub struct ConvertOptions {
    /// The byte order of I2_S tensors of the input. Outputs always have order A.
    pub i2s_layout: I2sLayout,
    /// How projections of floating-point numbers become ternary; without it they stay as they are, unless the model says that they are
    /// master weights.
    pub fit: Option<Fit>,
    /// Ends the conversion with [`Error::Cancelled`]; nothing half-written is left behind.
    pub cancel: Cancel,
}

/// Converts the model at `input` (as [`ModelFile::open`] takes it) to `output`: a GGUF file, or for
/// [`ConvertType::SafeTensors`] a directory, which must be new or empty. `progress` hears how many bytes of how many are
/// written.
///
/// The output appears under its name when it is whole and on the disk. Before that it has a name of the form
/// `.bitnet-….partial` in the same directory (in the output directory, if that exists), which a process that is killed leaves
/// behind; it is safe to remove.
///
/// # Errors
/// As [`ModelFile::open`]; [`Error::Tensor`] or [`Error::Unsupported`] if the output could not hold what the input has;
/// [`Error::Argument`] if the output would replace the input; [`Error::Io`] if it cannot be written. Nothing half-written is
/// left behind.
pub fn convert(
    input: &Path,
    output: &Path,
    to: ConvertType,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<ConvertReport> {
    convert_with(input, output, to, &ConvertOptions::default(), progress)
}

/// As [`convert`], with options.
///
/// # Errors
/// As [`convert`]; [`Error::Cancelled`].
pub fn convert_with(
    input: &Path,
    output: &Path,
    to: ConvertType,
    options: &ConvertOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<ConvertReport> {
    refuse_own_input(input, output)?;
    convert_file(&ModelFile::open(input)?, output, to, options, progress)
}

/// Refuses an output that would take the place of the input, or of a file in the directory that the input is.
fn refuse_own_input(input: &Path, output: &Path) -> Result<()> {
    let real = |path: &Path| path.canonicalize().ok();
    if let (Some(from), Some(to)) = (real(input), real(output))
        && to.is_file()
        && (to == from || to.parent() == Some(&from))
    {
        return Err(Error::Argument {
            what: "output",
            expected: "another file than those of the input".to_owned(),
            found: output.display().to_string(),
        });
    }
    Ok(())
}

/// As [`convert_with`], for a file that is open.
///
/// # Errors
/// As [`convert_with`].
pub fn convert_file(
    model: &ModelFile,
    output: &Path,
    to: ConvertType,
    options: &ConvertOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<ConvertReport> {
    let layout = options.i2s_layout;
    let mut job = Job {
        file: model.name(),
        output,
        cancel: &options.cancel,
        progress,
        report: ConvertReport::default(),
    };
    let report = &mut job.report;
    let new_writer = || super::GgufWriter::new(output.display().to_string());
    match (model, to.ternary()) {
        (ModelFile::Gguf(file), Some(ternary)) => {
            let mut tensors = gguf::read(file, layout, RowOrder::Same)?;
            let arch = file.text("general.architecture");
            let arch = arch.and_then(|name| GgufArchitecture::named(&name));
            let contract = make_ternary(file.name(), &mut tensors, options.fit, to, arch, report)?;
            if contract.is_some() && Contract::is_in(file) {
                return Err(Error::Unsupported {
                    file: file.name().to_owned(),
                    what: "rotating weights of which some are rotated already".to_owned(),
                    advice: "leave the rotation out".to_owned(),
                });
            }
            let mut writer = new_writer();
            gguf::copy_metadata(file, ternary, &mut writer);
            if let Some(keys) = &contract {
                keys.write(&mut writer);
            }
            gguf::write(&mut job, &tensors, writer, ternary)?;
        }
        (ModelFile::Gguf(file), None) => {
            let numbers = config::Numbers::from_gguf(file)?;
            let mut tensors = gguf::read(file, layout, numbers.order_to_checkpoint())?;
            make_ternary(file.name(), &mut tensors, options.fit, to, None, report)?;
            // Its numbers are in the configuration.
            tensors.retain(|tensor| tensor.name != rope::DIVISORS);
            let config = numbers.to_config(&tensors, file)?;
            let files = tokens::checkpoint_files(file, report)?;
            checkpoint::write(&mut job, &tensors, config, files)?;
        }
        (ModelFile::SafeTensors(file), Some(ternary)) => {
            let numbers = config::Numbers::from_checkpoint(file)?;
            let mut tensors = checkpoint::read(file, &numbers, numbers.order_to_gguf(), report)?;
            let arch = Some(numbers.gguf());
            let contract = make_ternary(file.name(), &mut tensors, options.fit, to, arch, report)?;
            tensors.extend(numbers.rope_tensor(file.name())?);
            report.notes.extend(numbers.rope_note());
            let mut writer = new_writer();
            numbers.to_metadata(&tensors, ternary, &mut writer);
            if let Some(keys) = &contract {
                keys.write(&mut writer);
            }
            tokens::metadata(file, config::Numbers::vocabulary(&tensors), &mut writer)?;
            writer.entry("general.quantization_version", 2u32);
            gguf::write(&mut job, &tensors, writer, ternary)?;
        }
        (ModelFile::SafeTensors(file), None) => {
            let numbers = config::Numbers::from_checkpoint(file)?;
            let mut tensors = checkpoint::read(file, &numbers, RowOrder::Same, report)?;
            make_ternary(file.name(), &mut tensors, options.fit, to, None, report)?;
            let files = tokens::copied_files(file)?;
            checkpoint::write(&mut job, &tensors, file.config().clone(), files)?;
        }
    }
    Ok(job.report)
}

/// A conversion under way.
struct Job<'a> {
    /// What errors call the input.
    file: &'a str,
    output: &'a Path,
    cancel: &'a Cancel,
    progress: &'a mut dyn FnMut(u64, u64),
    report: ConvertReport,
}

/// Makes projections ternary if that is asked for, notes which ones stay as they are, and refuses a model in which no matrix is ternary.
fn make_ternary(
    file: &str,
    tensors: &mut [Tensor],
    fit: Option<Fit>,
    to: ConvertType,
    arch: Option<&GgufArchitecture>,
    report: &mut ConvertReport,
) -> Result<Option<ContractKeys>> {
    let contract = match fit {
        Some(fit) => fit::fit(file, tensors, fit, to, arch, report)?,
        None => None,
    };
    for tensor in tensors.iter() {
        if let Content::Plain { format, .. } = &tensor.content
            && is_projection(&tensor.name)
        {
            let name = &tensor.source;
            report
                .notes
                .push(format!("{name} is not ternary and stays {format}."));
        }
    }
    let is_ternary = |tensor: &Tensor| matches!(tensor.content, Content::Ternary(_));
    if tensors.iter().any(is_ternary) {
        return Ok(contract);
    }
    Err(Error::Unsupported {
        file: file.to_owned(),
        what: "converting a model without ternary weights".to_owned(),
        advice: "use a model that was trained with ternary weights (BitNet b1.58 and its kin), or ask for its weights to be made ternary \
                 (--quantize), which a model that was not trained for it does not survive unharmed"
            .to_owned(),
    })
}

/// Refuses a row length that is no whole number of blocks of the output's type.
fn refuse_row_length(file: &str, tensor: &Tensor, format: Format) -> Result<()> {
    if tensor.cols.is_multiple_of(format.block_len()) {
        return Ok(());
    }
    Err(Error::tensor(
        file,
        &tensor.source,
        format_args!(
            "rows of a multiple of {} elements, which {format} needs",
            format.block_len()
        ),
        format_args!("rows of {}; safetensors can keep them", tensor.cols),
    ))
}
