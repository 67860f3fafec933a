//! Which operations used data where they lie, and which moved them.
//!
//! An operation is the hand-over of data that exist to their next user: a matrix from the file to the backend or from
//! the backend to a kernel, keys and values to attention, a tensor to its view. [`Conversion`] says beforehand what a
//! hand-over will cost, [`HostData::convert`] does it, and a [`ZeroCopyTracker`], one for each pool, counts them all.
//!
//! Whatever moves bytes unchanged, or the same numbers in another type, is a copy: values appended to the KV cache, a
//! cache that grows, rows of the embedding decoded to f32, gains decoded at loading, a matrix repacked. What computes
//! numbers that there were not before, and writes each of them once to where they belong, hands nothing over and is not
//! counted: products, norms, rounding to int8 with a scale of its own, keys rotated on their way to the cache.

mod conversion;
mod data;
mod element;
mod tracker;

pub use conversion::{Conversion, Plan, Reason, Source, Target};
pub use data::HostData;

pub use tracker::{Movement, MovementStats, ZeroCopyStats, ZeroCopyTracker};

use crate::pool::HybridMemoryPool;

/// What the default pool's operations moved.
pub fn get_zero_copy_stats() -> ZeroCopyStats {
    HybridMemoryPool::global().zero_copy().stats()
}
