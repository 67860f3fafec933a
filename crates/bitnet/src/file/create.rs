//! Files that appear under their names only when they are whole.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A file being written beside its final name. Dropped before [`NewFile::keep`], it leaves nothing behind.
///
/// If the name belongs to something that is no regular file, such as a device, that is written directly.
pub(crate) struct NewFile {
    path: PathBuf,
    partial: Option<PathBuf>,
    out: BufWriter<File>,
}

impl NewFile {
    /// Begins the file that will be called `path`; an existing one stays until it is replaced.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be created.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let replaceable = std::fs::metadata(path).map_or(true, |found| found.is_file());
        let partial = match path.file_name() {
            Some(name) if replaceable => {
                let mut name = name.to_owned();
                name.push(".partial");
                Some(path.with_file_name(name))
            }
            _ => None,
        };
        let target = partial.as_deref().unwrap_or(path);
        let file = File::create(target).map_err(|e| Error::io(path, e))?;
        Ok(Self {
            path: path.to_owned(),
            partial,
            out: BufWriter::new(file),
        })
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// [`Error::Io`] if the last bytes cannot be written or the name cannot be given.
    pub(crate) fn keep(mut self) -> Result<()> {
        self.out.flush().map_err(|e| Error::io(&self.path, e))?;
        if let Some(partial) = self.partial.take() {
            let renamed = std::fs::rename(&partial, &self.path);
            if renamed.is_err() {
                // The rename's error is the one to report.
                let _ = std::fs::remove_file(&partial);
            }
            renamed.map_err(|e| Error::io(&self.path, e))?;
        }
        Ok(())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // Nothing to be done about a file that cannot be removed either.
            let _ = std::fs::remove_file(partial);
        }
    }
}

/// A directory being filled. Dropped before [`NewDirectory::keep`], it takes what was written with it.
pub(crate) struct NewDirectory {
    path: PathBuf,
    created: bool,
    files: Vec<PathBuf>,
    kept: bool,
}

impl NewDirectory {
    /// Makes the directory `path`, which must not exist or be empty.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be made, is no directory or is not empty.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let io = |error: io::Error| Error::io(path, error);
        let created = !path.exists();
        if created {
            std::fs::create_dir_all(path).map_err(io)?;
        } else if std::fs::read_dir(path).map_err(io)?.next().is_some() {
            let found = "the directory is not empty; name a new one";
            return Err(io(io::Error::new(io::ErrorKind::AlreadyExists, found)));
        }
        Ok(Self {
            path: path.to_owned(),
            created,
            files: Vec::new(),
            kept: false,
        })
    }

    /// Begins a file in it.
    ///
    /// # Errors
    /// As [`NewFile::create`].
    pub(crate) fn file(&mut self, name: &str) -> Result<NewFile> {
        let path = self.path.join(name);
        let file = NewFile::create(&path)?;
        self.files.push(path);
        Ok(file)
    }

    /// Writes a whole file into it.
    ///
    /// # Errors
    /// [`Error::Io`] if that fails.
    pub(crate) fn write(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        let mut file = self.file(name)?;
        file.write_all(content).map_err(|e| Error::io(path, e))?;
        file.keep()
    }

    /// Lets it stay.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for NewDirectory {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // Nothing to be done about what cannot be removed.
        for file in &self.files {
            let _ = std::fs::remove_file(file);
        }
        if self.created {
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"whole").unwrap();
        assert!(!path.exists());
        file.keep().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
