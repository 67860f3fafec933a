//! Synthetic checkpoints: the same models as safetensors with config.json and tokenizer.json.

use std::io::Write;
use std::path::Path;

use bitnet_quant::Format;
use serde_json::Value as Json;

use super::random::Random;
use super::{SynthOptions, to_vec};
use crate::Result;
use crate::file::convert::{ConvertOptions, ConvertType, convert_file};
use crate::file::create::NewFile;
use crate::file::safetensors::SafeTensorsWriter;
use crate::file::{Bytes, Dtype, Gguf, ModelFile, SafeTensorsModel};

named! {
    /// How a checkpoint holds its projections.
    CheckpointWeights, "weights of a checkpoint" {
        /// Ternary, four rows to a byte row: the weights of the GGUF file of the same options.
        #[default]
        Packed = "packed",
        /// Master weights in BF16, to be made ternary by whoever loads them.
        Master = "master",
        /// The same numbers, of a model that knows nothing of ternary weights.
        Floats = "floats",
    }
}

/// Makes a checkpoint in `directory`, which must be new or empty. The model is made in memory first.
///
/// # Errors
/// [`crate::Error::Io`] if it cannot be written.
pub fn write_checkpoint(
    options: &SynthOptions,
    weights: CheckpointWeights,
    directory: &Path,
) -> Result<()> {
    let file = Gguf::parse("a synthetic model", Bytes::from(to_vec(options)?))?;
    let file = ModelFile::Gguf(file);
    convert_file(
        &file,
        directory,
        ConvertType::SafeTensors,
        &ConvertOptions::default(),
        &mut |_, _| (),
    )?;
    match weights {
        CheckpointWeights::Packed => Ok(()),
        CheckpointWeights::Master => unpack(options.seed, directory, |config| {
            config["quantization_config"]["quantization_mode"] = "online".into();
        }),
        CheckpointWeights::Floats => unpack(options.seed, directory, |config| {
            config["quantization_config"] = Json::Null;
        }),
    }
}

/// Puts random floating-point weights in the place of packed ones; `describe` says so in the configuration.
fn unpack(seed: u64, directory: &Path, describe: impl FnOnce(&mut Json)) -> Result<()> {
    let packed = SafeTensorsModel::open(directory)?;
    let path = directory.join("model.safetensors");
    let mut writer = SafeTensorsWriter::new(path.display().to_string());
    let tensors: Vec<_> = packed
        .tensors()
        .filter(|tensor| !tensor.name.ends_with("_scale"))
        .collect();
    for tensor in &tensors {
        match (tensor.dtype, &tensor.shape[..]) {
            (Dtype::U8, &[rows, cols]) => {
                writer.tensor(&tensor.name, Dtype::BF16, &[4 * rows, cols])?
            }
            (dtype, shape) => writer.tensor(&tensor.name, dtype, shape)?,
        }
    }
    let mut out = NewFile::create(&path)?;
    let mut data = writer.begin(&mut out)?;
    for (index, tensor) in tensors.into_iter().enumerate() {
        let (Dtype::U8, &[rows, cols]) = (tensor.dtype, &tensor.shape[..]) else {
            data.push(&tensor.name, &tensor.data)?;
            continue;
        };
        let mut values = vec![0.0; cols];
        let mut bytes = vec![0; Format::Bf16.row_bytes(cols)?];
        for row in 0..4 * rows {
            Random::of(seed, index as u64, row as u64).normal(0.0, 0.02, &mut values);
            Format::Bf16.encode_row(&values, 1.0, &mut bytes)?;
            data.push(&tensor.name, &bytes)?;
        }
    }
    data.finish()?;
    let mut config = packed.config().clone();
    describe(&mut config);
    // The mapping of the packed file ends before another takes its name.
    drop(packed);
    out.keep()?;
    let path = directory.join("config.json");
    let mut out = NewFile::create(&path)?;
    out.write_all(config.to_string().as_bytes())
        .map_err(|error| crate::Error::io(&path, error))?;
    out.keep()
}
