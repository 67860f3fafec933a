//! Which operations used data where they lie, and which moved them.
//!
//! An operation is the hand-over of data to their next user: a matrix from the file to the backend or from the backend to a
//! kernel, keys and values to attention, a tensor to its view. [`Conversion`] says beforehand what a hand-over will
//! cost, [`HostData::convert`] does it, and a [`ZeroCopyTracker`], one for each pool, counts them all.

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
