//! A pool's state, and how long it lives: until the last handle and the last block are gone.
//!
//! Blocks do not count references, for that count would be every thread's cache line. A pool whose last handle goes
//! while blocks are out becomes an orphan; whoever frees a block of a closed pool looks whether it was the last.
//!
//! A thread that frees the last block just while another one drops the last handle may not know that the pool is closed.
//! It learns so when it next needs more than its cache of one pool gives, or ends; and orphans are looked at whenever a
//! pool is made or closed.

use super::central::Central;
use super::counters::{CLOSED, Counters, FLUSH, Peak, quiet_totals, totals};
use super::leak::{Leak, Leaks};
use super::regions::Regions;
use super::source::{Address, HostMemory, HostRegion};
use super::stats::{PoolStats, TagStats};
use super::tracker::ZeroCopyTracker;
use super::{Alignment, PoolOptions, Tag, classes, local};
use crate::Error;
use std::collections::HashMap;
use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

pub(super) struct Inner {
    /// Never used twice.
    pub(super) id: u64,
    pub(super) options: PoolOptions,
    pub(super) me: Weak<Inner>,
    /// Leak guards alive.
    pub(super) watching: AtomicUsize,
    closed: AtomicBool,
    pub(super) central: Central,
    pub(super) regions: Regions<HostMemory>,
    /// Large blocks in use, by address.
    large: Mutex<HashMap<usize, HostRegion>>,
    /// Counters of the threads that have a cache of this pool.
    registry: Mutex<Vec<Arc<Counters>>>,
    /// Counts of threads that have ended, and of what they free while ending.
    pub(super) shared: Counters,
    pub(super) peak: Peak,
    /// Bytes of idle small blocks at which unused slabs are looked for.
    trim_at: AtomicUsize,
    pub(super) leaks: Mutex<Leaks>,
    pub(super) zero_copy: ZeroCopyTracker,
}

/// Closed pools that had blocks out when last looked at.
static ORPHANS: Mutex<Vec<Arc<Inner>>> = Mutex::new(Vec::new());
/// How many [`ORPHANS`] there are.
static ORPHAN_COUNT: AtomicUsize = AtomicUsize::new(0);

