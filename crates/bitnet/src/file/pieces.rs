//! The bytes of a file in several allocations: where addresses have 32 bits, one cannot be of more than 2 GiB.

use std::ops::Range;

use bitnet_core::HybridMemoryPool;

use super::Bytes;
use super::read::buffer;
use crate::Result;

/// A file's bytes, in pieces that follow each other.
#[derive(Debug, Clone)]
pub struct Pieces {
    head: Bytes,
    rest: Vec<Bytes>,
    len: usize,
}

impl From<Bytes> for Pieces {
    fn from(head: Bytes) -> Self {
        Self {
            len: head.len(),
            head,
            rest: Vec::new(),
        }
    }
}

impl Pieces {
    /// `piece` behind these.
    #[must_use]
    pub fn and(mut self, piece: Bytes) -> Self {
        self.len += piece.len();
        self.rest.push(piece);
        self
    }

    /// Bytes of all pieces.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The first piece.
    pub(super) fn head(&self) -> &Bytes {
        &self.head
    }

    /// The bytes at `range`, which must lie within the file: shared with the piece that they lie in, or put together where they lie
    /// in several; `what` is what an error calls them.
    ///
    /// # Errors
    /// [`BackendError::OutOfMemory`](crate::BackendError::OutOfMemory) if there is no memory to put them together.
    pub(super) fn slice(&self, range: Range<usize>, what: &str) -> Result<Bytes> {
        let mut start = 0;
        let mut parts = Vec::new();
        for piece in std::iter::once(&self.head).chain(&self.rest) {
            let from = range.start.max(start) - start;
            let to = range.end.min(start + piece.len()).saturating_sub(start);
            if from <= to && (from < to || range.is_empty()) {
                parts.push(piece.slice(from..to));
            }
            start += piece.len();
        }
        if let [part, ..] = &parts[..]
            && part.len() == range.len()
        {
            return Ok(part.clone());
        }
        let what = || format!("{what}, which lies in several pieces of the file");
        let mut whole = buffer(HybridMemoryPool::global(), range.len(), what)?;
        let mut at = 0;
        for part in parts {
            whole[at..at + part.len()].copy_from_slice(&part);
            at += part.len();
        }
        Ok(whole.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_the_same_however_the_file_is_cut() {
        let file: Vec<u8> = (0..60).collect();
        for size in [1, 7, 20, 59, 60] {
            let mut chunks = file.chunks(size).map(Bytes::copy_from_slice);
            let head = Pieces::from(chunks.next().unwrap());
            let pieces = chunks.fold(head, Pieces::and);
            assert_eq!(pieces.len(), file.len());
            for start in 0..=file.len() {
                for end in start..=file.len() {
                    let slice = pieces.slice(start..end, "a part").unwrap();
                    assert_eq!(slice, file[start..end], "{start}..{end} of {size}");
                }
            }
        }
    }

    #[test]
    fn what_lies_in_one_piece_is_not_copied() {
        let (a, b) = (Bytes::from(vec![1; 100]), Bytes::from(vec![2; 100]));
        let pieces = Pieces::from(a).and(b.clone());
        let slice = pieces.slice(150..200, "a part").unwrap();
        assert_eq!(slice.as_ptr(), b[50..].as_ptr());
    }
}
