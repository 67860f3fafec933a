//! Each thread's own free blocks: taking one from here and putting it back meets no other thread.

use super::Tag;
use super::classes;
use super::counters::{CLOSED, Counters, FLUSH};
use super::inner::{Inner, sweep_orphans};
use super::regions::Shortage;
use super::source::Address;
use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

thread_local! {
    static LOCAL: RefCell<Local> = const { RefCell::new(Local { caches: Vec::new() }) };
    /// The cache used last, and which pool's it is. Without a destructor, so that looking is one load; whoever removes
    /// caches forgets it first.
    static LAST: Cell<Option<(u64, NonNull<Cache>)>> = const { Cell::new(None) };
}

/// The caches of one thread, one for each pool it has used.
struct Local {
    caches: Vec<Owned>,
}

/// A cache at an address that [`LAST`] may name.
struct Owned(NonNull<Cache>);

struct Cache {
    pool_id: u64,
    pool: Weak<Inner>,
    counters: Arc<Counters>,
    bins: [Bin; classes::COUNT],
    /// Bytes of the blocks in the bins.
    held: usize,
    /// The most bytes the bins may hold.
    limit: usize,
}

/// Free blocks of one size.
struct Bin {
    /// With room for `depth` once there was one.
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

/// The cache used last, if it is the pool's of this id.
///
/// # Safety
/// Nothing else may borrow a cache of this thread while the result lives: who holds it calls nothing that looks for a
/// cache.
#[inline(always)]
unsafe fn last<'a>(pool_id: u64) -> Option<&'a mut Cache> {
    match LAST.get() {
        // SAFETY: `LAST` names a cache that is alive, and this thread's; nothing else borrows it, as the caller promises.
        Some((id, mut cache)) if id == pool_id => Some(unsafe { cache.as_mut() }),
        _ => None,
    }
}

/// A block of `class`, counted; `None` if memory is short. Scalars in, a scalar out: what callers make of it need not
/// go through memory. What is rare leaves by a call at the very end, so that the rest saves no registers.
pub(super) fn take(inner: &Inner, class: usize, tag: Tag, bytes: usize) -> Option<Address> {
    // SAFETY: the borrow ends before anything is called.
    if let Some(cache) = unsafe { last(inner.id) } {
        let bin = &mut cache.bins[class];
        if let Some(block) = bin.blocks.pop() {
            cache.held -= bin.size;
            return if cache.counters.take(tag, bytes) {
                flush_peak(inner, &cache.counters, block)
            } else {
                Some(block)
            };
        }
    }
    take_beyond(inner, class, tag, bytes)
}

#[cold]
fn flush_peak(inner: &Inner, counters: &Counters, block: Address) -> Option<Address> {
    inner.peak.flush(counters);
    Some(block)
}

/// [`take`] where the cache used last has no block, or is another pool's.
#[cold]
fn take_beyond(inner: &Inner, class: usize, tag: Tag, bytes: usize) -> Option<Address> {
    let work = |cache: &mut Cache| {
        let block = match cache.pop(class) {
            Some(block) => block,
            None => cache.refill(inner, class).ok()?,
        };
        cache.count(inner, tag, bytes);
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
        cache.count(inner, tag, bytes);
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
    // SAFETY: `inner` is valid, for the block is not counted yet; the borrow ends before anything is called.
    if let (Some(class), Some(cache)) = (class, unsafe { last((*inner).id) }) {
        let bin = &mut cache.bins[usize::from(class)];
        let held = cache.held + bin.size;
        if held <= cache.limit && bin.blocks.len() < bin.blocks.capacity() {
            bin.blocks.push(address);
            cache.held = held;
            return if cache.counters.before_free(bytes) {
                // SAFETY: as the caller promises; the block is back.
                unsafe { free_and_flush_peak(inner, Arc::as_ptr(&cache.counters), tag, bytes) }
            } else {
                cache.counters.free(tag, bytes);
                // From here on the pool may be gone.
                match cache.counters.signal() {
                    0 => {}
                    signal => obey(signal),
                }
            };
        }
    }
    // SAFETY: as the caller promises; nothing was counted or put.
    unsafe { free_beyond(inner, class, address, tag, bytes) }
}

/// The end of [`free`] once this thread has freed much that others took. Pointers, for the pool and this thread's
/// cache may be gone before this returns.
///
/// # Safety
/// `inner` must be valid until the block is counted, which must be back; `counters` must be this thread's.
#[cold]
unsafe fn free_and_flush_peak(
    inner: *const Inner,
    counters: *const Counters,
    tag: Tag,
    bytes: usize,
) {
    let signal = {
        // SAFETY: the cache that owns them goes in `obey` at the earliest.
        let counters = unsafe { &*counters };
        // SAFETY: valid, for the block is not counted yet.
        unsafe { &*inner }.peak.flush(counters);
        counters.free(tag, bytes);
        counters.signal()
    };
    obey(signal);
}

/// [`free`] where the cache used last has no room, or is another pool's.
///
/// # Safety
/// As for [`free`].
#[cold]
unsafe fn free_beyond(
    inner: *const Inner,
    class: Option<u8>,
    address: Address,
    tag: Tag,
    bytes: usize,
) {
    let work = |cache: &mut Cache| {
        // SAFETY: valid, for the block is not counted yet.
        let pool = unsafe { &*inner };
        if let Some(class) = class {
            cache.put(pool, usize::from(class), address);
        }
        if cache.counters.before_free(bytes) || class.is_none() {
            pool.peak.flush(&cache.counters);
        }
        // From here on the pool may be gone.
        cache.counters.free(tag, bytes);
        cache.counters.signal()
    };
    // SAFETY: valid when `work` begins, as the caller promises.
    match unsafe { with_cache(inner, work) } {
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
    {
        // SAFETY: valid, for the block is not counted yet.
        let pool = unsafe { &*inner };
        if let Some(class) = class {
            pool.central
                .put(usize::from(class), std::iter::once(address));
        }
        pool.peak.add(-(bytes as i64));
    }
    // SAFETY: part of the pool, which is valid until the block is counted.
    unsafe { Counters::free_shared(&raw const (*inner).shared, tag, bytes) };
    // It may have been the last one of a closed pool.
    sweep_orphans();
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
            LAST.set(None);
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
unsafe fn with_cache<R>(inner: *const Inner, work: impl FnOnce(&mut Cache) -> R) -> Option<R> {
    let worked = LOCAL.try_with(|local| {
        let mut local = local.try_borrow_mut().ok()?;
        let is_late = local.misses_a_close();
        // SAFETY: valid, as the caller promises.
        let cache = local.find(unsafe { &*inner });
        LAST.set(Some((cache.pool_id, cache.0)));
        Some((work(cache), is_late))
    });
    let (result, is_late) = worked.ok().flatten()?;
    if is_late {
        obey(CLOSED);
    }
    Some(result)
}

impl Local {
    /// Whether a pool that this thread has a cache of was closed and the thread has not heard. Of one that frees a block
    /// and one that closes its pool at the same time, each may look before the other's word comes. A fence in [`free`]
    /// would settle it, at the price of all else there.
    fn misses_a_close(&self) -> bool {
        let mut caches = self.caches.iter();
        caches.any(|cache| cache.counters.signal() & CLOSED != 0)
    }

    /// The pool's cache, made if there is none.
    fn find(&mut self, inner: &Inner) -> &mut Owned {
        let found = self.caches.iter().position(|c| c.pool_id == inner.id);
        let index = found.unwrap_or_else(|| {
            // Pools come and go; the caches of those that went are forgotten.
            LAST.set(None);
            self.caches.retain(|cache| cache.pool.strong_count() > 0);
            self.caches.push(Owned::new(Cache::new(inner)));
            self.caches.len() - 1
        });
        &mut self.caches[index]
    }
}

impl Drop for Local {
    /// The thread ends.
    fn drop(&mut self) {
        LAST.set(None);
    }
}

impl Owned {
    fn new(cache: Cache) -> Self {
        Self(NonNull::from(Box::leak(Box::new(cache))))
    }
}

impl Deref for Owned {
    type Target = Cache;

    fn deref(&self) -> &Cache {
        // SAFETY: made from a box that only `drop` takes back; `last` is the only other way to the cache, and its
        // result does not live while others look.
        unsafe { self.0.as_ref() }
    }
}

impl DerefMut for Owned {
    fn deref_mut(&mut self) -> &mut Cache {
        // SAFETY: as for `deref`, and `&mut self` keeps other borrows away.
        unsafe { self.0.as_mut() }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: `new` made it from a box, and `LAST` has been made to forget it.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

impl Cache {
    fn new(inner: &Inner) -> Self {
        let limit = inner.options.thread_cache;
        Self {
            pool_id: inner.id,
            pool: inner.me.clone(),
            counters: inner.register(),
            bins: std::array::from_fn(|class| Bin::new(class, limit)),
            held: 0,
            limit,
        }
    }

    fn pop(&mut self, class: usize) -> Option<Address> {
        let bin = &mut self.bins[class];
        let block = bin.blocks.pop()?;
        self.held -= bin.size;
        Some(block)
    }

    /// Counts a block taken.
    fn count(&self, inner: &Inner, tag: Tag, bytes: usize) {
        if self.counters.take(tag, bytes) {
            inner.peak.flush(&self.counters);
        }
    }

    /// A block from the shared lists, and a few more for later.
    fn refill(&mut self, inner: &Inner, class: usize) -> Result<Address, Shortage> {
        if self.counters.signal() & FLUSH != 0 {
            self.flush(inner);
        }
        let bin = &mut self.bins[class];
        let room = self.limit.saturating_sub(self.held) / bin.size;
        let more = (bin.depth / 2).min(room);
        bin.blocks.reserve_exact(bin.depth);
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

    fn put(&mut self, inner: &Inner, class: usize, block: Address) {
        let bin = &mut self.bins[class];
        if self.held + bin.size > self.limit || bin.blocks.len() >= bin.depth {
            return self.put_after_spilling(inner, class, block);
        }
        self.held += bin.size;
        bin.blocks.reserve_exact(bin.depth - bin.blocks.len());
        bin.blocks.push(block);
    }

    /// Makes room for a block of `class`: half of its bin goes to the shared lists, or everything if the other bins
    /// are what fills the cache.
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
