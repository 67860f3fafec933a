//! Each thread's own free blocks: taking one from here and putting it back meets no other thread.

use super::Tag;
use super::classes;
use super::counters::{CLOSED, Counters, FLUSH};
use super::inner::{Inner, sweep_orphans};
use super::regions::Shortage;
use super::source::Address;
use std::cell::RefCell;
use std::sync::{Arc, Weak};

thread_local! {
    static LOCAL: RefCell<Local> = const { RefCell::new(Local { caches: Vec::new(), last: 0 }) };
}

/// The caches of one thread, one for each pool it has used.
struct Local {
    caches: Vec<Cache>,
    /// Index of the one used last.
    last: usize,
}

struct Cache {
    pool_id: u64,
    pool: Weak<Inner>,
    counters: Arc<Counters>,
    bins: Box<[Bin; classes::COUNT]>,
    /// Bytes of the blocks in the bins.
    held: usize,
    /// The most bytes the bins may hold.
    limit: usize,
}

/// Free blocks of one size.
struct Bin {
    blocks: Vec<Address>,
    size: usize,
    /// The most blocks it may hold.
    depth: usize,
}

/// The most blocks of one size that a thread keeps.
const DEPTH: usize = 64;

impl Bin {
    /// The bin of `class` in a cache of `limit` bytes.
    fn new(class: usize, limit: usize) -> Self {
        let size = classes::size(class);
        let depth = if limit < size {
            0
        } else {
            (limit / 2 / size).clamp(1, DEPTH)
        };
        Self {
            blocks: Vec::new(),
            size,
            depth,
        }
    }
}

/// A block of `class`, counted; `None` if memory is short. Scalars in, a scalar out: what callers make of it need not
/// go through memory.
pub(super) fn take(inner: &Inner, class: usize, tag: Tag, bytes: usize) -> Option<Address> {
    let work = |cache: &mut Cache| {
        let bin = &mut cache.bins[class];
        let block = match bin.blocks.pop() {
            Some(block) => {
                cache.held -= bin.size;
                block
            }
            None => cache.refill(inner, class).ok()?,
        };
        cache.counters.take(tag, bytes, &inner.peak);
        Some(block)
    };
    // SAFETY: a reference is valid.
    match unsafe { with_cache(inner, work) } {
        Some(block) => block,
        None => take_without_cache(inner, class, tag, bytes),
    }
}

/// [`take`] for a thread that is ending.
#[cold]
fn take_without_cache(inner: &Inner, class: usize, tag: Tag, bytes: usize) -> Option<Address> {
    let block = inner
        .central
        .take(class, 0, &mut Vec::new(), &inner.regions);
    let block = block.ok()?;
    inner.take_shared(tag, bytes);
    Some(block)
}

/// Counts a large block taken.
pub(super) fn count_large(inner: &Inner, tag: Tag, bytes: usize) {
    let work = |cache: &mut Cache| {
        cache.counters.miss();
        cache.counters.take(tag, bytes, &inner.peak);
        inner.peak.flush(&cache.counters);
    };
    // SAFETY: a reference is valid.
    if unsafe { with_cache(inner, work) }.is_none() {
        inner.take_shared(tag, bytes);
    }
}

/// Takes a block back (a large one, which has no class, is back already) and counts it.
///
/// # Safety
/// `inner` must be valid until the block is counted, and `address` one that [`take`] of the same pool gave for the
/// class, nobody's any more.
pub(super) unsafe fn free(
    inner: *const Inner,
    class: Option<u8>,
    address: Address,
    tag: Tag,
    bytes: usize,
) {
    let work = |cache: &mut Cache| {
        // SAFETY: valid, for the block is not counted yet.
        let pool = unsafe { &*inner };
        match class {
            Some(class) => {
                cache.put(pool, usize::from(class), address);
                cache.counters.before_free(bytes, &pool.peak);
            }
            None => {
                cache.counters.before_free(bytes, &pool.peak);
                pool.peak.flush(&cache.counters);
            }
        }
        // From here on the pool may be gone.
        cache.counters.free(tag, bytes);
        cache.counters.signal()
    };
    // SAFETY: valid when `work` begins, as the caller promises.
    match unsafe { with_cache(inner, work) } {
        Some(0) => {}
        Some(signal) => obey(signal),
        // SAFETY: as the caller promises; nothing was counted or put.
        None => unsafe { free_without_cache(inner, class, address, tag, bytes) },
    }
}

/// [`free`] for a thread that is ending.
///
/// # Safety
/// As for [`free`].
#[cold]
unsafe fn free_without_cache(
    inner: *const Inner,
    class: Option<u8>,
    address: Address,
    tag: Tag,
    bytes: usize,
) {
    let closed = {
        // SAFETY: valid, for the block is not counted yet.
        let pool = unsafe { &*inner };
        if let Some(class) = class {
            pool.central
                .put(usize::from(class), std::iter::once(address));
        }
        pool.peak.add(-(bytes as i64));
        pool.is_closed()
    };
    // SAFETY: part of the pool, which is valid until the block is counted.
    unsafe { Counters::free_shared(&raw const (*inner).shared, tag, bytes) };
    if closed {
        sweep_orphans();
    }
}

