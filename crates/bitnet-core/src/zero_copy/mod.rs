//! Which operations shared data and which moved it.

mod tracker;

pub use tracker::{Movement, MovementStats, ZeroCopyStats, ZeroCopyTracker};

use crate::pool::HybridMemoryPool;

/// What the default pool's operations moved.
pub fn get_zero_copy_stats() -> ZeroCopyStats {
    HybridMemoryPool::global().zero_copy().stats()
}
