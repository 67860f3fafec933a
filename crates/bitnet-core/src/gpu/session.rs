//! What one session has on the device: keys and values, its few words that change from batch to batch, room for the rows
//! of a batch, and the bind groups over all of these.
//!
//! Keys and values of a layer are one buffer, `[2][room][kv heads][dim]`, keys first; full ones are replaced by ones of
//! twice the room.

use super::device::Gpu;
use super::driver::{Bindings, Part, Pipeline};
use super::kernel::{Access, HeadsPlace};
use super::memory::{Arena, GpuBuffer};
use super::recording::{Bound, Step};
use crate::{Error, Heads, Result, Tag};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Positions that the first buffers of a layer have room for.
const FIRST: usize = 256;
/// Bind groups that are kept.
const MOST_GROUPS: usize = 8192;
/// The most buffers of a kernel.
const MOST: usize = 8;

/// The KV cache of the GPU backend.
pub struct GpuCache {
    pub(super) session: Arc<Session>,
}

impl std::fmt::Debug for GpuCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuCache").finish_non_exhaustive()
    }
}

pub(super) struct Session {
    pub(super) heads: Heads,
    pub(super) place: HeadsPlace,
    pub(super) capacity: usize,
    /// Room for rows.
    pub(super) arena: Arc<Arena>,
    /// Room for what the host writes before a batch: no kernel does.
    pub(super) inputs: Arc<Arena>,
    /// [`Step`] of the batch that runs.
    pub(super) step: Arc<GpuBuffer>,
    /// The token found likeliest.
    pub(super) chosen: Arc<GpuBuffer>,
    /// Whether batches are written down and not sent.
    pub(super) rehearses: bool,
    state: Mutex<State>,
}

type Key = (u64, [[u64; 3]; MOST]);

struct State {
    layers: Vec<Layer>,
    room: usize,
    bindings: HashMap<Key, Arc<Bindings>>,
    has_chosen: bool,
}

struct Layer {
    buffer: Option<Arc<GpuBuffer>>,
    positions: usize,
}

impl Session {
    pub(super) fn new(
        gpu: &Gpu,
        layers: usize,
        heads: Heads,
        capacity: usize,
    ) -> Result<Arc<Self>> {
        Self::with(gpu, layers, heads, capacity, false)
    }

