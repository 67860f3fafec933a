//! The memory pool: where activations, scratch, keys and values, and tensors live.
//!
//! Small blocks (up to 1 MiB) are cut from slabs, four sizes to a doubling, and pass through a cache of each thread;
//! large ones are whole mappings, reused by best fit. Taking and freeing a small block touches no memory that another
//! thread writes to, statistics included. A [`Block`] or [`Buffer`] goes back when it is dropped, on any thread.
//!
//! ```
//! use bitnet_core::pool::{HybridMemoryPool, PoolOptions, Tag};
//!
//! # fn main() -> bitnet_core::Result<()> {
//! let pool = HybridMemoryPool::new(PoolOptions::default());
//! let mut row = pool.buffer::<f32>(2560, Tag::Activation)?;
//! row[0] = 1.0;
//! assert_eq!(pool.stats().in_use, 4 * 2560);
//! drop(row);
//! assert_eq!(pool.stats().in_use, 0);
//! # Ok(())
//! # }
//! ```

mod alignment;
mod block;
mod buffer;
mod central;
mod classes;
mod counters;
mod inner;
mod leak;
mod local;
mod regions;
mod source;
mod stats;
mod tag;
mod tracker;

pub use alignment::Alignment;
pub use block::Block;
pub use buffer::Buffer;
pub use leak::{Leak, LeakGuard, LeakReport};
pub use regions::{Regions, Shortage, Taken};
pub use source::{BlockSource, HostMemory, HostRegion};
pub use stats::{PoolStats, TagStats};
pub use tag::Tag;
pub use tracker::{Movement, MovementStats, ZeroCopyStats, ZeroCopyTracker};

use crate::Result;
use bytemuck::Pod;
use inner::Inner;
use std::panic::Location;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};

/// How a pool behaves.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolOptions {
    /// Blocks up to this many bytes are small; at most 1 MiB, which is the default.
    pub small_limit: usize,
    /// Bytes of free blocks that each thread may keep for itself.
    pub thread_cache: usize,
    /// The most bytes held from the system at a time.
    pub hard_limit: Option<usize>,
    /// The share of `hard_limit` past which unused memory goes back to the system before more is taken, 0 to 1.
    pub trim_threshold: f32,
    /// Bytes of unused memory kept for reuse; what is more goes back to the system.
    pub idle_limit: usize,
    /// Ask for huge pages behind blocks of 2 MiB and more.
    pub huge_pages: bool,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            small_limit: classes::LARGEST,
            thread_cache: 4 << 20,
            hard_limit: None,
            trim_threshold: 0.9,
            idle_limit: 32 << 20,
            huge_pages: true,
        }
    }
}

/// A pool of host memory. Cheap to clone; clones share the memory.
///
/// It goes back to the system when the last clone and the last [`Block`] are gone. If two threads drop these at the very
/// same time, that may wait until the block's thread next needs more than its cache of the pool used last gives,
/// or ends, or any pool is made or closed.
#[derive(Clone)]
pub struct HybridMemoryPool(Arc<Open>);

/// What the handles share; closes the pool when the last of them is dropped.
struct Open {
    inner: Arc<Inner>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.inner.close();
    }
}

impl std::fmt::Debug for HybridMemoryPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HybridMemoryPool")
            .field("options", &self.inner().options)
            .finish_non_exhaustive()
    }
}

impl Default for HybridMemoryPool {
    fn default() -> Self {
        Self::new(PoolOptions::default())
    }
}

/// Bytes that a C library clears by vector stores; from 2 KiB on some use `rep stosb`, which takes 15 ns to begin.
const CLEARED_AT_ONCE: usize = 1 << 10;
/// From so many bytes on that start does not count.
const CLEARED_WHOLE: usize = 64 << 10;

/// Makes `bytes` bytes zero.
///
/// # Safety
/// They are the caller's to write.
#[inline]
unsafe fn clear(start: *mut u8, bytes: usize) {
    let piece = if bytes < CLEARED_WHOLE {
        CLEARED_AT_ONCE
    } else {
        bytes
    };
    let mut at = 0;
    while at < bytes {
        // SAFETY: from `at` there are that many of the caller's bytes.
        unsafe { start.add(at).write_bytes(0, piece.min(bytes - at)) };
        at += piece;
    }
}

impl HybridMemoryPool {
    /// An empty pool.
    pub fn new(options: PoolOptions) -> Self {
        Self(Arc::new(Open {
            inner: Inner::new(options),
        }))
    }

