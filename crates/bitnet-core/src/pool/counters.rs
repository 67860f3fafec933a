//! Counts kept by each thread for itself, so that threads do not wait for each other's cache lines.
//!
//! A count is written by one thread and read by whoever asks for statistics. What happened is the sum over threads.

use super::Tag;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};

/// What one thread did to one pool.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Counters {
    tags: [TagCounters; Tag::ALL.len()],
    /// Small blocks that the thread's own cache did not have, and large blocks.
    misses: AtomicU64,
    /// Bytes taken less bytes freed since the last [`flush`](Peak::flush).
    net: AtomicI64,
    /// The highest that `net` has been since then.
    high: AtomicI64,
    /// Others' wishes: see [`FLUSH`] and [`CLOSED`].
    signal: AtomicU8,
}

/// Another thread wants this thread's cached blocks back in the shared lists.
pub(super) const FLUSH: u8 = 1;
/// The last handle to the pool is gone.
pub(super) const CLOSED: u8 = 2;

#[derive(Debug, Default)]
struct TagCounters {
    taken: AtomicU64,
    taken_bytes: AtomicU64,
    freed: AtomicU64,
    freed_bytes: AtomicU64,
}

/// The sums for one tag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TagTotals {
    pub(super) taken: u64,
    pub(super) taken_bytes: u64,
    pub(super) freed: u64,
    pub(super) freed_bytes: u64,
}

/// Adds to a count that only this thread writes. Released, so that who sees a block's end counted has also
/// its beginning.
#[inline]
fn bump(count: &AtomicU64, by: u64) {
    count.store(
        count.load(Ordering::Relaxed).wrapping_add(by),
        Ordering::Release,
    );
}

impl Counters {
    /// Counts a block taken, by the thread that owns these counters. Whether its balance wants [`Peak::flush`] now.
    #[inline]
    #[must_use]
    pub(super) fn take(&self, tag: Tag, bytes: usize) -> bool {
        let counts = &self.tags[tag.index()];
        bump(&counts.taken, 1);
        bump(&counts.taken_bytes, bytes as u64);
        let net = self.net.load(Ordering::Relaxed) + bytes as i64;
        self.net.store(net, Ordering::Relaxed);
        if net > self.high.load(Ordering::Relaxed) {
            self.high.store(net, Ordering::Relaxed);
        }
        net > QUANTUM
    }

    /// What must happen before [`free`](Self::free), while the pool surely lives. Whether the balance wants
    /// [`Peak::flush`] now, which is the last moment.
    #[inline]
    #[must_use]
    pub(super) fn before_free(&self, bytes: usize) -> bool {
        let net = self.net.load(Ordering::Relaxed) - bytes as i64;
        self.net.store(net, Ordering::Relaxed);
        net < -QUANTUM
    }

    /// Counts a block freed, by the thread that owns these counters. When the last block is freed, the pool may be
    /// gone at once.
    #[inline]
    pub(super) fn free(&self, tag: Tag, bytes: usize) {
        let counts = &self.tags[tag.index()];
        bump(&counts.freed_bytes, bytes as u64);
        bump(&counts.freed, 1);
    }

    pub(super) fn miss(&self) {
        bump(&self.misses, 1);
    }

