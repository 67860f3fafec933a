//! The files that a model is made of: in a directory, or in memory.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::read::regular_file;
use super::{Bytes, Load, read};
use crate::{Error, Result};

/// The files of a model in memory, under the names that they would have in a directory: `model.safetensors` (or
/// `model.safetensors.index.json` and the files that it lists) with `config.json`, `tokenizer.json` and whatever else stands
/// beside it, such as `tokenizer_config.json`, `generation_config.json` and `chat_template.jinja`; or one GGUF file under a
/// name that ends in `.gguf`, which says all of that itself.
///
/// Nothing is copied: the weights are used where they lie.
#[derive(Debug, Clone, Default)]
pub struct ModelFiles {
    name: String,
    files: BTreeMap<PathBuf, Bytes>,
}

impl ModelFiles {
    /// No files yet. `name` is what errors call the model.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            files: BTreeMap::new(),
        }
    }

    /// With the file `name`, which is given by its content: bytes or a text, owned or `'static`.
    #[must_use]
    pub fn with(mut self, name: impl Into<PathBuf>, content: impl Into<Bytes>) -> Self {
        self.files.insert(name.into(), content.into());
        self
    }
}

/// Where the files of a model are. Their names are relative to it.
#[derive(Debug)]
pub(super) struct Folder {
    /// The directory, or the name that errors say.
    path: PathBuf,
    /// The files, if they are in memory.
    memory: Option<BTreeMap<PathBuf, Bytes>>,
}

impl From<ModelFiles> for Folder {
    fn from(files: ModelFiles) -> Self {
        Self {
            path: files.name.into(),
            memory: Some(files.files),
        }
    }
}

impl Folder {
    /// A directory.
    pub(super) fn directory(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            memory: None,
        }
    }

    /// What errors call it.
    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// What errors call the file `name`.
    pub(super) fn name_of(&self, name: impl AsRef<Path>) -> String {
        self.path.join(name).display().to_string()
    }

    /// Whether there is a file of that name.
    pub(super) fn has(&self, name: impl AsRef<Path>) -> bool {
        match &self.memory {
            Some(files) => files.contains_key(name.as_ref()),
            None => self.path.join(name).is_file(),
        }
    }

    /// The bytes of a file of weights; from a directory `load` loads them.
    ///
    /// # Errors
    /// [`Error::Io`] if there is no such file, or it cannot be read.
    pub(super) fn weights(&self, name: impl AsRef<Path>, load: Load<'_>) -> Result<Bytes> {
        let path = self.path.join(&name);
        match &self.memory {
            None => load(&path),
            Some(files) => files.get(name.as_ref()).cloned().ok_or_else(|| {
                let missing = "not among the files that were given";
                Error::io(path, io::Error::new(ErrorKind::NotFound, missing))
            }),
        }
    }

    /// The content of a file of at most `longest` bytes.
    ///
    /// # Errors
    /// [`Error::Io`] if there is no such file, or it cannot be read; [`Error::Malformed`] if it is longer.
    pub(super) fn read(&self, name: impl AsRef<Path>, longest: u64) -> Result<Bytes> {
        let length = match &self.memory {
            None => regular_file(&self.path.join(&name))?,
            Some(files) => files.get(name.as_ref()).map_or(0, |file| file.len() as u64),
        };
        if length > longest {
            return Err(Error::malformed(
                self.name_of(name),
                "the file",
                format_args!("at most {longest} bytes"),
                length,
            ));
        }
        self.weights(name, &read)
    }

    /// What a JSON file of at most `longest` bytes says.
    ///
    /// # Errors
    /// As [`read`](Self::read); [`Error::Malformed`] if it is no JSON.
    pub(super) fn json<T: for<'de> Deserialize<'de>>(
        &self,
        name: impl AsRef<Path>,
        longest: u64,
    ) -> Result<T> {
        let content = self.read(&name, longest)?;
        serde_json::from_slice(&content)
            .map_err(|error| Error::malformed(self.name_of(name), "the file", "JSON", error))
    }

    /// The names of the files with that extension, sorted; those of `inside`, a folder in this one, if it is not empty.
    ///
    /// # Errors
    /// [`Error::Io`] if a directory cannot be read.
    pub(super) fn with_extension(&self, inside: &str, extension: &str) -> Result<Vec<PathBuf>> {
        let inside = Path::new(inside);
        let fits = |path: &Path| path.extension() == Some(OsStr::new(extension));
        let mut found = Vec::new();
        match &self.memory {
            Some(files) => {
                let here = files.keys().filter(|path| path.parent() == Some(inside));
                found.extend(here.filter(|path| fits(path)).cloned());
            }
            None => {
                let directory = self.path.join(inside);
                for entry in std::fs::read_dir(&directory).map_err(|e| Error::io(&directory, e))? {
                    let path = entry.map_err(|e| Error::io(&directory, e))?.path();
                    if let Some(name) = path.file_name()
                        && fits(&path)
                        && path.is_file()
                    {
                        found.push(inside.join(name));
                    }
                }
            }
        }
        found.sort();
        Ok(found)
    }
}
