//! A file's bytes without copying them: memory-mapped where the system can, read elsewhere.
//!
//! The only `unsafe` of this crate is here.

use std::path::Path;

use super::Bytes;
use crate::{Error, Result};

/// The bytes of the file at `path`, memory-mapped (read into memory on wasm32). Pages come from disk as they
/// are touched, and clones and slices of the result share the one mapping.
///
/// The file must not be cut short while it is in use.
///
/// # Errors
/// [`Error::Io`], naming the file, if it is missing, unreadable or not a regular file.
pub fn map(path: &Path) -> Result<Bytes> {
    // Asked before opening: opening a named pipe would wait for its writer.
    let metadata = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if !metadata.is_file() {
        let found = if metadata.is_dir() {
            "a directory, where a file was expected"
        } else {
            "not a regular file"
        };
        let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, found);
        return Err(Error::io(path, source));
    }
    if metadata.len() == 0 {
        return Ok(Bytes::new());
    }
    bytes_of(path).map_err(|e| Error::io(path, e))
}

#[cfg(not(target_family = "wasm"))]
fn bytes_of(path: &Path) -> std::io::Result<Bytes> {
    let file = std::fs::File::open(path)?;
    // SAFETY: the mapping is read-only, and nothing in this crate writes to a model file it has
    // open. What remains is another process that changes or truncates the file meanwhile, which no reader of
    // a mapping can rule out; `map` documents that demand on the caller.
    let mapping = unsafe { memmap2::Mmap::map(&file)? };
    Ok(Bytes::from_owner(mapping))
}

#[cfg(target_family = "wasm")]
fn bytes_of(path: &Path) -> std::io::Result<Bytes> {
    std::fs::read(path).map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_a_file_and_shares_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.bin");
        std::fs::write(&path, b"some bytes").unwrap();
        let bytes = map(&path).unwrap();
        assert_eq!(&bytes[..], b"some bytes");
        assert_eq!(&bytes.slice(5..)[..], b"bytes");
    }

    #[test]
    fn an_empty_file_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("empty");
        std::fs::write(&path, b"").unwrap();
        assert!(map(&path).unwrap().is_empty());
    }

    #[test]
    fn errors_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let missing = map(&dir.path().join("missing.gguf")).unwrap_err();
        assert!(missing.to_string().contains("missing.gguf"), "{missing}");
        let directory = map(dir.path()).unwrap_err();
        assert!(directory.to_string().contains("a directory"), "{directory}");
    }
}
