//! Safetensors models: one file or several, and the config.json that says what they are.

mod header;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use ::safetensors::Dtype;
use bitnet_quant::Format;
use serde::Deserialize;
pub use writer::SafeTensorsWriter;

use super::folder::{Folder, ModelFiles};
use super::{Bytes, Load, directory, map};
use crate::{Error, Result};

/// The file that lists the parts of a sharded model.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// The most bytes of a config.json that are read.
pub(super) const LONGEST_CONFIG: u64 = 1 << 20;
/// The most bytes of an index that are read.
const LONGEST_INDEX: u64 = 4 << 20;
/// The most bytes of another JSON file that are read. A tokenizer_config.json can list every token.
const LONGEST_SIBLING: u64 = 64 << 20;
/// More parts than any model has.
const MOST_SHARDS: usize = 1024;

/// One tensor: its description and its bytes, which stay in the file.
#[derive(Debug, Clone)]
pub struct RawTensor {
    /// The name, such as `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// The type of the elements.
    pub dtype: Dtype,
    /// Elements along each dimension, slowest first.
    pub shape: Vec<usize>,
    /// Exactly the tensor's bytes, little-endian, with no promise of alignment.
    pub data: Bytes,
}

impl RawTensor {
    /// The format of floating-point elements.
    ///
    /// # Errors
    /// [`Error::Tensor`], about `file`, if they are of another type.
    pub(crate) fn float_format(&self, file: &str) -> Result<Format> {
        match self.dtype {
            Dtype::F32 => Ok(Format::F32),
            Dtype::F16 => Ok(Format::F16),
            Dtype::BF16 => Ok(Format::Bf16),
            other => Err(Error::tensor(
                file,
                &self.name,
                "F32, F16 or BF16 (or U8 for packed projections)",
                other,
            )),
        }
    }

    /// All elements of a floating-point tensor, row after row. Those of F64 are rounded.
    ///
    /// # Errors
    /// As [`RawTensor::float_format`], but for F64.
    pub(crate) fn floats(&self, file: &str) -> Result<Vec<f32>> {
        if self.dtype == Dtype::F64 {
            let (values, _) = self.data.as_chunks::<8>();
            let values = values.iter().map(|value| f64::from_le_bytes(*value) as f32);
            return Ok(values.collect());
        }
        let format = self.float_format(file)?;
        let mut values = vec![0.0; self.data.len() / format.block_bytes()];
        format.decode_row(&self.data, 1.0, &mut values)?;
        Ok(values)
    }

    /// # Errors
    /// [`Error::Tensor`], about `file`, if the shape is another.
    pub(crate) fn expect_shape(&self, file: &str, expected: &[usize]) -> Result<()> {
        if self.shape == expected {
            return Ok(());
        }
        Err(Error::tensor(
            file,
            &self.name,
            format_args!("shape {expected:?}"),
            format_args!("{:?}", self.shape),
        ))
    }
}

/// A safetensors model: its tensors and its configuration.
#[derive(Debug)]
pub struct SafeTensorsModel {
    name: String,
    /// Where it lies, and what beside it.
    folder: Folder,
    config: serde_json::Value,
    tensors: BTreeMap<String, RawTensor>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl SafeTensorsModel {
    /// Opens a `.safetensors` file, the `.index.json` of a sharded model, or a directory with either, of which it takes the
    /// one that [`ModelFile::open`](super::ModelFile::open) says. The file `config.json` must stand beside it.
    ///
    /// Files of weights are memory-mapped and must not be truncated while they are in use, which would end the program: see
    /// [`map`](super::map()#truncation).
    ///
    /// # Errors
    /// [`Error::Io`] for files that are missing or unreadable, [`Error::Malformed`] or [`Error::Tensor`] for files that
    /// break the rules of the format.
    pub fn open(path: &Path) -> Result<Self> {
        Self::load(path, &map)
    }

    /// As [`open`](Self::open), with the bytes of each file of weights loaded by `load`.
    pub(super) fn load(path: &Path, load: Load<'_>) -> Result<Self> {
        let name = path.display().to_string();
        if path.is_dir() {
            let folder = Folder::directory(path);
            let file = directory::find_safetensors(&folder)?;
            return Self::in_folder(name, folder, &file, load);
        }
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => Folder::directory(parent),
            _ => Folder::directory("."),
        };
        let file = path.file_name().unwrap_or_default();
        Self::in_folder(name, folder, Path::new(file), load)
    }

    /// The model of `file`, weights or an index of them, and of what stands beside it in `folder`.
    pub(super) fn in_folder(
        name: String,
        folder: Folder,
        file: &Path,
        load: Load<'_>,
    ) -> Result<Self> {
        let config = folder.json("config.json", LONGEST_CONFIG)?;
        let is_index = file
            .extension()
            .is_some_and(|extension| extension == "json");
        let tensors = if is_index {
            sharded(&folder, file, load)?
        } else {
            refuse_shard(&folder, file)?;
            header::parse(&folder.name_of(file), &folder.weights(file, load)?)?
        };
        let config_name = folder.name_of("config.json");
        Self::new(name, folder, config, &config_name, tensors)
    }

