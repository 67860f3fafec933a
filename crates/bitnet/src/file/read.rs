//! A file's bytes, copied into memory: what happens to the file afterwards does not matter.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use super::{Bytes, HEAD};
use crate::{Error, Result};

/// Where the bytes begin in memory: at a multiple of a cache line, as those of a mapping do.
const ALIGNMENT: usize = 64;

/// The bytes of the file at `path`, copied into memory. Clones and slices of the result share the one copy.
///
/// # Errors
/// [`Error::Io`], naming the file, if it is missing, unreadable or not a regular file, or if there is no memory for its
/// bytes: their number is in the message.
pub fn read(path: &Path) -> Result<Bytes> {
    let length = regular_file(path)?;
    copied(path, length).map_err(|error| Error::io(path, error))
}

fn copied(path: &Path, length: u64) -> io::Result<Bytes> {
    let mut bytes: Vec<u8> = Vec::new();
    let room = usize::try_from(length).ok();
    let room = room.and_then(|room| room.checked_add(ALIGNMENT));
    if room.is_none_or(|room| bytes.try_reserve_exact(room).is_err()) {
        let message = format!("there is no memory for its {length} bytes");
        return Err(io::Error::new(ErrorKind::OutOfMemory, message));
    }
    // `align_offset` may give up, which costs speed alone.
    let begin = bytes.as_ptr().align_offset(ALIGNMENT) % ALIGNMENT;
    bytes.resize(begin, 0);
    // A file that grows meanwhile is read as far as it was asked about.
    File::open(path)?.take(length).read_to_end(&mut bytes)?;
    Ok(Bytes::from(bytes).slice(begin..))
}

/// The first bytes of the file at `path`.
///
/// # Errors
/// As [`read`], less memory.
pub(super) fn head(path: &Path) -> Result<Vec<u8>> {
    regular_file(path)?;
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(HEAD as u64).read_to_end(&mut head))
        .map_err(|error| Error::io(path, error))?;
    Ok(head)
}

/// The length in bytes of the file at `path`, which is a regular file. Asked before it is opened: to open a named pipe would
/// wait for its writer.
///
/// # Errors
/// [`Error::Io`], naming the file, if there is none, or something else.
pub(super) fn regular_file(path: &Path) -> Result<u64> {
    let metadata = std::fs::metadata(path).map_err(|error| Error::io(path, error))?;
    if metadata.is_file() {
        return Ok(metadata.len());
    }
    let found = if metadata.is_dir() {
        "a directory, where a file was expected"
    } else {
        "not a regular file"
    };
    let source = io::Error::new(ErrorKind::InvalidInput, found);
    Err(Error::io(path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_a_file_and_keeps_the_copy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.bin");
        for content in [&b""[..], b"some bytes", &[7; 100_000]] {
            std::fs::write(&path, content).unwrap();
            let bytes = read(&path).unwrap();
            std::fs::write(&path, "").unwrap();
            assert_eq!(&bytes[..], content);
            assert_eq!(bytes.as_ptr().addr() % ALIGNMENT, 0);
        }
    }

    #[test]
    fn a_copy_too_large_for_memory_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.bin");
        std::fs::write(&path, "some bytes").unwrap();
        for length in [u64::MAX, isize::MAX as u64] {
            let error = copied(&path, length).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::OutOfMemory);
            assert!(error.to_string().contains(&length.to_string()), "{error}");
        }
    }

    #[test]
    fn errors_name_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let missing = read(&directory.path().join("missing.gguf")).unwrap_err();
        assert!(missing.to_string().contains("missing.gguf"), "{missing}");
        let found = read(directory.path()).unwrap_err();
        assert!(found.to_string().contains("a directory"), "{found}");
    }
}
