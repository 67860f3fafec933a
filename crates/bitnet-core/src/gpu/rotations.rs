//! Rotations of positions: a table on the device, from position 0, made by the CPU's own arithmetic and doubled when a
//! session goes on past its end.

use super::device::Gpu;
use super::memory::GpuBuffer;
use crate::cpu;
use crate::{HybridMemoryPool, Result, Rope, RopePairs, Tag};
use std::sync::{Arc, Mutex, PoisonError};

/// Positions of the first table.
const FIRST: usize = 1024;

/// Rotations of a run of positions of a batch.
pub struct GpuRotations {
    pub(super) table: Arc<Table>,
    pub(super) first: usize,
    pub(super) count: usize,
}

impl std::fmt::Debug for GpuRotations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuRotations")
            .field("first", &self.first)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

/// cos and sin, `[positions][half]`.
pub(super) struct Table {
    rope: Rope,
    positions: usize,
    pub(super) half: usize,
    pub(super) interleaved: bool,
    pub(super) buffer: Arc<GpuBuffer>,
}

/// The tables made so far, one for a rope.
#[derive(Default)]
pub(super) struct Tables(Mutex<Vec<Arc<Table>>>);

impl Tables {
    /// The rotations of `count` positions from `first`.
    ///
    /// # Errors
    /// If memory is short.
    pub(super) fn get(
        &self,
        gpu: &Gpu,
        pool: &HybridMemoryPool,
        rope: &Rope,
        (first, count): (usize, usize),
    ) -> Result<GpuRotations> {
        let end = first.saturating_add(count);
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = tables.iter().position(|table| table.rope == *rope);
        let known = place.map(|place| Arc::clone(&tables[place]));
        let table = match known {
            Some(table) if table.positions >= end => table,
            _ => {
                let positions = end.next_power_of_two().max(FIRST);
                let made = Arc::new(Table::new(gpu, pool, rope, positions)?);
                match place {
                    Some(place) => tables[place] = Arc::clone(&made),
                    None => tables.push(Arc::clone(&made)),
                }
                made
            }
        };
        Ok(GpuRotations {
            table,
            first,
            count,
        })
    }
}

impl Table {
    fn new(gpu: &Gpu, pool: &HybridMemoryPool, rope: &Rope, positions: usize) -> Result<Self> {
        let rotations = cpu::Rotations::new(pool, rope, 0, positions)?;
        let buffer = gpu.upload(bytemuck::cast_slice(rotations.turns_of_all()), Tag::Weights)?;
        Ok(Self {
            rope: rope.clone(),
            positions,
            half: rope.dims / 2,
            interleaved: rope.pairs == RopePairs::Interleaved,
            buffer,
        })
    }
}
