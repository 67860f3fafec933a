//! Elements in a pool's memory.

use super::{Block, Tag};
use bytemuck::Pod;
use bytes::Bytes;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// A fixed number of plain elements in a [`Block`]: a boxed slice from a pool.
pub struct Buffer<T> {
    block: Block,
    len: usize,
    _elements: PhantomData<T>,
}

impl<T: Pod> Buffer<T> {
    /// The first `len` elements of `block`, which has room for them, is aligned for them, and holds whatever values.
    ///
    /// # Safety
    /// `block` must hold at least `len` elements and be aligned to them.
    #[inline]
    pub(super) unsafe fn new(block: Block, len: usize) -> Self {
        Self {
            block,
            len,
            _elements: PhantomData,
        }
    }

    /// What it is for.
    pub fn tag(&self) -> Tag {
        self.block.tag()
    }

    /// Drops the elements from `len` on; the memory stays.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The memory behind the elements.
    pub fn into_block(self) -> Block {
        self.block
    }

    /// The elements' bytes, to be shared; the block goes back when the last of them is dropped.
    pub fn into_bytes(self) -> Bytes {
        let len = self.len * size_of::<T>();
        let mut bytes = Bytes::from_owner(self.block);
        bytes.truncate(len);
        bytes
    }
}

impl<T: Pod> Deref for Buffer<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the block has room for `len` elements and their alignment; all bytes are initialised, and plain
        // data takes any.
        unsafe { std::slice::from_raw_parts(self.block.as_ptr().cast(), self.len) }
    }
}

impl<T: Pod> DerefMut for Buffer<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as for `deref`, and `&mut self` keeps everybody else away; plain data has no uninitialised bytes.
        unsafe { std::slice::from_raw_parts_mut(self.block.as_mut_ptr().cast(), self.len) }
    }
}

impl<T: Pod> AsRef<[T]> for Buffer<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T: Pod> AsMut<[T]> for Buffer<T> {
    fn as_mut(&mut self) -> &mut [T] {
        self
    }
}

impl<T: Pod + PartialEq> PartialEq for Buffer<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
