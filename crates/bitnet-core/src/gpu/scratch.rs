//! Memory of batches, which use the same buffers one after the other, and the bind groups over it.

use super::device::Gpu;
use super::driver::{Bindings, Part, Pipeline};
use super::kernel::Access;
use super::memory::{Arena, GpuBuffer, Slot};
use crate::{Error, Result, Tag};
use bytemuck::{Pod, Zeroable};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bind groups that are kept.
const MAX_BIND_GROUPS: usize = 8192;
/// The most buffers of a kernel.
const MAX_BUFFERS: usize = 8;

/// Numbers that change from batch to batch: `step.wgsl`.
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct BatchUniform {
    pub(super) count: u32,
    pub(super) pieces: u32,
    pub(super) second: u32,
    pub(super) third: u32,
}

/// A part of a buffer that a kernel sees.
#[derive(Clone, Copy)]
pub(super) struct Bound<'a> {
    pub(super) buffer: &'a Arc<GpuBuffer>,
    /// A multiple of 256.
    pub(super) at: usize,
    pub(super) bytes: usize,
}

impl<'a> Bound<'a> {
    /// All of a buffer.
    pub(super) fn whole(buffer: &'a Arc<GpuBuffer>) -> Self {
        Self {
            buffer,
            at: 0,
            bytes: buffer.bytes(),
        }
    }

    /// The first `bytes` of a slot, which may be larger.
    pub(super) fn slot(slot: &'a Slot, bytes: usize) -> Self {
        Self {
            buffer: slot.buffer(),
            at: 0,
            bytes,
        }
    }

    /// The key under which bind groups are kept.
    pub(super) fn key(&self) -> [u64; 3] {
        [self.buffer.id(), self.at as u64, self.bytes as u64]
    }
}

type Key = (u64, [[u64; 3]; MAX_BUFFERS]);

/// Room for the rows of one batch at a time, and the bind groups over it.
pub(super) struct Scratch {
    /// Room for rows.
    pub(super) arena: Arc<Arena>,
    /// Room for what the host writes before a batch: no kernel does.
    pub(super) inputs: Arc<Arena>,
    /// [`BatchUniform`] of the batch that runs.
    pub(super) uniform: Arc<GpuBuffer>,
    /// Whether batches are recorded, so that their kernels are compiled, and not submitted.
    pub(super) warms_up: bool,
    bindings: Mutex<HashMap<Key, Arc<Bindings>>>,
}

impl Scratch {
    /// # Errors
    /// If memory is short.
    pub(super) fn new(gpu: &Gpu, warms_up: bool) -> Result<Self> {
        Ok(Self {
            arena: Arc::default(),
            inputs: Arc::default(),
            uniform: gpu.memory.take(size_of::<BatchUniform>(), Tag::Scratch)?,
            warms_up,
            bindings: Mutex::default(),
        })
    }

    pub(super) fn bindings(&self) -> MutexGuard<'_, HashMap<Key, Arc<Bindings>>> {
        self.bindings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bind group of `bound`, made when it is first needed. A uniform that `bound` lacks is the batch's.
    ///
    /// # Errors
    /// If a kernel is given too few or too many.
    pub(super) fn bind(
        &self,
        gpu: &Gpu,
        pipeline: &Pipeline,
        access: &[Access],
        bound: &[Bound<'_>],
    ) -> Result<Arc<Bindings>> {
        let mut key: Key = (pipeline.id, [[u64::MAX; 3]; MAX_BUFFERS]);
        for (key, bound) in key.1.iter_mut().zip(bound) {
            *key = bound.key();
        }
        let mut known = self.bindings();
        if let Some(group) = known.get(&key) {
            return Ok(Arc::clone(group));
        }
        let mut next = bound.iter().copied();
        let mut parts = Vec::with_capacity(access.len());
        for (access, binding) in access.iter().zip(0..) {
            let bound = match access {
                Access::Uniform => Some(Bound::whole(&self.uniform)),
                Access::Read | Access::Write => next.next(),
            };
            let bound = bound.ok_or_else(|| Error::Shape {
                what: format!("buffers for the kernel {}", pipeline.kernel.name()),
                expected: "one for each binding".into(),
                found: format!("none for binding {binding}"),
            })?;
            parts.push(Part {
                buffer: bound.buffer.raw()?,
                at: bound.at,
                bytes: bound.bytes.next_multiple_of(16),
            });
        }
        let object = gpu.driver.bind(pipeline, &parts)?;
        // Batches of ever other sizes leave theirs behind.
        if known.len() >= MAX_BIND_GROUPS {
            known.clear();
        }
        let bindings = Arc::new(Bindings {
            object,
            _held: bound.iter().map(|bound| Arc::clone(bound.buffer)).collect(),
        });
        known.insert(key, Arc::clone(&bindings));
        Ok(bindings)
    }
}
