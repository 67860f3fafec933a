//! Synthetic models: random ternary weights in the exact shape, names and keys of real ones.
//!
//! They say nothing sensible, but they load, run and take as much memory and time as a trained model, here and in
//! every runtime that knows their types. Each row of each tensor has a random generator of its own, so the same options
//! give the same file on every machine, whatever the number of threads; and all ternary types hold the same
//! weights.

mod checkpoint;
mod keys;
mod plan;
mod random;
mod shape;
mod vocabulary;

use std::io::Write;
use std::path::Path;

use bitnet_quant::{Format, I2sLayout, QuantError};
use rayon::prelude::*;

use super::create::NewFile;
use super::gguf::GgufWriter;
use crate::{Cancel, Result};
pub use checkpoint::{CheckpointWeights, write_checkpoint};
use plan::{Content, Planned};
pub(crate) use random::Random;
pub use shape::{Shape, SynthArch};

/// About how many bytes of data are made before they are written.
const PIECE: usize = 8 << 20;

/// Which model to make.
#[derive(Debug, Clone, Default)]
pub struct SynthOptions {
    /// How large.
    pub shape: Shape,
    /// How the ternary weights are stored.
    pub ternary: TernaryType,
    /// How the token embedding is stored.
    pub embedding: EmbeddingType,
    /// How a head of its own is stored, if not as the embedding.
    pub head: Option<EmbeddingType>,
    /// Where the random numbers begin.
    pub seed: u64,
    /// Which architecture's keys and tensors.
    pub arch: SynthArch,
    /// Layers, where there shall not be as many as the shape has.
    pub layers: Option<usize>,
}

named! {
    /// How ternary weights are stored.
    TernaryType, "type" {
        /// 2 bits, one scale per matrix.
        #[default]
        I2S = "i2_s",
        /// 1.6875 bits: base 3 with a scale for every 256.
        TQ1_0 = "tq1_0",
        /// 2.0625 bits with a scale for every 256.
        TQ2_0 = "tq2_0",
        /// 2.25 bits with a scale for every 64.
        Q2_0 = "q2_0",
        /// 2.125 bits with a scale for every 128.
        PQ2_0 = "pq2_0",
        /// 1.75 bits: base 3 with a scale for every 128.
        PTQ1_0 = "ptq1_0",
    }
}

named! {
    /// How the token embedding is stored.
    EmbeddingType, "embedding" {
        /// 16 bits.
        #[default]
        F16 = "f16",
        /// 8.5 bits.
        Q8_0 = "q8_0",
        /// 6.5625 bits.
        Q6K = "q6_k",
        /// 4.5 bits.
        Q4K = "q4_k",
        /// As the ternary weights.
        Ternary = "ternary",
    }
}

impl TernaryType {
    /// The codec of this type.
    pub const fn format(self) -> Format {
        match self {
            Self::I2S => Format::I2s(I2sLayout::A),
            Self::TQ1_0 => Format::Tq1_0,
            Self::TQ2_0 => Format::Tq2_0,
            Self::Q2_0 => Format::Q2_0,
            Self::PQ2_0 => Format::Q2_0Group128,
            Self::PTQ1_0 => Format::Ptq1_0,
        }
    }

    /// The number that `general.file_type` has for it.
    pub(crate) const fn file_type(self) -> u32 {
        match self {
            Self::I2S => 40,
            Self::TQ1_0 => 36,
            Self::TQ2_0 => 37,
            Self::Q2_0 => 41,
            Self::PQ2_0 => 141,
            Self::PTQ1_0 => 143,
        }
    }
}

/// What was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of tensor data.
    pub data_bytes: u64,
    /// Number of tensors.
    pub tensors: usize,
    /// Elements of all tensors.
    pub parameters: u64,
    /// Elements of the ternary ones.
    pub ternary_parameters: u64,
}