    /// The default pool, made when first asked for.
    pub fn global() -> &'static Self {
        static GLOBAL: LazyLock<HybridMemoryPool> = LazyLock::new(HybridMemoryPool::default);
        &GLOBAL
    }

    /// How it behaves.
    pub fn options(&self) -> &PoolOptions {
        &self.inner().options
    }

    /// `bytes` zero bytes.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) if the limit or the system leaves no room, after unused memory was given back.
    #[track_caller]
    #[inline(always)]
    pub fn allocate(&self, bytes: usize, alignment: Alignment, tag: Tag) -> Result<Block> {
        let taken = self.take(bytes, alignment, tag);
        let Some(taken) = taken else {
            return Err(self.inner().out_of_memory(bytes, tag));
        };
        if !taken.zeroed {
            // SAFETY: the bytes were just handed out, to nobody else.
            unsafe { clear(taken.address.pointer().as_ptr(), bytes) };
        }
        // SAFETY: just handed out and counted.
        Ok(unsafe { Block::new(self.inner(), taken, bytes, tag) })
    }

    /// `bytes` bytes of any value: those that an earlier owner left.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate).
    #[track_caller]
    #[inline(always)]
    pub fn allocate_uninit(&self, bytes: usize, alignment: Alignment, tag: Tag) -> Result<Block> {
        match self.take(bytes, alignment, tag) {
            // SAFETY: just handed out and counted.
            Some(taken) => Ok(unsafe { Block::new(self.inner(), taken, bytes, tag) }),
            None => Err(self.inner().out_of_memory(bytes, tag)),
        }
    }

    /// `len` zero elements.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate).
    #[track_caller]
    #[inline]
    pub fn buffer<T: Pod>(&self, len: usize, tag: Tag) -> Result<Buffer<T>> {
        let (bytes, alignment) = self.layout::<T>(len, tag)?;
        let block = self.allocate(bytes, alignment, tag)?;
        // SAFETY: the block was made for these elements.
        Ok(unsafe { Buffer::new(block, len) })
    }

    /// `len` elements of any value: to be written before they are read.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate).
    #[track_caller]
    #[inline]
    pub fn buffer_uninit<T: Pod>(&self, len: usize, tag: Tag) -> Result<Buffer<T>> {
        let (bytes, alignment) = self.layout::<T>(len, tag)?;
        let block = self.allocate_uninit(bytes, alignment, tag)?;
        // SAFETY: the block was made for these elements.
        Ok(unsafe { Buffer::new(block, len) })
    }

    /// `len` elements, each made from its index.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate).
    #[track_caller]
    #[inline]
    pub fn buffer_from_fn<T: Pod>(
        &self,
        len: usize,
        tag: Tag,
        mut element: impl FnMut(usize) -> T,
    ) -> Result<Buffer<T>> {
        let mut buffer = self.buffer_uninit(len, tag)?;
        for (index, slot) in buffer.iter_mut().enumerate() {
            *slot = element(index);
        }
        Ok(buffer)
    }

    /// A copy of `elements`.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate).
    #[track_caller]
    #[inline]
    pub fn buffer_copy<T: Pod>(&self, elements: &[T], tag: Tag) -> Result<Buffer<T>> {
        let mut buffer = self.buffer_uninit(elements.len(), tag)?;
        buffer.copy_from_slice(elements);
        Ok(buffer)
    }

    /// What it has done; beside busy threads [an upper bound](PoolStats) of what is in use.
    pub fn stats(&self) -> PoolStats {
        self.inner().stats()
    }

    /// Gives unused memory back to the system and returns its bytes. Other threads' caches follow when those threads
    /// next free a block.
    pub fn trim(&self) -> usize {
        local::flush(Some(self.inner()));
        self.inner().relieve()
    }

    /// Watches the blocks taken from here on.
    #[must_use = "the watch ends when the guard is dropped"]
    pub fn leak_guard(&self) -> LeakGuard {
        LeakGuard::new(self.clone())
    }

    /// Which operations on this pool's data moved it.
    pub fn zero_copy(&self) -> &ZeroCopyTracker {
        &self.inner().zero_copy
    }

    #[inline]
    fn inner(&self) -> &Inner {
        &self.0.inner
    }

    #[inline]
    fn layout<T>(&self, len: usize, tag: Tag) -> Result<(usize, Alignment)> {
        let bytes = len
            .checked_mul(size_of::<T>())
            .ok_or_else(|| self.inner().out_of_memory(usize::MAX, tag))?;
        let alignment = if align_of::<T>() <= 64 {
            Alignment::LINE
        } else {
            Alignment::new(align_of::<T>())?
        };
        Ok((bytes, alignment))
    }

    /// Memory, counted; `None` if it is short.
    ///
    /// Plain numbers, that callers make a block of in its last place: a block that moves just after it was written
    /// waits for the processor to put its fields together again.
    #[track_caller]
    #[inline(always)]
    fn take(&self, bytes: usize, alignment: Alignment, tag: Tag) -> Option<Piece> {
        let inner = self.inner();
        let usual = bytes <= inner.options.small_limit && alignment <= Alignment::LINE;
        let class = if usual {
            Some(classes::of(bytes))
        } else {
            inner.unusual_class(bytes, alignment)
        };
        let (address, zeroed) = match class {
            Some(class) => (local::take(inner, class, tag, bytes)?, false),
            None => inner.take_large(bytes, tag)?,
        };
        let watched = inner.watching.load(Ordering::Relaxed) != 0;
        if watched {
            inner.watch(address, tag, bytes, Location::caller());
        }
        Some(Piece {
            address,
            class: class.map(|class| class as u8),
            watched,
            zeroed,
        })
    }
}

/// Memory on its way to becoming a block.
#[derive(Clone, Copy)]
struct Piece {
    address: source::Address,
    /// The size class; `None` for a large block.
    class: Option<u8>,
    /// Whether a leak guard knows it.
    watched: bool,
    /// Whether it holds zeros.
    zeroed: bool,
}