    /// One whose batches are written down, so that their kernels are compiled, and not sent.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(super) fn rehearsal(
        gpu: &Gpu,
        layers: usize,
        heads: Heads,
        capacity: usize,
    ) -> Result<Arc<Self>> {
        Self::with(gpu, layers, heads, capacity, true)
    }

    fn with(
        gpu: &Gpu,
        layers: usize,
        heads: Heads,
        capacity: usize,
        rehearses: bool,
    ) -> Result<Arc<Self>> {
        heads.check()?;
        if heads.dim > 256 {
            return Err(Error::Unavailable {
                what: format!("attention heads of width {}", heads.dim),
                why: "the GPU's kernels take up to 256".into(),
            });
        }
        let mut list = Vec::new();
        list.resize_with(layers, || Layer {
            buffer: None,
            positions: 0,
        });
        Ok(Arc::new(Self {
            heads,
            place: HeadsPlace {
                query: heads.query as u32,
                kv: heads.kv as u32,
                dim: heads.dim as u32,
                half: gpu.half_cache,
            },
            capacity,
            rehearses,
            arena: Arc::default(),
            inputs: Arc::default(),
            step: gpu.memory.take(size_of::<Step>(), Tag::Scratch)?,
            chosen: gpu.memory.take(16, Tag::Scratch)?,
            state: Mutex::new(State {
                layers: list,
                room: 0,
                bindings: HashMap::new(),
                has_chosen: false,
            }),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of one position's keys, or values, of a layer.
    pub(super) fn position_bytes(&self) -> usize {
        let vector = if self.place.half { 8 } else { 16 };
        self.heads.kv * self.place.dim4() as usize * vector
    }

    /// Positions of the first layer.
    pub(super) fn positions(&self) -> usize {
        self.state()
            .layers
            .first()
            .map_or(0, |layer| layer.positions)
    }

    pub(super) fn truncate(&self, len: usize) {
        for layer in &mut self.state().layers {
            layer.positions = layer.positions.min(len);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let state = self.state();
        let buffers = state
            .layers
            .iter()
            .filter_map(|layer| layer.buffer.as_ref());
        buffers.map(|buffer| buffer.bytes()).sum()
    }

    /// Makes room for `positions` in every layer, and says how much there is then; `copy` is asked to copy what lies in
    /// buffers that are replaced: from, to, and the place and size of bytes in each.
    ///
    /// # Errors
    /// If the cache is full, or memory is short; the cache is then as before.
    pub(super) fn reserve(
        &self,
        gpu: &Gpu,
        positions: usize,
        mut copy: impl FnMut((&Arc<GpuBuffer>, usize), (&Arc<GpuBuffer>, usize), usize),
    ) -> Result<usize> {
        if positions > self.capacity {
            return Err(Error::Shape {
                what: "KV cache".into(),
                expected: format!("at most {} positions", self.capacity),
                found: format!("{positions} positions"),
            });
        }
        let mut state = self.state();
        if positions <= state.room {
            return Ok(state.room);
        }
        let room = positions.max(2 * state.room).max(FIRST).min(self.capacity);
        let bytes = 2 * room * self.position_bytes();
        if bytes > gpu.limits.binding {
            return Err(Error::Unavailable {
                what: format!("a KV cache of {room} positions"),
                why: format!(
                    "a layer takes {bytes} bytes, and the GPU binds at most {} at once",
                    gpu.limits.binding
                ),
            });
        }
        let mut new = Vec::with_capacity(state.layers.len());
        for _ in &state.layers {
            new.push(gpu.memory.take(bytes, Tag::KvCache)?);
        }
        let old_room = state.room;
        for (layer, new) in state.layers.iter_mut().zip(new) {
            let used = layer.positions * self.position_bytes();
            if let Some(old) = layer.buffer.replace(Arc::clone(&new))
                && used > 0
            {
                copy((&old, 0), (&new, 0), used);
                let values = |room: usize| room * self.position_bytes();
                copy((&old, values(old_room)), (&new, values(room)), used);
            }
        }
        state.room = room;
        // They hold the old buffers.
        state.bindings.clear();
        Ok(room)
    }

    /// The buffer of `layer`, which has `positions` now.
    ///
    /// # Errors
    /// If there is no such layer, or nothing in it.
    pub(super) fn layer(&self, layer: usize) -> Result<(Arc<GpuBuffer>, usize)> {
        let state = self.state();
        let found = state.layers.get(layer);
        let buffer = found.and_then(|layer| layer.buffer.clone());
        match (found, buffer) {
            (Some(layer), Some(buffer)) => Ok((buffer, layer.positions)),
            _ => Err(Error::Shape {
                what: "KV cache".into(),
                expected: "a layer of the model".into(),
                found: format!("layer {layer}"),
            }),
        }
    }

    /// Counts positions appended to `layer`.
    pub(super) fn appended(&self, layer: usize, positions: usize) {
        if let Some(layer) = self.state().layers.get_mut(layer) {
            layer.positions = positions;
        }
    }

    /// Whether a token was chosen.
    pub(super) fn has_chosen(&self) -> bool {
        self.state().has_chosen
    }

    pub(super) fn choose(&self) {
        self.state().has_chosen = true;
    }

    /// The bind group of `bound`, made when first asked for. A uniform that `bound` lacks is the session's step.
    ///
    /// # Errors
    /// If a kernel is given too few or too many.
    pub(super) fn bindings(
        &self,
        gpu: &Gpu,
        pipeline: &Pipeline,
        access: &[Access],
        bound: &[Bound<'_>],
    ) -> Result<Arc<Bindings>> {
        let mut key: Key = (pipeline.id, [[u64::MAX; 3]; MOST]);
        for (key, bound) in key.1.iter_mut().zip(bound) {
            *key = bound.key();
        }
        let mut state = self.state();
        if let Some(group) = state.bindings.get(&key) {
            return Ok(Arc::clone(group));
        }
        let mut next = bound.iter().copied();
        let mut parts = Vec::with_capacity(access.len());
        for (access, binding) in access.iter().zip(0..) {
            let bound = match access {
                Access::Uniform => Some(Bound::whole(&self.step)),
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
        if state.bindings.len() >= MOST_GROUPS {
            state.bindings.clear();
        }
        let bindings = Arc::new(Bindings {
            object,
            _held: bound.iter().map(|bound| Arc::clone(bound.buffer)).collect(),
        });
        state.bindings.insert(key, Arc::clone(&bindings));
        Ok(bindings)
    }
}
