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
    let mapping = Mapping::listed(Mapped { mapping, file });
    Ok(Bytes::from_owner(mapping))
}

/// A mapping that [`give_back`] finds.
#[cfg(unix)]
struct Mapping(Arc<Mapped>);

/// A mapping and its file.
#[cfg(unix)]
struct Mapped {
    mapping: memmap2::Mmap,
    file: std::fs::File,
}

/// The mappings of this module that are in use.
#[cfg(unix)]
static MAPPINGS: Mutex<Vec<Weak<Mapped>>> = Mutex::new(Vec::new());

#[cfg(unix)]
impl Mapping {
    fn listed(mapped: Mapped) -> Self {
        let mapping = Arc::new(mapped);
        let mut list = MAPPINGS.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|other| other.strong_count() > 0);
        list.push(Arc::downgrade(&mapping));
        Self(mapping)
    }
}

#[cfg(unix)]
impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.0.mapping
    }
}

/// The mapping that holds `bytes`, and where in it they lie.
#[cfg(unix)]
fn place_of(bytes: &[u8]) -> Option<(Arc<Mapped>, Range<usize>)> {
    let wanted = bytes.as_ptr_range();
    let (start, end) = (wanted.start.addr(), wanted.end.addr());
    let list = MAPPINGS.lock().unwrap_or_else(PoisonError::into_inner);
    list.iter().filter_map(Weak::upgrade).find_map(|mapped| {
        let own = mapped.mapping.as_ptr_range();
        let holds = own.start.addr() <= start && end <= own.end.addr();
        let first = own.start.addr();
        holds.then(|| (mapped, start - first..end - first))
    })
}

/// Says that `bytes` will not be read soon. If they are part of a file that [`map`] mapped, the pages that lie wholly in
/// them no longer count as this process's memory; they come from the system's cache, or the file, when read again.
#[cfg(unix)]
pub fn give_back(bytes: &[u8]) {
    // Pages of up to 64 kB; a mapping begins with one.
    const PAGE: usize = 1 << 16;
    let Some((mapped, place)) = place_of(bytes) else {
        return;
    };
    let from = place.start.next_multiple_of(PAGE);
    let to = place.end / PAGE * PAGE;
    if from < to {
        // SAFETY: the mapping is of a file and read-only, so its pages hold nothing but the file, which is what
        // they hold when they come again; `map` demands that the file does not change.
        let advised = unsafe {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            (mapped.mapping).unchecked_advise_range(advice, from, to - from)
        };
        if let Err(error) = advised {
            tracing::debug!("the system keeps pages of a mapped file: {error}");
        }
    }
}

/// Says that `bytes` will not be read soon; this system gives no memory back.
#[cfg(not(unix))]
pub fn give_back(_: &[u8]) {}

/// Says that `bytes` are about to be read. If they are part of a file that [`map`] mapped, the system begins to read those of
/// their pages that it does not hold, all at once, instead of a few at a time when each is touched.
#[cfg(unix)]
pub fn fetch(bytes: &[u8]) {
    let Some((mapped, place)) = place_of(bytes) else {
        return;
    };
    // The whole pages around them are advised.
    let advice = memmap2::Advice::WillNeed;
    let advised = (mapped.mapping).advise_range(advice, place.start, place.len());
    if let Err(error) = advised {
        tracing::debug!("the system does not read a mapped file ahead: {error}");
    }
}

/// Says that `bytes` are about to be read; this system is not told.
#[cfg(not(unix))]
pub fn fetch(_: &[u8]) {}

/// Copies `bytes` to `out`, which is as long, without touching the mapping: a page of a mapping that is touched after it was
/// [given back](give_back) has to be put into the process's tables again, with its neighbours. Returns whether it did; it does not if
/// they are no part of a file that [`map`] mapped.
#[cfg(unix)]
pub fn copy(bytes: &[u8], out: &mut [u8]) -> bool {
    use std::os::unix::fs::FileExt;
    place_of(bytes).is_some_and(|(mapped, place)| {
        let offset = place.start as u64;
        out.len() == bytes.len() && mapped.file.read_exact_at(out, offset).is_ok()
    })
}

/// Copies nothing; on this system no page is given back.
#[cfg(not(unix))]
pub fn copy(_: &[u8], _: &mut [u8]) -> bool {
    false
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
    fn bytes_fetched_are_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.bin");
        let content: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let bytes = map(&path).unwrap();
        for range in [0..300_000, 70_000..100_001, 299_999..300_000] {
            fetch(&bytes[range]);
            assert_eq!(&bytes[..], content);
        }
        fetch(&content);
    }

    #[test]
    fn bytes_copied_are_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.bin");
        let content: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let bytes = map(&path).unwrap();
        let slice = bytes.slice(1000..);
        for range in [0..1, 70_000..100_001, 298_000..299_000] {
            let mut out = vec![0; range.len()];
            let copied = copy(&slice[range.clone()], &mut out);
            assert_eq!(copied, cfg!(unix));
            if copied {
                assert_eq!(out, content[1000..][range]);
            }
        }
        let mut out = [0; 4];
        assert!(!copy(&content[..4], &mut out), "no part of a mapping");
        assert!(!copy(&bytes[..5], &mut out), "another length");
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
