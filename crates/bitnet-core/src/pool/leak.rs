//! Which blocks outlive a stretch of the program, and where they were taken.

use super::inner::lock;
use super::stats::Size;
use super::{HybridMemoryPool, Tag};
use std::collections::HashMap;
use std::fmt;
use std::panic::Location;
use std::sync::atomic::Ordering;

/// Live blocks taken while a guard was alive.
#[derive(Debug, Default)]
pub(super) struct Leaks {
    /// By address.
    blocks: HashMap<usize, (u64, Leak)>,
    sequence: u64,
}

/// A block that is still in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leak {
    /// Where it was taken.
    pub location: &'static Location<'static>,
    /// What for.
    pub tag: Tag,
    /// Its size.
    pub bytes: usize,
}

impl Leaks {
    pub(super) fn add(&mut self, address: usize, leak: Leak) {
        self.sequence += 1;
        self.blocks.insert(address, (self.sequence, leak));
    }

    pub(super) fn remove(&mut self, address: usize) {
        self.blocks.remove(&address);
    }
}

/// Watches the blocks that a pool hands out while it lives. Without a guard nothing is recorded.
///
/// Ends with [`finish`](Self::finish); a guard that is dropped instead logs a warning if blocks are still in use.
#[derive(Debug)]
pub struct LeakGuard {
    pool: HybridMemoryPool,
    /// Blocks with a higher number are this guard's.
    begin: u64,
    finished: bool,
}

/// The blocks taken under a guard that were still in use when it ended, the first taken first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeakReport {
    /// The blocks.
    pub leaks: Vec<Leak>,
}

impl LeakGuard {
    pub(super) fn new(pool: HybridMemoryPool) -> Self {
        let begin = {
            let leaks = lock(&pool.inner().leaks);
            pool.inner().watching.fetch_add(1, Ordering::SeqCst);
            leaks.sequence
        };
        Self {
            pool,
            begin,
            finished: false,
        }
    }

    /// The blocks still in use now.
    pub fn report(&self) -> LeakReport {
        let leaks = lock(&self.pool.inner().leaks);
        let mut blocks: Vec<_> = leaks
            .blocks
            .values()
            .filter(|(number, _)| *number > self.begin)
            .collect();
        blocks.sort_unstable_by_key(|(number, _)| *number);
        LeakReport {
            leaks: blocks.into_iter().map(|(_, leak)| *leak).collect(),
        }
    }

    /// Ends the watch.
    pub fn finish(mut self) -> LeakReport {
        self.end()
    }

    fn end(&mut self) -> LeakReport {
        let report = self.report();
        self.finished = true;
        let inner = self.pool.inner();
        let mut leaks = lock(&inner.leaks);
        if inner.watching.fetch_sub(1, Ordering::SeqCst) == 1 {
            leaks.blocks.clear();
        }
        report
    }
}

impl Drop for LeakGuard {
    fn drop(&mut self) {
        if !self.finished {
            let report = self.end();
            if !report.leaks.is_empty() {
                tracing::warn!("{report}");
            }
        }
    }
}

impl LeakReport {
    /// Whether every block was freed.
    pub fn is_empty(&self) -> bool {
        self.leaks.is_empty()
    }

    /// Bytes still in use.
    pub fn bytes(&self) -> usize {
        self.leaks.iter().map(|leak| leak.bytes).sum()
    }
}

impl fmt::Display for LeakReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return write!(f, "no blocks outstanding");
        }
        write!(
            f,
            "{} blocks outstanding, {}",
            self.leaks.len(),
            Size(self.bytes() as u64)
        )?;
        for leak in &self.leaks {
            let size = Size(leak.bytes as u64);
            write!(f, "\n{size:>10}  {:<12}{}", leak.tag, leak.location)?;
        }
        Ok(())
    }
}
