//! Buffers on a device: regions of a [`BlockSource`] like the host's memory, reused by best fit, under an account of
//! their own.

use super::driver::{Driver, RawBuffer};
use super::failure::Failures;
use crate::pool::{BlockSource, PoolStats, Regions, Shortage, Tag, TagStats};
use crate::{Error, Result};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of freed buffers kept for reuse.
const IDLE_LIMIT: usize = 64 << 20;
/// Buffers are multiples of this, as every binding offset is.
const GRANULARITY: usize = 256;

/// The memory of a device.
pub(super) struct GpuSource {
    driver: Arc<dyn Driver>,
    failures: Arc<Failures>,
    name: String,
    largest: usize,
}

impl BlockSource for GpuSource {
    type Region = RawBuffer;

    fn place(&self) -> String {
        self.name.clone()
    }

    fn granularity(&self) -> usize {
        GRANULARITY
    }

    fn reserve(&self, bytes: usize) -> Option<RawBuffer> {
        if bytes > self.largest {
            return None;
        }
        self.driver.reserve(bytes)
    }

    fn size(&self, region: &RawBuffer) -> usize {
        region.bytes
    }
}

/// Hands out buffers and counts them.
pub(super) struct GpuMemory {
    regions: Regions<GpuSource>,
    limit: Option<usize>,
    tags: [Account; Tag::ALL.len()],
    in_use: AtomicUsize,
    peak: AtomicUsize,
    hits: AtomicU64,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct Account {
    in_use: AtomicUsize,
    blocks: AtomicUsize,
    allocations: AtomicU64,
    allocated: AtomicU64,
}

/// A buffer of a device, given back when dropped.
pub(super) struct GpuBuffer {
    memory: Arc<GpuMemory>,
    /// Taken out when dropped.
    buffer: Option<RawBuffer>,
    /// Never used twice.
    id: u64,
    bytes: usize,
    /// What it is counted as; nothing if its memory is another's.
    tag: Option<Tag>,
}

impl GpuMemory {
    pub(super) fn new(
        driver: &Arc<dyn Driver>,
        failures: &Arc<Failures>,
        name: &str,
        largest: usize,
        limit: Option<usize>,
    ) -> Arc<Self> {
        let source = GpuSource {
            driver: Arc::clone(driver),
            failures: Arc::clone(failures),
            name: name.into(),
            largest,
        };
        Arc::new(Self {
            regions: Regions::new(source, limit, limit.unwrap_or(usize::MAX), IDLE_LIMIT),
            limit,
            tags: Default::default(),
            in_use: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            hits: AtomicU64::new(0),
            next: AtomicU64::new(0),
        })
    }

    /// A buffer of `bytes` of any value, for any use but mapping.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] past the limit, or if the device has no such buffer; [`Error::DeviceLost`].
    pub(super) fn take(self: &Arc<Self>, bytes: usize, tag: Tag) -> Result<Arc<GpuBuffer>> {
        self.regions.source().failures.check()?;
        let taken = self.regions.take(bytes).map_err(|shortage| {
            let place = self.regions.source().place();
            let place = match shortage {
                Shortage::Limit => format!("{tag} on {place}"),
                Shortage::Source => format!("{tag} on {place}, which has no such buffer"),
            };
            Error::OutOfMemory {
                what: place,
                bytes,
                in_use: self.in_use.load(Ordering::Relaxed),
                limit: self.limit,
            }
        })?;
        if !taken.fresh {
            self.hits.fetch_add(1, Ordering::Relaxed);
        }
        let account = &self.tags[index(tag)];
        account.in_use.fetch_add(bytes, Ordering::Relaxed);
        account.blocks.fetch_add(1, Ordering::Relaxed);
        account.allocations.fetch_add(1, Ordering::Relaxed);
        account.allocated.fetch_add(bytes as u64, Ordering::Relaxed);
        let in_use = self.in_use.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(in_use, Ordering::Relaxed);
        Ok(Arc::new(GpuBuffer {
            memory: Arc::clone(self),
            buffer: Some(taken.region),
            id: self.next.fetch_add(1, Ordering::Relaxed),
            bytes,
            tag: Some(tag),
        }))
    }