/// Lets go of the closed pools whose last block is freed.
pub(super) fn sweep_orphans() {
    // Against the same fence of another thread: one of who counted the last block and who made an orphan sees both.
    fence(Ordering::SeqCst);
    if ORPHAN_COUNT.load(Ordering::Acquire) == 0 {
        return;
    }
    let mut orphans = lock(&ORPHANS);
    let dead: Vec<_> = orphans.extract_if(.., |pool| !pool.is_live()).collect();
    ORPHAN_COUNT.store(orphans.len(), Ordering::Release);
    drop(orphans);
    drop(dead);
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks leaves its data half changed when it panics.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    pub(super) fn new(mut options: PoolOptions) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        sweep_orphans();
        options.small_limit = options.small_limit.min(classes::LARGEST);
        let pressure = match options.hard_limit {
            Some(limit) => {
                (limit as f64 * f64::from(options.trim_threshold.clamp(0.0, 1.0))) as usize
            }
            None => usize::MAX,
        };
        let source = HostMemory {
            huge_pages: options.huge_pages,
        };
        Arc::new_cyclic(|me| Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            me: me.clone(),
            watching: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            central: Central::new(),
            regions: Regions::new(source, options.hard_limit, pressure, options.idle_limit),
            large: Mutex::default(),
            registry: Mutex::default(),
            shared: Counters::default(),
            peak: Peak::default(),
            trim_at: AtomicUsize::new(options.idle_limit),
            leaks: Mutex::default(),
            zero_copy: ZeroCopyTracker::default(),
            options,
        })
    }

    /// Counters for a thread that has none yet.
    pub(super) fn register(&self) -> Arc<Counters> {
        let counters = Arc::new(Counters::default());
        let mut registry = lock(&self.registry);
        if self.is_closed() {
            counters.raise(CLOSED);
        }
        registry.push(Arc::clone(&counters));
        counters
    }

    /// Keeps the counts of a thread that ends; called by that thread.
    pub(super) fn retire(&self, counters: &Arc<Counters>) {
        let mut registry = lock(&self.registry);
        self.peak.flush(counters);
        self.shared.absorb(counters);
        registry.retain(|other| !Arc::ptr_eq(other, counters));
    }

    /// The class of a block that is large or aligned to more than a line; `None` if there is no class for it.
    pub(super) fn unusual_class(&self, bytes: usize, alignment: Alignment) -> Option<usize> {
        if bytes > self.options.small_limit {
            return None;
        }
        classes::aligned(bytes, alignment.bytes())
    }

    /// Remembers where a block was taken.
    #[cold]
    pub(super) fn watch(
        &self,
        address: Address,
        tag: Tag,
        bytes: usize,
        location: &'static Location<'static>,
    ) {
        let leak = Leak {
            location,
            tag,
            bytes,
        };
        lock(&self.leaks).add(address.number(), leak);
    }

    /// A large block of `bytes`, and whether it is zeroed; `None` if memory is short.
    pub(super) fn take_large(&self, bytes: usize, tag: Tag) -> Option<(Address, bool)> {
        let taken = self.regions.take(bytes).or_else(|_| {
            local::flush(Some(self));
            self.relieve();
            self.regions.take(bytes)
        });
        let taken = taken.ok()?;
        let address = taken.region.start();
        lock(&self.large).insert(address.number(), taken.region);
        local::count_large(self, tag, bytes);
        Some((address, taken.fresh))
    }

    /// Takes a large block back, uncounted.
    pub(super) fn put_large(&self, address: Address) {
        let region = lock(&self.large).remove(&address.number());
        if let Some(region) = region {
            self.regions.put(region);
        }
    }

    /// Counts a block for a thread that has no counters any more.
    pub(super) fn take_shared(&self, tag: Tag, bytes: usize) {
        self.shared.take_shared(tag, bytes);
        self.peak.add(bytes as i64);
    }

    /// Gives everything unused to the system, as far as this thread can; the other threads are asked for theirs.
    pub(super) fn relieve(&self) -> usize {
        for counters in lock(&self.registry).iter() {
            counters.raise(FLUSH);
        }
        self.central.trim(&self.regions) + self.regions.trim()
    }

    /// Gives unused slabs to the system once much lies idle.
    pub(super) fn tidy(&self) {
        if self.central.idle() > self.trim_at.load(Ordering::Relaxed) {
            self.central.trim(&self.regions);
            // What cannot be given back must not be looked through again and again.
            let next = self.options.idle_limit.max(2 * self.central.idle());
            self.trim_at.store(next, Ordering::Relaxed);
        }
    }

    #[cold]
    pub(super) fn out_of_memory(&self, bytes: usize, tag: Tag) -> Error {
        Error::OutOfMemory {
            what: tag.name().into(),
            bytes,
            in_use: self.in_use(),
            limit: self.options.hard_limit,
        }
    }

    fn in_use(&self) -> usize {
        self.with_counters(|all| quiet_totals(all.into_iter()))
            .iter()
            .map(|tag| tag.taken_bytes.wrapping_sub(tag.freed_bytes) as usize)
            .sum()
    }

    pub(super) fn stats(&self) -> PoolStats {
        let (totals, misses, peak) = self.with_counters(|all| {
            let all = all.into_iter();
            let misses = all.clone().map(Counters::misses).sum::<u64>();
            (quiet_totals(all.clone()), misses, self.peak.highest(all))
        });
        let tags = Tag::ALL.map(|tag| {
            let total = totals[tag.index()];
            TagStats {
                tag,
                in_use: total.taken_bytes.saturating_sub(total.freed_bytes) as usize,
                blocks: total.taken.saturating_sub(total.freed) as usize,
                allocations: total.taken,
                allocated: total.taken_bytes,
            }
        });
        let allocations = tags.iter().map(|tag| tag.allocations).sum();
        let in_use = tags.iter().map(|tag| tag.in_use).sum();
        PoolStats {
            in_use,
            peak: peak.max(in_use),
            reserved: self.regions.reserved(),
            allocations,
            cache_hits: u64::saturating_sub(allocations, misses),
            tags,
        }
    }

    /// Runs `work` on all counters, none of which comes or goes meanwhile.
    fn with_counters<R>(&self, work: impl FnOnce(Vec<&Counters>) -> R) -> R {
        let registry = lock(&self.registry);
        let all = registry.iter().map(Arc::as_ref).chain([&self.shared]);
        work(all.collect())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether a block is out.
    fn is_live(&self) -> bool {
        let totals = self.with_counters(|all| totals(all.into_iter()));
        totals.iter().any(|total| total.taken != total.freed)
    }

    /// The last handle is gone.
    pub(super) fn close(self: &Arc<Self>) {
        {
            let registry = lock(&self.registry);
            self.closed.store(true, Ordering::Release);
            registry.iter().for_each(|counters| counters.raise(CLOSED));
        }
        let mut orphans = lock(&ORPHANS);
        orphans.push(Arc::clone(self));
        ORPHAN_COUNT.store(orphans.len(), Ordering::Release);
        drop(orphans);
        // This thread's cache goes, and with it, unless a block is out, the pool.
        local::obey(CLOSED);
    }
}
