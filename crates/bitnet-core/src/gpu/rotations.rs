//! Rotations of positions: a table on the device, from position 0, made by the CPU's own arithmetic and doubled when a
//! sequence goes on past its end.

use super::device::Gpu;
use super::memory::GpuBuffer;
use crate::cpu;
use crate::{HybridMemoryPool, Result, Rope, RopePairs, Tag};
use std::sync::{Arc, Mutex, PoisonError};

/// Positions of the first table.
const FIRST: usize = 1024;

/// cos and sin, `[positions][half]`.
pub(super) struct RopeTable {
    pub(super) rope: Rope,
    positions: usize,
    pub(super) half: usize,
    pub(super) interleaved: bool,
    pub(super) buffer: Arc<GpuBuffer>,
}

/// The tables made so far, one for a rope.
#[derive(Default)]
pub(super) struct Tables(Mutex<Vec<Arc<RopeTable>>>);

impl Tables {
    /// The rotations of at least the first `end` positions.
    ///
    /// # Errors
    /// If memory is short.
    pub(super) fn get(
        &self,
        gpu: &Gpu,
        pool: &HybridMemoryPool,
        rope: &Rope,
        end: usize,
    ) -> Result<Arc<RopeTable>> {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = tables.iter().position(|table| table.rope == *rope);
        let known = place.map(|place| Arc::clone(&tables[place]));
        match known {
            Some(table) if table.positions >= end => Ok(table),
            _ => {
                let positions = end.next_power_of_two().max(FIRST);
                let made = Arc::new(RopeTable::new(gpu, pool, rope, positions)?);
                match place {
                    Some(place) => tables[place] = Arc::clone(&made),
                    None => tables.push(Arc::clone(&made)),
                }
                Ok(made)
            }
        }
    }
}

impl RopeTable {
    fn new(gpu: &Gpu, pool: &HybridMemoryPool, rope: &Rope, positions: usize) -> Result<Self> {
        let rotations = cpu::Rotations::new(pool, rope, positions, |position| position)?;
        let buffer = gpu.upload(bytemuck::cast_slice(rotations.table()), Tag::Weights)?;
        Ok(Self {
            rope: rope.clone(),
            positions,
            half: rope.dims / 2,
            interleaved: rope.pairs == RopePairs::Interleaved,
            buffer,
        })
    }
}
