//! What a pool has done, for people.

use super::Tag;
use std::fmt;

/// A pool's account. Exact while no other thread takes or frees, the peak as [documented](Self::peak).
///
/// Other threads go on while their counts are read. A block that is in use all the while is counted; one that comes and
/// goes meanwhile may be, so that more can seem to be in use than ever were at once. Of a few readings the one counts
/// during which fewest blocks were freed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolStats {
    /// Bytes asked for and not freed yet.
    pub in_use: usize,
    /// The most bytes in use at once: exact if one thread took and freed them, else within 1 MiB for each further
    /// thread.
    pub peak: usize,
    /// Bytes held from the system, in use or kept for reuse.
    pub reserved: usize,
    /// Blocks handed out since the pool began.
    pub allocations: u64,
    /// Those of them that came from the thread's own cache.
    pub cache_hits: u64,
    /// The same by purpose, in the order of [`Tag::ALL`].
    pub tags: [TagStats; Tag::ALL.len()],
}

/// The account of one purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TagStats {
    /// The purpose.
    pub tag: Tag,
    /// Bytes asked for and not freed yet.
    pub in_use: usize,
    /// Blocks not freed yet.
    pub blocks: usize,
    /// Blocks handed out.
    pub allocations: u64,
    /// Bytes handed out.
    pub allocated: u64,
}

impl PoolStats {
    /// The share of allocations that the thread's own cache served, 0 to 1; 1 if there were none.
    pub fn hit_rate(&self) -> f64 {
        if self.allocations == 0 {
            1.0
        } else {
            self.cache_hits as f64 / self.allocations as f64
        }
    }

    /// Blocks not freed yet.
    pub fn blocks(&self) -> usize {
        self.tags.iter().map(|tag| tag.blocks).sum()
    }

    /// The account of `tag`.
    pub fn tag(&self, tag: Tag) -> &TagStats {
        &self.tags[tag.index()]
    }
}

/// `1.18 GB`, in decimal units.
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        let mut units = ["B", "kB", "MB", "GB", "TB", "PB"].into_iter();
        let mut unit = units.next().unwrap_or_default();
        for larger in units {
            if value < 999.5 {
                break;
            }
            value /= 1000.0;
            unit = larger;
        }
        let digits = match value {
            _ if unit == "B" => 0,
            value if value < 9.995 => 2,
            value if value < 99.95 => 1,
            _ => 0,
        };
        f.pad(&format!("{value:.digits$} {unit}"))
    }
}

impl fmt::Display for PoolStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<12}{:>10}{:>9}{:>13}{:>11}",
            "memory", "in use", "blocks", "allocations", "allocated"
        )?;
        for tag in self.tags.iter().filter(|tag| tag.allocations > 0) {
            writeln!(
                f,
                "{:<12}{:>10}{:>9}{:>13}{:>11}",
                tag.tag,
                Size(tag.in_use as u64),
                tag.blocks,
                tag.allocations,
                Size(tag.allocated)
            )?;
        }
        writeln!(
            f,
            "{:<12}{:>10}{:>9}{:>13}{:>11}",
            "all",
            Size(self.in_use as u64),
            self.blocks(),
            self.allocations,
            Size(self.tags.iter().map(|tag| tag.allocated).sum())
        )?;
        write!(
            f,
            "peak {}, {} held from the system, {:.1} % of allocations from thread caches",
            Size(self.peak as u64),
            Size(self.reserved as u64),
            100.0 * self.hit_rate()
        )
    }
}
