//! A piece of a pool's memory, owned until dropped.
//!
//! Pools take zeroed memory from the system and blocks are written as plain bytes or plain data only: every byte of a
//! block is initialised at all times, though its value may be what an earlier owner left.

use super::inner::Inner;
use super::source::Address;
use super::{Piece, Tag, inner, local};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Bytes from a [`HybridMemoryPool`](super::HybridMemoryPool), which get back there when it is dropped.
///
/// The pool's memory lives as long as its last block, even if the pool itself is dropped first; a block may be
/// dropped on another thread than took it.
pub struct Block {
    address: Address,
    len: usize,
    pool: NonNull<Inner>,
    kind: Kind,
}

/// Size class, tag, and whether a leak guard knows it, in one word: a block is four words, which a processor copies
/// without waiting for parts of them.
#[derive(Clone, Copy)]
struct Kind(usize);

impl Kind {
    /// In place of the class of a large block.
    const LARGE: u8 = u8::MAX;

    #[inline(always)]
    fn new(class: Option<u8>, tag: Tag, watched: bool) -> Self {
        let class = usize::from(class.unwrap_or(Self::LARGE));
        Self(class | tag.index() << 8 | usize::from(watched) << 16)
    }

    #[inline(always)]
    fn class(self) -> Option<u8> {
        let class = self.0 as u8;
        (class != Self::LARGE).then_some(class)
    }

    #[inline(always)]
    fn tag(self) -> Tag {
        let tag = Tag::ALL.get(usize::from((self.0 >> 8) as u8));
        tag.copied().unwrap_or(Tag::Other)
    }

    #[inline(always)]
    fn watched(self) -> bool {
        self.0 >> 16 != 0
    }
}

// SAFETY: a block owns its bytes alone, and the pool's state behind the pointer is shared by means of atomics and locks.
unsafe impl Send for Block {}
// SAFETY: a shared block only lets its bytes be read.
unsafe impl Sync for Block {}

impl Block {
    /// # Safety
    /// `piece` must be one of at least `len` bytes that `pool` has just handed out and counted.
    #[inline(always)]
    pub(super) unsafe fn new(pool: &Inner, piece: Piece, len: usize, tag: Tag) -> Self {
        Self {
            address: piece.address,
            len,
            pool: NonNull::from(pool),
            kind: Kind::new(piece.class, tag, piece.watched),
        }
    }

    /// Its size in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it is for.
    pub fn tag(&self) -> Tag {
        self.kind.tag()
    }

    /// Its first byte, aligned as was asked for. All [`len`](Self::len) bytes are initialised, and must stay so.
    pub fn as_ptr(&self) -> *const u8 {
        self.address.pointer().as_ptr()
    }

    /// As [`as_ptr`](Self::as_ptr), for writing.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.address.pointer().as_ptr()
    }
}

impl Deref for Block {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the block owns `len` initialised bytes from here, and `&self` keeps writers away.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len) }
    }
}

impl DerefMut for Block {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: the block owns `len` initialised bytes from here, and `&mut self` keeps everybody else away.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), self.len) }
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("len", &self.len)
            .field("tag", &self.tag())
            .finish_non_exhaustive()
    }
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        let (class, watched) = (self.kind.class(), self.kind.watched());
        if watched || class.is_none() {
            // SAFETY: the pool lives until this block is counted as freed, which comes below.
            unsafe { self.pool.as_ref() }.leave(self.address, watched, class.is_none());
        }
        // SAFETY: the pool is valid as above; class and address came together from it, and the block ends here.
        unsafe {
            local::free(
                self.pool.as_ptr(),
                class,
                self.address,
                self.kind.tag(),
                self.len,
            );
        }
    }
}

impl Inner {
    /// What is special about freeing a watched or a large block.
    #[cold]
    fn leave(&self, address: Address, watched: bool, large: bool) {
        if watched {
            inner::lock(&self.leaks).remove(address.number());
        }
        if large {
            self.put_large(address);
        }
    }
}
