//! Whole regions of one place, kept for reuse by best fit, under one account and one limit.

use super::source::BlockSource;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Reuses the regions of a [`BlockSource`]. Every large block of a pool is such a region, and every slab that small
/// blocks are cut from; buffers of other devices are too.
#[derive(Debug)]
pub struct Regions<S: BlockSource> {
    source: S,
    limit: Option<usize>,
    pressure: usize,
    idle_limit: usize,
    idle: Mutex<Idle<S::Region>>,
    reserved: AtomicUsize,
}

/// Regions that nobody uses, by size; those of one size in the order they came.
#[derive(Debug)]
struct Idle<R> {
    by_size: BTreeMap<(usize, u64), R>,
    bytes: usize,
    sequence: u64,
}

/// A region handed out.
#[derive(Debug)]
pub struct Taken<R> {
    /// The memory.
    pub region: R,
    /// Whether it comes straight from the source, never used before.
    pub fresh: bool,
}

/// Why there is no region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// The limit stands in the way.
    Limit,
    /// The place has no such memory.
    Source,
}

impl<S: BlockSource> Regions<S> {
    /// Memory of `source`, at most `limit` bytes at a time. Before more than `pressure` bytes would be held, idle
    /// regions go back to the source; of them at most `idle_limit` bytes are kept.
    pub fn new(source: S, limit: Option<usize>, pressure: usize, idle_limit: usize) -> Self {
        Self {
            source,
            limit,
            pressure,
            idle_limit,
            idle: Mutex::new(Idle {
                by_size: BTreeMap::new(),
                bytes: 0,
                sequence: 0,
            }),
            reserved: AtomicUsize::new(0),
        }
    }

    /// The place.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Bytes taken from the source and not given back, in use or idle.
    pub fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Relaxed)
    }

    /// Bytes kept for reuse.
    pub fn idle(&self) -> usize {
        self.lock().bytes
    }

    /// A region of at least `bytes`: the smallest idle one that fits and is at most a quarter too large, else a new
    /// one.
    ///
    /// # Errors
    /// [`Shortage`], after idle regions went back to the source in vain.
    pub fn take(&self, bytes: usize) -> Result<Taken<S::Region>, Shortage> {
        let granularity = self.source.granularity().max(1);
        let bytes = bytes
            .max(1)
            .checked_next_multiple_of(granularity)
            .filter(|bytes| *bytes <= isize::MAX as usize)
            .ok_or(Shortage::Source)?;
        let mut idle = self.lock();
        let fit = idle.by_size.range((bytes, 0)..).next().map(|(key, _)| *key);
        if let Some(key) = fit.filter(|(size, _)| *size <= bytes.saturating_add(bytes / 4))
            && let Some(region) = idle.by_size.remove(&key)
        {
            idle.bytes -= key.0;
            return Ok(Taken {
                region,
                fresh: false,
            });
        }
        if self.reserved().saturating_add(bytes) > self.pressure {
            self.release(&mut idle, 0);
        }
        if let Some(limit) = self.limit
            && self.reserved().saturating_add(bytes) > limit
        {
            return Err(Shortage::Limit);
        }
        let mut region = self.source.reserve(bytes);
        if region.is_none() && !idle.by_size.is_empty() {
            self.release(&mut idle, 0);
            region = self.source.reserve(bytes);
        }
        let region = region.ok_or(Shortage::Source)?;
        self.reserved
            .fetch_add(self.source.size(&region), Ordering::Relaxed);
        Ok(Taken {
            region,
            fresh: true,
        })
    }

    /// Keeps a region for reuse, and gives the largest ones back while more than the idle limit is kept.
    pub fn put(&self, region: S::Region) {
        let mut idle = self.lock();
        let size = self.source.size(&region);
        idle.sequence += 1;
        let key = (size, idle.sequence);
        idle.by_size.insert(key, region);
        idle.bytes += size;
        self.release(&mut idle, self.idle_limit);
    }

    /// Gives a region back to the source.
    pub fn give_back(&self, region: S::Region) {
        // Under the lock, so that `take` never sees room that is not there yet.
        let _idle = self.lock();
        let size = self.source.size(&region);
        drop(region);
        self.reserved.fetch_sub(size, Ordering::Relaxed);
    }

    /// Gives all idle regions back to the source; returns their bytes.
    pub fn trim(&self) -> usize {
        self.release(&mut self.lock(), 0)
    }

    fn release(&self, idle: &mut Idle<S::Region>, keep: usize) -> usize {
        let mut released = 0;
        while idle.bytes > keep
            && let Some(((size, _), region)) = idle.by_size.pop_last()
        {
            drop(region);
            idle.bytes -= size;
            released += size;
        }
        self.reserved.fetch_sub(released, Ordering::Relaxed);
        released
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Idle<S::Region>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device whose buffers are numbers: the interface needs no host memory.
    struct Device;

    impl BlockSource for Device {
        type Region = Box<usize>;
        fn place(&self) -> String {
            "device".into()
        }
        fn granularity(&self) -> usize {
            256
        }
        fn reserve(&self, bytes: usize) -> Option<Box<usize>> {
            (bytes <= 1 << 20).then(|| Box::new(bytes))
        }
        fn size(&self, region: &Box<usize>) -> usize {
            **region
        }
    }

    #[test]
    fn the_best_fit_is_reused() {
        let regions = Regions::new(Device, None, usize::MAX, usize::MAX);
        let taken: Vec<_> = [4096, 1000, 1200]
            .map(|bytes| regions.take(bytes).unwrap())
            .into();
        assert!(taken.iter().all(|t| t.fresh));
        assert_eq!(regions.reserved(), 4096 + 1024 + 1280);
        for t in taken {
            regions.put(t.region);
        }
        let again = regions.take(1025).unwrap();
        assert!(!again.fresh && *again.region == 1280);
        // Nothing that fits is small enough.
        assert!(regions.take(2000).unwrap().fresh);
        assert_eq!(regions.idle(), 4096 + 1024);
        assert_eq!(regions.trim(), 4096 + 1024);
        assert_eq!(regions.idle(), 0);
    }

    #[test]
    fn limits_release_idle_regions_first() {
        let regions = Regions::new(Device, Some(4096), 4096, usize::MAX);
        let first = regions.take(2048).unwrap();
        regions.put(first.region);
        let second = regions.take(4096).unwrap();
        assert_eq!((regions.reserved(), regions.idle()), (4096, 0));
        assert_eq!(regions.take(1).unwrap_err(), Shortage::Limit);
        regions.give_back(second.region);
        assert_eq!(regions.reserved(), 0);
        let regions = Regions::new(Device, None, usize::MAX, 1000);
        assert_eq!(regions.take(2 << 20).unwrap_err(), Shortage::Source);
        assert_eq!(regions.take(usize::MAX).unwrap_err(), Shortage::Source);
        let one = regions.take(1024).unwrap();
        regions.put(one.region);
        assert_eq!(regions.reserved(), 0, "past the idle limit");
    }
}
