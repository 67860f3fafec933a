//! What a model's memory and data did, as tables for people and as JSON.

use bitnet::{Model, MovementStats};
use serde::Serialize;

/// The tables of `--stats`.
pub(super) fn tables(model: &Model) -> String {
    let mut tables = format!("{}\n\n{}", model.pool_stats(), model.zero_copy_stats());
    if let Some(head) = model.head_stats() {
        tables += &format!(
            "\n\nscreened head: {:.1} of {} logits computed for each of {} positions",
            head.logits_per_position(),
            head.rows,
            head.positions,
        );
    }
    tables
}

/// The same for programs.
#[derive(Serialize)]
pub(super) struct Memory {
    in_use_bytes: usize,
    peak_bytes: usize,
    reserved_bytes: usize,
    allocations: u64,
    cache_hit_rate: f64,
    tags: Vec<Tag>,
    zero_copy: ZeroCopy,
    #[serde(skip_serializing_if = "Option::is_none")]
    screened_head: Option<ScreenedHead>,
}

#[derive(Serialize)]
struct ScreenedHead {
    positions: u64,
    rows: u64,
    logits_per_position: f64,
}

#[derive(Serialize)]
struct Tag {
    tag: &'static str,
    in_use_bytes: usize,
    blocks: usize,
    allocations: u64,
    allocated_bytes: u64,
}

#[derive(Serialize)]
struct ZeroCopy {
    shared: Movement,
    in_place: Movement,
    copied: Movement,
    share_of_operations: f64,
    share_of_bytes: f64,
}

#[derive(Serialize)]
struct Movement {
    operations: u64,
    bytes: u64,
}

impl From<MovementStats> for Movement {
    fn from(stats: MovementStats) -> Self {
        Self {
            operations: stats.operations,
            bytes: stats.bytes,
        }
    }
}

impl Memory {
    pub(super) fn of(model: &Model) -> Self {
        let (pool, data) = (model.pool_stats(), model.zero_copy_stats());
        Self {
            in_use_bytes: pool.in_use,
            peak_bytes: pool.peak,
            reserved_bytes: pool.reserved,
            allocations: pool.allocations,
            cache_hit_rate: pool.hit_rate(),
            tags: pool
                .tags
                .iter()
                .map(|tag| Tag {
                    tag: tag.tag.name(),
                    in_use_bytes: tag.in_use,
                    blocks: tag.blocks,
                    allocations: tag.allocations,
                    allocated_bytes: tag.allocated,
                })
                .collect(),
            zero_copy: ZeroCopy {
                shared: data.zero_copy.into(),
                in_place: data.in_place.into(),
                copied: data.copied.into(),
                share_of_operations: data.share_of_operations(),
                share_of_bytes: data.share_of_bytes(),
            },
            screened_head: model.head_stats().map(|head| ScreenedHead {
                positions: head.positions,
                rows: head.rows,
                logits_per_position: head.logits_per_position(),
            }),
        }
    }
}
