//! A file that appears under its name only when it is whole.

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
