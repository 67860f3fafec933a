//! A file's bytes without copying them: memory-mapped where the system can, read elsewhere.
//!
//! The only `unsafe` of this crate is here.

#[cfg(unix)]
use std::ops::Range;
use std::path::Path;
#[cfg(unix)]
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Bytes;
use super::read::regular_file;
use crate::{Error, Result};

/// The bytes of the file at `path`, memory-mapped (read into memory on wasm32). Pages come from disk as they
/// are touched, and clones and slices of the result share the one mapping.
///
/// # Truncation
/// The file must keep its length and its content while the result, or a clone or slice of it, is in use. If another process
/// truncates it, the program ends as soon as it touches a page that is gone (by `SIGBUS` on Unix; Windows refuses to
/// truncate a mapped file), and no error can be returned instead. A program that is installed beside writers it does not trust
/// copies the file: [`read`](super::read()).
///
/// # Errors
/// [`Error::Io`], naming the file, if it is missing, unreadable or not a regular file.
pub fn map(path: &Path) -> Result<Bytes> {
    if regular_file(path)? == 0 {
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
    #[cfg(unix)]
    let mapping = Mapping::listed(mapping);
    Ok(Bytes::from_owner(mapping))
}

/// A mapping that [`give_back`] finds.
#[cfg(unix)]
struct Mapping(Arc<memmap2::Mmap>);

/// The mappings of this module that are in use.
#[cfg(unix)]
static MAPPINGS: Mutex<Vec<Weak<memmap2::Mmap>>> = Mutex::new(Vec::new());

#[cfg(unix)]
impl Mapping {
    fn listed(mapping: memmap2::Mmap) -> Self {
        let mapping = Arc::new(mapping);
        let mut list = MAPPINGS.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|other| other.strong_count() > 0);
        list.push(Arc::downgrade(&mapping));
        Self(mapping)
    }
}

#[cfg(unix)]
impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Says that `bytes` will not be read soon. If they are part of a file that [`map`] mapped, the pages that lie wholly in
/// them no longer count as this process's memory; they come from the system's cache, or the file, when read again.
#[cfg(unix)]
pub fn give_back(bytes: &[u8]) {
    let wanted = bytes.as_ptr_range();
    let (start, end) = (wanted.start.addr(), wanted.end.addr());
    let list = MAPPINGS.lock().unwrap_or_else(PoisonError::into_inner);
    for mapping in list.iter().filter_map(Weak::upgrade) {
        let Range {
            start: first,
            end: last,
        } = mapping.as_ptr_range();
        if first.addr() <= start && end <= last.addr() {
            // Pages of up to 64 kB; a mapping begins with one.
            const PAGE: usize = 1 << 16;
            let from = (start - first.addr()).next_multiple_of(PAGE);
            let to = (end - first.addr()) / PAGE * PAGE;
            if from < to {
                // SAFETY: the mapping is of a file and read-only, so its pages hold nothing but the file, which is what
                // they hold when they come again; `map` demands that the file does not change.
                let advised = unsafe {
                    let advice = memmap2::UncheckedAdvice::DontNeed;
                    mapping.unchecked_advise_range(advice, from, to - from)
                };
                if let Err(error) = advised {
                    tracing::debug!("the system keeps pages of a mapped file: {error}");
                }
            }
            return;
        }
    }
}

/// Says that `bytes` will not be read soon; this system gives no memory back.
#[cfg(not(unix))]
pub fn give_back(_: &[u8]) {}

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
    fn bytes_given_back_come_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.bin");
        let content: Vec<u8> = (0..500_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let bytes = map(&path).unwrap();
        for range in [0..500_000, 70_000..300_001, 5..6, 499_999..500_000] {
            give_back(&bytes[range]);
            assert_eq!(&bytes[..], content);
        }
        // Nothing of a mapping.
        give_back(&content);
        assert_eq!(&bytes[..], content);
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
