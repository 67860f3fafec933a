//! Model files: GGUF and safetensors, memory-mapped (or copied into memory) and borrowed.
//!
//! A file gives names, shapes and slices of its own bytes. What the tensors mean to a transformer is decided
//! elsewhere; here it is decided only that they are really there.

#[macro_use]
mod named;

pub mod convert;
mod create;
mod data;
mod directory;
mod folder;
pub mod gguf;
pub mod map;
pub(crate) mod names;
mod pieces;
pub(crate) mod quantization;
mod read;
pub mod safetensors;
pub mod synth;
pub(crate) mod ternary;

use std::path::Path;

pub use bytes::Bytes;
pub use data::TensorData;
pub use folder::ModelFiles;
pub use gguf::{Array, GgmlType, Gguf, GgufTensor, GgufWriter, StringArray, Value};
pub use map::map;
pub use pieces::Pieces;
pub use read::read;
pub(crate) use read::read_into;
pub use safetensors::{Dtype, RawTensor, SafeTensorsModel};

use crate::{Error, Result};
use folder::Folder;

/// A model file of either kind.
#[derive(Debug)]
pub enum ModelFile {
    /// One GGUF file.
    Gguf(Gguf),
    /// Safetensors, in one file or several, with their config.json.
    SafeTensors(SafeTensorsModel),
}

/// How the bytes of a file of weights come into memory: as by [`map`] or [`read`].
pub(crate) type Load<'a> = &'a dyn Fn(&Path) -> Result<Bytes>;

/// Bytes at the beginning of a file that say what it is, or are shown where they do not.
const HEAD: usize = 16;

/// What the first bytes of a file say it is.
enum Container {
    Gguf,
    SafeTensors,
}

impl Container {
    fn of(name: &str, bytes: &[u8]) -> Result<Self> {
        if bytes.starts_with(&gguf::MAGIC) {
            Ok(Self::Gguf)
        } else if bytes.get(8) == Some(&b'{') {
            Ok(Self::SafeTensors)
        } else {
            Err(Error::malformed(
                name,
                "the first bytes",
                "a GGUF or safetensors file",
                match bytes {
                    [] => "an empty file".to_owned(),
                    _ => quoted(&bytes[..bytes.len().min(HEAD)]),
                },
            ))
        }
    }
}

impl ModelFile {
    /// Opens a GGUF file, a safetensors file or its index, or a directory with a model. The content decides, not the name.
    ///
    /// A directory with a config.json is opened as transformers 5 does: the file that its `transformers_weights` names, or
    /// `model.safetensors`, or `model.safetensors.index.json`. If it has none of these, but one other `.safetensors` file, that
    /// is opened, and otherwise its GGUF file. Of a GGUF model that is split into parts, each stands for all.
    ///
    /// Files of weights are memory-mapped and must not be truncated while they are in use, which would end the program: see
    /// [`map`](map()#truncation), and [`read`](Self::read), which copies them. Other files are small and always copied.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be read, [`Error::Malformed`] if a directory holds no model or several, otherwise as
    /// [`Gguf::open`] and [`SafeTensorsModel::open`].
    pub fn open(path: &Path) -> Result<Self> {
        Self::load(path, &map)
    }

    /// As [`open`](Self::open), with every file copied into memory: what happens to the files afterwards does not matter.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`BackendError::OutOfMemory`](crate::BackendError::OutOfMemory), naming the file, if there
    /// is no memory for a copy.
    pub fn read(path: &Path) -> Result<Self> {
        Self::load(path, &read)
    }

    /// As [`open`](Self::open), with files of weights loaded by `load`.
    pub(crate) fn load(path: &Path, load: Load<'_>) -> Result<Self> {
        if path.is_dir() {
            return match directory::find(&Folder::directory(path))? {
                directory::Found::Gguf(file) => Gguf::load(&path.join(file), load).map(Self::Gguf),
                directory::Found::SafeTensors => {
                    SafeTensorsModel::load(path, load).map(Self::SafeTensors)
                }
            };
        }
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            return SafeTensorsModel::load(path, load).map(Self::SafeTensors);
        }
        match Container::of(&path.display().to_string(), &read::head(path)?)? {
            Container::Gguf => Gguf::load(path, load).map(Self::Gguf),
            Container::SafeTensors => SafeTensorsModel::load(path, load).map(Self::SafeTensors),
        }
    }

    /// A model from files in memory, of which it takes the one that [`open`](Self::open) would take in a directory of them. No
    /// file system is needed, and nothing is copied.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_files(files: ModelFiles) -> Result<Self> {
        let folder = Folder::from(files);
        match directory::find(&folder)? {
            directory::Found::Gguf(file) => {
                let bytes = folder.weights(&file, &map)?;
                Gguf::parse(folder.name_of(&file), bytes).map(Self::Gguf)
            }
            directory::Found::SafeTensors => {
                let file = directory::find_safetensors(&folder)?;
                let name = folder.name();
                SafeTensorsModel::in_folder(name, folder, &file, &map).map(Self::SafeTensors)
            }
        }
    }

    /// A GGUF file from its bytes; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`Gguf::parse`]; [`Error::Unsupported`] for safetensors, whose description is in another file:
    /// [`from_files`](Self::from_files) takes both.
    pub fn parse(name: impl Into<String>, bytes: Bytes) -> Result<Self> {
        Self::parse_gguf(name, bytes).map(Self::Gguf)
    }

    /// As [`parse`](Self::parse), where nothing else is expected: a program that opens models only by
    /// [`Model::from_gguf_on`](crate::Model::from_gguf_on) contains no code for other files. The file may lie in several pieces.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_gguf(name: impl Into<String>, bytes: impl Into<Pieces>) -> Result<Gguf> {
        let (name, pieces) = (name.into(), bytes.into());
        match Container::of(&name, pieces.head())? {
            Container::Gguf => Gguf::parse_pieces(name, pieces),
            Container::SafeTensors => Err(Error::Unsupported {
                file: name,
                what: "a safetensors file without its config.json".to_owned(),
                advice: "give both to ModelFile::from_files, or use a GGUF file".to_owned(),
            }),
        }
    }

    /// What errors call this file.
    pub fn name(&self) -> &str {
        match self {
            Self::Gguf(file) => file.name(),
            Self::SafeTensors(file) => file.name(),
        }
    }

    /// Bytes of all its tensors.
    pub fn tensor_bytes(&self) -> u64 {
        let bytes = |data: &Bytes| data.len() as u64;
        match self {
            Self::Gguf(file) => file.tensors().iter().map(|t| bytes(&t.data)).sum(),
            Self::SafeTensors(file) => file.tensors().map(|t| bytes(&t.data)).sum(),
        }
    }
}

/// Bytes of a file as they may stand in a message: in quotes, control characters escaped, cut after 60 characters.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(240)];
    let text = String::from_utf8_lossy(head);
    let cut: String = text.chars().take(60).collect();
    let more = if cut.len() < text.len() || head.len() < bytes.len() {
        "…"
    } else {
        ""
    };
    format!("{cut:?}{more}")
}