    /// A model from the bytes of its one file and the content of its config.json; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`SafeTensorsModel::open`], less the reading.
    pub fn parse(name: impl Into<String>, bytes: Bytes, config: serde_json::Value) -> Result<Self> {
        let name = name.into();
        let tensors = header::parse(&name, &bytes)?;
        let nothing = ModelFiles::new(name.clone()).into();
        Self::new(name.clone(), nothing, config, &name, tensors)
    }

    fn new(
        name: String,
        folder: Folder,
        config: serde_json::Value,
        config_name: &str,
        tensors: BTreeMap<String, RawTensor>,
    ) -> Result<Self> {
        if !config.is_object() {
            return Err(Error::malformed(
                config_name,
                "config.json",
                "a JSON object",
                "something else",
            ));
        }
        Ok(Self {
            name,
            folder,
            config,
            tensors,
        })
    }

    /// What errors call this model: the path it was opened by, or the name given to [`SafeTensorsModel::parse`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The content of config.json, a JSON object.
    pub fn config(&self) -> &serde_json::Value {
        &self.config
    }

    /// The tensor called `name`. Its data share the file's memory.
    pub fn tensor(&self, name: &str) -> Option<RawTensor> {
        self.tensors.get(name).cloned()
    }

    /// All tensors, sorted by name.
    pub fn tensors(&self) -> impl Iterator<Item = &RawTensor> {
        self.tensors.values()
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The content of a file that stands beside the model, such as tokenizer.json, if there is one.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read.
    pub fn sibling(&self, file_name: impl AsRef<Path>) -> Result<Option<Bytes>> {
        if !self.folder.has(&file_name) {
            return Ok(None);
        }
        self.folder.read(file_name, u64::MAX).map(Some)
    }

    /// What errors call a file that stands beside the model.
    pub(crate) fn sibling_name(&self, file_name: impl AsRef<Path>) -> String {
        self.folder.name_of(file_name)
    }

    /// The files with that extension in a folder beside the model: their names without it, and where they are; sorted.
    pub(crate) fn siblings_in(&self, folder: &str, extension: &str) -> Vec<(String, PathBuf)> {
        // There need not be such a folder.
        let found = self.folder.with_extension(folder, extension);
        let found = found.unwrap_or_default().into_iter();
        found
            .filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), path)))
            .collect()
    }

    /// The content of a JSON file that stands beside the model, if it exists.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Malformed`] if it is no JSON or too long.
    pub(crate) fn sibling_json(&self, file_name: &str) -> Result<Option<serde_json::Value>> {
        if !self.folder.has(file_name) {
            return Ok(None);
        }
        self.folder.json(file_name, LONGEST_SIBLING).map(Some)
    }
}

/// Refuses `model-00001-of-00002.safetensors`, one piece of several.
fn refuse_shard(folder: &Folder, path: &Path) -> Result<()> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    match stem.rsplit_once("-of-") {
        Some((_, total)) if total.parse::<u32>().is_ok_and(|total| total > 1) => {
            Err(Error::Unsupported {
                file: folder.name_of(path),
                what: "one piece of a sharded model".to_owned(),
                advice: format!("open its directory, or the {INDEX} in it"),
            })
        }
        _ => Ok(()),
    }
}

/// The tensors that an index lists, from the files of `folder` it lists them in, which `load` loads.
fn sharded(folder: &Folder, index: &Path, load: Load<'_>) -> Result<BTreeMap<String, RawTensor>> {
    let index_name = folder.name_of(index);
    let index: Index = folder.json(index, LONGEST_INDEX)?;
    let mut shards: BTreeMap<&str, BTreeMap<String, RawTensor>> = BTreeMap::new();
    for file in index.weight_map.values() {
        if shards.contains_key(file.as_str()) {
            continue;
        }
        if !is_plain_name(file) {
            return Err(Error::malformed(
                index_name,
                "weight_map",
                "plain file names",
                super::quoted(file.as_bytes()),
            ));
        }
        if shards.len() == MOST_SHARDS {
            return Err(Error::malformed(
                index_name,
                "weight_map",
                format_args!("at most {MOST_SHARDS} files"),
                "more",
            ));
        }
        let tensors = header::parse(&folder.name_of(file), &folder.weights(file, load)?)?;
        shards.insert(file, tensors);
    }
    let mut tensors = BTreeMap::new();
    for (name, file) in &index.weight_map {
        let tensor = shards
            .get_mut(file.as_str())
            .and_then(|shard| shard.remove(name));
        let Some(tensor) = tensor else {
            return Err(Error::tensor(
                index_name,
                name,
                format_args!("in {file}"),
                "no such tensor there",
            ));
        };
        tensors.insert(name.clone(), tensor);
    }
    Ok(tensors)
}

/// Whether `name` is that of a file in the same directory.
pub(super) fn is_plain_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\\', ':', '\0'])
}
