//! Small blocks that no thread holds, by size, and the slabs they are cut from.

use super::classes;
use super::regions::{Regions, Shortage};
use super::source::{Address, HostMemory, HostRegion};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One list for each size.
#[derive(Debug)]
pub(super) struct Central {
    classes: [Mutex<Class>; classes::COUNT],
    /// Bytes of the blocks in the lists.
    idle: AtomicUsize,
}

#[derive(Debug, Default)]
struct Class {
    /// Blocks that nobody uses; the last freed is the first to go.
    free: Vec<Address>,
    slabs: Vec<HostRegion>,
}

impl Central {
    pub(super) fn new() -> Self {
        Self {
            classes: std::array::from_fn(|_| Mutex::default()),
            idle: AtomicUsize::new(0),
        }
    }

    /// One block of `class`, and up to `more` others into `into`.
    pub(super) fn take(
        &self,
        class: usize,
        more: usize,
        into: &mut Vec<Address>,
        regions: &Regions<HostMemory>,
    ) -> Result<Address, Shortage> {
        let size = classes::size(class);
        let mut list = self.lock(class);
        loop {
            if let Some(block) = list.free.pop() {
                let more = more.min(list.free.len());
                let rest = list.free.len() - more;
                into.extend(list.free.drain(rest..));
                self.idle.fetch_sub((1 + more) * size, Ordering::Relaxed);
                return Ok(block);
            }
            let slab = regions.take(classes::slab(class))?.region;
            // The first block of a slab is the first to go.
            let blocks = slab.blocks(size);
            list.free.extend(blocks.rev());
            self.idle
                .fetch_add(list.free.len() * size, Ordering::Relaxed);
            list.slabs.push(slab);
        }
    }

    /// Takes blocks of `class` back.
    pub(super) fn put(&self, class: usize, blocks: impl ExactSizeIterator<Item = Address>) {
        let bytes = blocks.len() * classes::size(class);
        self.lock(class).free.extend(blocks);
        self.idle.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes of the blocks in the lists.
    pub(super) fn idle(&self) -> usize {
        self.idle.load(Ordering::Relaxed)
    }

    /// Gives slabs that nobody uses a block of back to the system; returns their bytes.
    pub(super) fn trim(&self, regions: &Regions<HostMemory>) -> usize {
        let mut released = 0;
        for class in 0..classes::COUNT {
            let size = classes::size(class);
            let mut list = self.lock(class);
            let blocks = list.free.len();
            released += list.trim(size, regions);
            self.idle
                .fetch_sub((blocks - list.free.len()) * size, Ordering::Relaxed);
        }
        released
    }

    fn lock(&self, class: usize) -> MutexGuard<'_, Class> {
        self.classes[class]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Class {
    fn trim(&mut self, size: usize, regions: &Regions<HostMemory>) -> usize {
        if self.free.is_empty() {
            return 0;
        }
        self.slabs
            .sort_unstable_by_key(|slab| slab.start().number());
        let starts: Vec<usize> = self.slabs.iter().map(|s| s.start().number()).collect();
        let slab_of =
            |block: &Address| starts.partition_point(|&start| start <= block.number()) - 1;
        let mut free = vec![0; starts.len()];
        self.free.iter().for_each(|block| free[slab_of(block)] += 1);
        let unused: Vec<bool> = self
            .slabs
            .iter()
            .zip(&free)
            .map(|(slab, &free)| free == slab.len() / size)
            .collect();
        self.free.retain(|block| !unused[slab_of(block)]);
        let mut released = 0;
        for index in (0..unused.len()).rev().filter(|&index| unused[index]) {
            let slab = self.slabs.swap_remove(index);
            released += slab.len();
            regions.give_back(slab);
        }
        released
    }
}