    /// Counts a block taken on counters that threads share.
    pub(super) fn take_shared(&self, tag: Tag, bytes: usize) {
        let counts = &self.tags[tag.index()];
        counts.taken.fetch_add(1, Ordering::Release);
        counts
            .taken_bytes
            .fetch_add(bytes as u64, Ordering::Release);
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a block freed on counters that threads share. A pointer, for the pool may be gone before this returns.
    ///
    /// # Safety
    /// `counters` must be valid until the block is counted.
    pub(super) unsafe fn free_shared(counters: *const Self, tag: Tag, bytes: usize) {
        // SAFETY: valid, as the caller promises.
        let counts = unsafe { &raw const (*counters).tags[tag.index()] };
        // SAFETY: as above; the count of blocks, which decides whether the pool lives on, is raised last.
        unsafe {
            (*counts)
                .freed_bytes
                .fetch_add(bytes as u64, Ordering::Release);
            (*counts).freed.fetch_add(1, Ordering::Release);
        }
    }

    /// Adds the counts of a thread that is ending to counters that threads share.
    pub(super) fn absorb(&self, other: &Self) {
        for (mine, other) in self.tags.iter().zip(&other.tags) {
            let pairs = [
                (&mine.taken, &other.taken),
                (&mine.taken_bytes, &other.taken_bytes),
                (&mine.freed_bytes, &other.freed_bytes),
                (&mine.freed, &other.freed),
            ];
            for (mine, other) in pairs {
                mine.fetch_add(other.load(Ordering::Relaxed), Ordering::Release);
            }
        }
        self.misses
            .fetch_add(other.misses.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    pub(super) fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    pub(super) fn signal(&self) -> u8 {
        self.signal.load(Ordering::Relaxed)
    }

    pub(super) fn raise(&self, signal: u8) {
        self.signal.fetch_or(signal, Ordering::Release);
    }

    pub(super) fn clear(&self, signal: u8) {
        self.signal.fetch_and(!signal, Ordering::Acquire);
    }
}

/// The sums of all counters by tag. What was freed is read before what was taken: a block whose end is counted has
/// its beginning counted too, and `freed == taken` means that no block was alive when reading began.
pub(super) fn totals<'a>(
    all: impl Iterator<Item = &'a Counters> + Clone,
) -> [TagTotals; Tag::ALL.len()] {
    let mut totals = freed(all.clone());
    for counters in all {
        for (total, counts) in totals.iter_mut().zip(&counters.tags) {
            total.taken += counts.taken.load(Ordering::Acquire);
            total.taken_bytes += counts.taken_bytes.load(Ordering::Acquire);
        }
    }
    totals
}

/// The sums of what was freed.
fn freed<'a>(all: impl Iterator<Item = &'a Counters>) -> [TagTotals; Tag::ALL.len()] {
    let mut totals = [TagTotals::default(); Tag::ALL.len()];
    for counters in all {
        for (total, counts) in totals.iter_mut().zip(&counters.tags) {
            total.freed += counts.freed.load(Ordering::Acquire);
            total.freed_bytes += counts.freed_bytes.load(Ordering::Acquire);
        }
    }
    totals
}

/// How many readings [`quiet_totals`] chooses from.
const READINGS: usize = 8;

/// The [`totals`] of the one of a few readings during which fewest blocks were freed. At most so many blocks seem to be
/// in use that are not.
pub(super) fn quiet_totals<'a>(
    all: impl Iterator<Item = &'a Counters> + Clone,
) -> [TagTotals; Tag::ALL.len()] {
    let mut best = (u64::MAX, [TagTotals::default(); Tag::ALL.len()]);
    for _ in 0..READINGS {
        let totals = totals(all.clone());
        let passed: u64 = freed(all.clone())
            .iter()
            .zip(&totals)
            .map(|(after, before)| after.freed.saturating_sub(before.freed))
            .sum();
        if passed < best.0 {
            best = (passed, totals);
        }
        if passed == 0 {
            break;
        }
    }
    best.1
}

/// How far a thread's own balance may drift before it is added to the common one.
const QUANTUM: i64 = 1 << 20;

/// The most bytes in use at once.
///
/// Exact while one thread takes and frees. Each further thread's balance is known to within 1 MiB.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Peak {
    balance: AtomicI64,
    highest: AtomicI64,
}

impl Peak {
    /// Adds a thread's balance to the common one, by that thread.
    #[cold]
    pub(super) fn flush(&self, counters: &Counters) {
        let net = counters.net.load(Ordering::Relaxed);
        let high = counters.high.load(Ordering::Relaxed);
        counters.net.store(0, Ordering::Relaxed);
        counters.high.store(0, Ordering::Relaxed);
        let before = self.balance.fetch_add(net, Ordering::Relaxed);
        self.highest.fetch_max(before + high, Ordering::Relaxed);
    }

    /// Adds a balance that belongs to no thread.
    pub(super) fn add(&self, net: i64) {
        let before = self.balance.fetch_add(net, Ordering::Relaxed);
        self.highest
            .fetch_max(before + net.max(0), Ordering::Relaxed);
    }

    /// The peak so far, what the threads have yet to add included.
    pub(super) fn highest<'a>(&self, all: impl Iterator<Item = &'a Counters> + Clone) -> usize {
        let balance = self.balance.load(Ordering::Relaxed);
        let nets: i64 = all
            .clone()
            .map(|counters| counters.net.load(Ordering::Relaxed))
            .sum();
        let now = all
            .map(|counters| {
                let (net, high) = (&counters.net, &counters.high);
                balance + nets - net.load(Ordering::Relaxed) + high.load(Ordering::Relaxed)
            })
            .max();
        let highest = self.highest.load(Ordering::Relaxed);
        usize::try_from(now.unwrap_or(balance).max(highest)).unwrap_or(0)
    }
}