/// Makes a model file at `path`. `progress` hears how many bytes of how many are done.
///
/// # Errors
/// [`crate::Error::Io`] if the file cannot be written, [`crate::Error::Argument`] for options that do not fit each other;
/// nothing is left behind then.
pub fn write(
    options: &SynthOptions,
    path: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Summary> {
    write_until(options, path, &Cancel::default(), progress)
}

/// As [`write()`], until `cancel` is set.
///
/// # Errors
/// As [`write()`]; [`crate::Error::Cancelled`], and nothing is left behind then either.
pub fn write_until(
    options: &SynthOptions,
    path: &Path,
    cancel: &Cancel,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Summary> {
    let mut file = NewFile::create(path)?;
    let name = path.display().to_string();
    let summary = make(options, &name, &mut file, cancel, progress)?;
    file.keep()?;
    Ok(summary)
}

/// Makes a model in memory.
///
/// # Errors
/// As [`write()`].
pub fn to_vec(options: &SynthOptions) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write_to(options, "memory", &mut bytes, &mut |_, _| ())?;
    Ok(bytes)
}

/// Makes a model into `out`, which errors call `name`.
///
/// # Errors
/// As [`write()`].
pub fn write_to(
    options: &SynthOptions,
    name: &str,
    out: impl Write,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Summary> {
    make(options, name, out, &Cancel::default(), progress)
}

fn make(
    options: &SynthOptions,
    name: &str,
    out: impl Write,
    cancel: &Cancel,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Summary> {
    let mut file = GgufWriter::new(name);
    let shape = options.dimensions()?;
    let tensors = plan::tensors(options, &shape);
    keys::metadata(options, &shape, &tensors, &mut file)?;
    let mut summary = Summary {
        data_bytes: 0,
        tensors: tensors.len(),
        parameters: 0,
        ternary_parameters: 0,
    };
    for tensor in &tensors {
        file.tensor(&tensor.name, &tensor.ne, tensor.format)?;
        let elements = tensor.ne.iter().product::<u64>();
        summary.parameters += elements;
        if tensor.is_matrix() {
            summary.ternary_parameters += elements;
        }
    }
    summary.data_bytes = file.data_bytes();
    let mut done = 0;
    progress(done, summary.data_bytes);
    let mut file = file.begin(out)?;
    let mut piece = Vec::new();
    for (index, tensor) in tensors.iter().enumerate() {
        let row_bytes = tensor.format.row_bytes(tensor.cols())?;
        let rows_at_once = (PIECE / row_bytes).max(1);
        for first in (0..tensor.rows()).step_by(rows_at_once) {
            cancel.check()?;
            let rows = rows_at_once.min(tensor.rows() - first);
            piece.resize(rows * row_bytes, 0);
            fill(options.seed, index, tensor, first, row_bytes, &mut piece)?;
            file.push(&tensor.name, &piece)?;
            done += piece.len() as u64;
            progress(done, summary.data_bytes);
        }
        if let (Format::I2s(_), Content::Ternary { scale }) = (tensor.format, tensor.content) {
            let mut tail = [0; 32];
            tail[..4].copy_from_slice(&scale.to_le_bytes());
            file.push(&tensor.name, &tail)?;
            done += tail.len() as u64;
        }
    }
    progress(done, summary.data_bytes);
    file.finish()?;
    Ok(summary)
}

/// Makes the rows of `tensor` from `first` on.
fn fill(
    seed: u64,
    index: usize,
    tensor: &Planned,
    first: usize,
    row_bytes: usize,
    out: &mut [u8],
) -> Result<(), QuantError> {
    let random = |row: usize| Random::of(seed, index as u64, (first + row) as u64);
    let rows = out.par_chunks_mut(row_bytes).enumerate();
    match tensor.content {
        Content::Ternary { scale } => {
            let scales = vec![scale; tensor.cols() / tensor.format.block_len()];
            rows.try_for_each_init(
                || vec![0i8; tensor.cols()],
                |codes, (row, out)| {
                    random(row).ternary(codes);
                    tensor.format.encode_codes(codes, &scales, out)
                },
            )
        }
        Content::Normal { mean, deviation } => rows.try_for_each_init(
            || vec![0f32; tensor.cols()],
            |values, (row, out)| {
                random(row).normal(mean, deviation, values);
                tensor.format.encode_row(values, 0.0, out)
            },
        ),
    }
}

#[cfg(test)]
mod tests;