    /// Memory that lies elsewhere, and is not counted.
    pub(super) fn lent(self: &Arc<Self>, buffer: RawBuffer) -> Arc<GpuBuffer> {
        Arc::new(GpuBuffer {
            memory: Arc::clone(self),
            bytes: buffer.bytes,
            buffer: Some(buffer),
            id: self.next.fetch_add(1, Ordering::Relaxed),
            tag: None,
        })
    }

    /// The account, as a pool's of host memory.
    pub(super) fn stats(&self) -> PoolStats {
        let tags = Tag::ALL.map(|tag| {
            let account = &self.tags[index(tag)];
            TagStats {
                tag,
                in_use: account.in_use.load(Ordering::Relaxed),
                blocks: account.blocks.load(Ordering::Relaxed),
                allocations: account.allocations.load(Ordering::Relaxed),
                allocated: account.allocated.load(Ordering::Relaxed),
            }
        });
        PoolStats {
            in_use: self.in_use.load(Ordering::Relaxed),
            peak: self.peak.load(Ordering::Relaxed),
            reserved: self.regions.reserved(),
            allocations: tags.iter().map(|tag| tag.allocations).sum(),
            cache_hits: self.hits.load(Ordering::Relaxed),
            tags,
        }
    }
}

fn index(tag: Tag) -> usize {
    Tag::ALL.iter().position(|other| *other == tag).unwrap_or(0)
}

impl GpuBuffer {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What the driver made.
    ///
    /// # Errors
    /// None before it is dropped.
    pub(super) fn raw(&self) -> Result<&RawBuffer> {
        self.buffer.as_ref().ok_or_else(|| Error::Refused {
            why: "the buffer was given back".into(),
        })
    }
}

impl Drop for GpuBuffer {
    fn drop(&mut self) {
        let Some(tag) = self.tag else {
            return;
        };
        let account = &self.memory.tags[index(tag)];
        account.in_use.fetch_sub(self.bytes, Ordering::Relaxed);
        account.blocks.fetch_sub(1, Ordering::Relaxed);
        self.memory.in_use.fetch_sub(self.bytes, Ordering::Relaxed);
        if let Some(buffer) = self.buffer.take() {
            self.memory.regions.put(buffer);
        }
    }
}

/// Buffers of one size-independent kind for the rows of one session, which use the same ones batch after batch.
#[derive(Default)]
pub(super) struct Arena {
    free: Mutex<Vec<Arc<GpuBuffer>>>,
}

/// A buffer of an arena, free again when dropped.
pub(super) struct Slot {
    arena: Arc<Arena>,
    buffer: Arc<GpuBuffer>,
}

impl Arena {
    /// A buffer of at least `bytes`: the first one made of those that are free and not more than twice too large.
    ///
    /// # Errors
    /// As [`GpuMemory::take`].
    pub(super) fn take(
        self: &Arc<Self>,
        bytes: usize,
        memory: &Arc<GpuMemory>,
    ) -> Result<Arc<Slot>> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |buffer: &GpuBuffer| (bytes..=2 * bytes.max(4096)).contains(&buffer.bytes());
        let place = (0..free.len())
            .filter(|place| fits(&free[*place]))
            .min_by_key(|place| free[*place].id());
        let buffer = match place {
            Some(place) => free.swap_remove(place),
            None => {
                let step = (bytes.next_power_of_two() / 4).max(1024);
                memory.take(bytes.next_multiple_of(step), Tag::Activation)?
            }
        };
        Ok(Arc::new(Slot {
            arena: Arc::clone(self),
            buffer,
        }))
    }
}

impl Slot {
    pub(super) fn buffer(&self) -> &Arc<GpuBuffer> {
        &self.buffer
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut free = self
            .arena
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        free.push(Arc::clone(&self.buffer));
    }
}