/// Does what other threads have asked this one for.
#[cold]
pub(super) fn obey(signal: u8) {
    if signal & FLUSH != 0 {
        flush(None);
    }
    if signal & CLOSED != 0 {
        // The caches of closed pools go, and then the pools that nobody has blocks of.
        let closed = LOCAL.try_with(|local| {
            let mut local = local.try_borrow_mut().ok()?;
            local.last = 0;
            let closed = local
                .caches
                .extract_if(.., |cache| cache.counters.signal() & CLOSED != 0);
            Some(closed.collect::<Vec<_>>())
        });
        drop(closed);
        sweep_orphans();
    }
}

/// Gives the blocks that this thread keeps (of one pool, or of all that ask) to the shared lists.
pub(super) fn flush(only: Option<&Inner>) {
    // A thread that is ending has given its blocks back.
    let _ = LOCAL.try_with(|local| {
        let Ok(mut local) = local.try_borrow_mut() else {
            return;
        };
        for cache in &mut local.caches {
            match only {
                Some(inner) if inner.id == cache.pool_id => cache.flush(inner),
                Some(_) => {}
                None if cache.counters.signal() & FLUSH == 0 => {}
                None => {
                    if let Some(pool) = cache.pool.upgrade() {
                        cache.flush(&pool);
                    }
                }
            }
        }
    });
}

/// Runs `work` on this thread's cache of the pool; `None` if the thread is ending.
///
/// # Safety
/// `inner` must be valid until `work` begins.
#[inline]
unsafe fn with_cache<R>(inner: *const Inner, work: impl FnOnce(&mut Cache) -> R) -> Option<R> {
    LOCAL
        .try_with(|local| {
            let mut local = local.try_borrow_mut().ok()?;
            let local = &mut *local;
            // SAFETY: valid, as the caller promises.
            let id = unsafe { (*inner).id };
            let is_last = |cache: &Cache| cache.pool_id == id;
            if !local.caches.get(local.last).is_some_and(is_last) {
                // SAFETY: as above.
                local.last = local.find(unsafe { &*inner });
            }
            let cache = local.caches.get_mut(local.last)?;
            Some(work(cache))
        })
        .ok()
        .flatten()
}

impl Local {
    /// The index of the pool's cache, made if there is none.
    #[cold]
    fn find(&mut self, inner: &Inner) -> usize {
        let found = self.caches.iter().position(|c| c.pool_id == inner.id);
        found.unwrap_or_else(|| {
            // Pools come and go; the caches of those that went are forgotten.
            self.caches.retain(|cache| cache.pool.strong_count() > 0);
            self.caches.push(Cache {
                pool_id: inner.id,
                pool: inner.me.clone(),
                counters: inner.register(),
                bins: Box::new(std::array::from_fn(|class| {
                    Bin::new(class, inner.options.thread_cache)
                })),
                held: 0,
                limit: inner.options.thread_cache,
            });
            self.caches.len() - 1
        })
    }
}

impl Cache {
    /// A block from the shared lists, and a few more for later.
    #[cold]
    fn refill(&mut self, inner: &Inner, class: usize) -> Result<Address, Shortage> {
        if self.counters.signal() & FLUSH != 0 {
            self.flush(inner);
        }
        let bin = &mut self.bins[class];
        let room = self.limit.saturating_sub(self.held) / bin.size;
        let more = (bin.depth / 2).min(room);
        let mut block = inner
            .central
            .take(class, more, &mut bin.blocks, &inner.regions);
        self.held += bin.blocks.len() * bin.size;
        if block.is_err() {
            self.flush(inner);
            inner.relieve();
            block = inner
                .central
                .take(class, 0, &mut Vec::new(), &inner.regions);
        }
        self.counters.miss();
        block
    }

    #[inline]
    fn put(&mut self, inner: &Inner, class: usize, block: Address) {
        let bin = &mut self.bins[class];
        if self.held + bin.size > self.limit || bin.blocks.len() >= bin.depth {
            return self.put_after_spilling(inner, class, block);
        }
        self.held += bin.size;
        bin.blocks.push(block);
    }

    /// Makes room for a block of `class`: half of its bin goes to the shared lists, or everything if the other bins
    /// are what fills the cache.
    #[cold]
    fn put_after_spilling(&mut self, inner: &Inner, class: usize, block: Address) {
        let bin = &mut self.bins[class];
        if bin.blocks.is_empty() {
            self.flush(inner);
        } else {
            // The oldest half: what was freed last is still in the processor's caches.
            let half = bin.blocks.len().div_ceil(2);
            inner.central.put(class, bin.blocks.drain(..half));
            self.held -= half * bin.size;
        }
        let bin = &mut self.bins[class];
        if self.held + bin.size > self.limit || bin.depth == 0 {
            inner.central.put(class, std::iter::once(block));
        } else {
            self.held += bin.size;
            bin.blocks.push(block);
        }
        inner.tidy();
    }

    fn flush(&mut self, inner: &Inner) {
        self.counters.clear(FLUSH);
        if self.held == 0 {
            return;
        }
        for (class, bin) in self.bins.iter_mut().enumerate() {
            if !bin.blocks.is_empty() {
                inner.central.put(class, bin.blocks.drain(..));
            }
        }
        self.held = 0;
    }
}

impl Drop for Cache {
    /// The thread ends, or the pool is closed.
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            self.flush(&pool);
            pool.retire(&self.counters);
        }
        sweep_orphans();
    }
}
