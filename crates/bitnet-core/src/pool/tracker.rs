//! Counts of operations that used data where they lie, rewrote them there, or copied them.
//!
//! An operation is the hand-over of data that exist to their next user: a matrix from the file to the backend or from
//! the backend to a kernel, keys and values to attention, a tensor to its view. Each pool has one [`ZeroCopyTracker`], which
//! counts those of its users.
//!
//! Whatever moves bytes unchanged, or the same numbers in another type, is a copy: values appended to the KV cache, a
//! cache that grows, rows of the embedding decoded to f32, gains decoded at loading, a matrix repacked. What computes
//! numbers that there were not before, and writes each of them once to where they belong, hands nothing over and is not
//! counted: products, norms, rounding to int8 with a scale of its own, keys rotated on their way to the cache.

use super::stats::Size;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// What an operation did to the bytes of its operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Movement {
    /// The result is the same memory.
    ZeroCopy,
    /// The result took the operand's memory over; the bytes were rewritten there.
    InPlace,
    /// The result is new memory.
    Copy,
}

/// Counts operations by what they did to their operands' bytes. Never blocks.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ZeroCopyTracker {
    counts: [Count; 3],
}

#[derive(Debug, Default)]
struct Count {
    operations: AtomicU64,
    bytes: AtomicU64,
}

impl ZeroCopyTracker {
    /// Counts an operation whose result has `bytes` bytes.
    pub fn record(&self, movement: Movement, bytes: usize) {
        let count = &self.counts[movement as usize];
        count.operations.fetch_add(1, Ordering::Relaxed);
        count.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The counts so far.
    pub fn stats(&self) -> ZeroCopyStats {
        let [shared, in_place, copied] = &self.counts;
        let read = |count: &Count| MovementStats {
            operations: count.operations.load(Ordering::Relaxed),
            bytes: count.bytes.load(Ordering::Relaxed),
        };
        ZeroCopyStats {
            zero_copy: read(shared),
            in_place: read(in_place),
            copied: read(copied),
        }
    }
}

/// Operations of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MovementStats {
    /// How many.
    pub operations: u64,
    /// Bytes of their results.
    pub bytes: u64,
}

/// A tracker's counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ZeroCopyStats {
    /// Those whose result is the operand's memory.
    pub zero_copy: MovementStats,
    /// Those that rewrote the operand's memory.
    pub in_place: MovementStats,
    /// Those that wrote new memory.
    pub copied: MovementStats,
}

impl ZeroCopyStats {
    /// All operations.
    pub fn operations(&self) -> u64 {
        self.zero_copy.operations + self.in_place.operations + self.copied.operations
    }

    /// The share of operations that copied nothing, 0 to 1; 1 if there were none.
    pub fn share_of_operations(&self) -> f64 {
        share(self.zero_copy.operations, self.operations())
    }

    /// The share of bytes that were not moved, 0 to 1; 1 if there were none.
    pub fn share_of_bytes(&self) -> f64 {
        let all = self.zero_copy.bytes + self.in_place.bytes + self.copied.bytes;
        share(self.zero_copy.bytes, all)
    }

    /// Bytes written, in place or anew.
    pub fn bytes_moved(&self) -> u64 {
        self.in_place.bytes + self.copied.bytes
    }
}

fn share(part: u64, all: u64) -> f64 {
    if all == 0 {
        1.0
    } else {
        part as f64 / all as f64
    }
}

impl fmt::Display for ZeroCopyStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("shared", self.zero_copy),
            ("in place", self.in_place),
            ("copied", self.copied),
        ];
        writeln!(f, "{:<12}{:>11}{:>10}", "data", "operations", "bytes")?;
        for (name, row) in rows {
            let bytes = Size(row.bytes);
            writeln!(f, "{name:<12}{:>11}{bytes:>10}", row.operations)?;
        }
        write!(
            f,
            "zero-copy share: {:.1} % of operations, {:.1} % of bytes",
            100.0 * self.share_of_operations(),
            100.0 * self.share_of_bytes()
        )
    }
}
