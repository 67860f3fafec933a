//! A file's bytes, copied into memory: what happens to the file afterwards does not matter.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use bitnet_core::{Buffer, HybridMemoryPool, Tag};

use super::{Bytes, HEAD};
use crate::{BackendError, Cancel, Error, Result};

/// Bytes that are read between two looks at whether to go on.
const AT_ONCE: usize = 8 << 20;

/// The bytes of the file at `path`, copied into memory. Clones and slices of the result share the one copy.
///
/// # Errors
/// [`Error::Io`], naming the file, if it is missing, unreadable or not a regular file;
/// [`BackendError::OutOfMemory`], naming it too, if there is no memory for its bytes.
pub fn read(path: &Path) -> Result<Bytes> {
    read_into(path, HybridMemoryPool::global(), &Cancel::default())
}

/// As [`read`], into memory of `pool`, until `cancel` is set. The copy begins at a multiple of a cache line, as a mapping does.
///
/// # Errors
/// As [`read`]; [`Error::Cancelled`].
pub(crate) fn read_into(path: &Path, pool: &HybridMemoryPool, cancel: &Cancel) -> Result<Bytes> {
    copied(path, regular_file(path)?, pool, cancel)
}

fn copied(path: &Path, length: u64, pool: &HybridMemoryPool, cancel: &Cancel) -> Result<Bytes> {
    // More than memory can have is more than the pool has.
    let room = usize::try_from(length).unwrap_or(usize::MAX);
    let what = || format!("a copy of {}", path.display());
    let mut bytes = buffer(pool, room, what)?;
    let mut file = File::open(path).map_err(|error| Error::io(path, error))?;
    // A file that grows meanwhile is read as far as it was asked about, one that shrinks as far as it goes.
    let mut read = 0;
    while read < room {
        cancel.check()?;
        let end = room.min(read + AT_ONCE);
        match file.read(&mut bytes[read..end]) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io(path, error)),
        }
    }
    bytes.truncate(read);
    Ok(bytes.into_bytes())
}

/// Memory of `pool` for `bytes` bytes; if there is none, the error says for `what`.
///
/// # Errors
/// [`BackendError::OutOfMemory`].
pub(super) fn buffer(
    pool: &HybridMemoryPool,
    bytes: usize,
    what: impl FnOnce() -> String,
) -> Result<Buffer<u8>> {
    let buffer = pool.buffer_uninit::<u8>(bytes, Tag::Weights);
    Ok(buffer.map_err(|error| match error {
        BackendError::OutOfMemory {
            bytes,
            in_use,
            limit,
            ..
        } => BackendError::OutOfMemory {
            what: what(),
            bytes,
            in_use,
            limit,
        },
        error => error,
    })?)
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
    use bitnet_core::PoolOptions;

    #[test]
    fn copies_a_file_and_keeps_the_copy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.bin");
        for content in [&b""[..], b"some bytes", &[7; 100_000]] {
            std::fs::write(&path, content).unwrap();
            let bytes = read(&path).unwrap();
            std::fs::write(&path, "").unwrap();
            assert_eq!(&bytes[..], content);
            assert!(content.is_empty() || bytes.as_ptr().addr().is_multiple_of(64));
        }
    }

    #[test]
    fn a_copy_too_large_for_memory_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.bin");
        std::fs::write(&path, "some bytes").unwrap();
        let limited = HybridMemoryPool::new(PoolOptions {
            hard_limit: Some(1 << 20),
            ..PoolOptions::default()
        });
        for (length, pool) in [
            (u64::MAX, HybridMemoryPool::global()),
            (isize::MAX as u64, HybridMemoryPool::global()),
            (1 << 21, &limited),
        ] {
            let error = copied(&path, length, pool, &Cancel::default()).unwrap_err();
            assert!(
                matches!(&error, Error::Backend(BackendError::OutOfMemory { .. })),
                "{error}"
            );
            let said = error.to_string();
            assert!(
                said.contains("model.bin") && said.contains(&length.to_string()),
                "{error}"
            );
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
