//! The state of one sequence on the device: keys and values, the token found likeliest, and scratch for its batches.
//!
//! Keys and values of a layer are one buffer, `[2][room][kv heads][dim]`, keys first; full ones are replaced by ones of
//! twice the room.

use super::REFUSED_BY;
use super::device::Gpu;
use super::kernel::HeadsPlace;
use super::memory::GpuBuffer;
use super::recording::Recording;
use super::scratch::Scratch;
use crate::{AttentionHeads, Error, MixerState, Result, SequenceState, Tag};
use std::ops::Range;
use std::sync::Arc;

/// Positions that the first buffers of a layer have room for.
const FIRST_ROOM: usize = 256;

/// The state of one sequence on the GPU.
pub struct GpuState {
    pub(super) heads: AttentionHeads,
    pub(super) place: HeadsPlace,
    capacity: usize,
    layers: Vec<Option<Arc<GpuBuffer>>>,
    room: usize,
    len: usize,
    /// The token found likeliest after the last position, once one was.
    pub(super) last_argmax: Arc<GpuBuffer>,
    has_last_argmax: bool,
    pub(super) scratch: Arc<Scratch>,
}

impl std::fmt::Debug for GpuState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuState")
            .field("len", &self.len)
            .field("room", &self.room)
            .finish_non_exhaustive()
    }
}

impl SequenceState for GpuState {
    fn len(&self) -> usize {
        self.len
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    fn bytes(&self) -> usize {
        let buffers = self.layers.iter().flatten();
        buffers.map(|buffer| buffer.bytes()).sum()
    }

    /// Forks share nothing here.
    fn bytes_for(&self, positions: Range<usize>) -> usize {
        let bytes = positions.end.saturating_mul(2 * self.position_bytes());
        bytes.saturating_mul(self.layers.len())
    }

    fn bytes_beyond(&self, _: usize) -> usize {
        self.bytes()
    }
}

impl GpuState {
    /// An empty state.
    ///
    /// # Errors
    /// If heads are misshapen, too wide or differ between layers, or memory is short.
    pub(super) fn new(
        gpu: &Gpu,
        layers: &[MixerState],
        capacity: usize,
        scratch: Arc<Scratch>,
    ) -> Result<Self> {
        let mut heads = AttentionHeads {
            query: 1,
            kv: 1,
            dim: 1,
        };
        for (index, layer) in layers.iter().enumerate() {
            let found = layer.keys_values(REFUSED_BY)?;
            found.check()?;
            if index > 0 && *found != heads {
                return Err(Error::Unavailable {
                    what: format!("{found:?} in layer {index} after {heads:?}"),
                    why: "the GPU's states have the same heads in every layer".into(),
                });
            }
            heads = *found;
        }
        if heads.dim > 256 {
            return Err(Error::Unavailable {
                what: format!("attention heads of width {}", heads.dim),
                why: "the GPU's kernels take up to 256".into(),
            });
        }
        Ok(Self {
            heads,
            place: heads_place(gpu, heads),
            capacity,
            layers: vec![None; layers.len()],
            room: 0,
            len: 0,
            last_argmax: gpu.memory.take(16, Tag::Scratch)?,
            has_last_argmax: false,
            scratch,
        })
    }

    /// Another sequence that begins with copies of the first `len` positions.
    ///
    /// # Errors
    /// If memory is short, or the device refuses the copies.
    pub(super) fn fork(&self, gpu: &Arc<Gpu>, len: usize) -> Result<Self> {
        let len = len.min(self.len);
        let scratch = Arc::new(Scratch::new(gpu, self.scratch.warms_up)?);
        let mut fork = Self {
            layers: vec![None; self.layers.len()],
            room: 0,
            len: 0,
            last_argmax: gpu.memory.take(16, Tag::Scratch)?,
            has_last_argmax: self.has_last_argmax && len == self.len,
            scratch,
            ..*self
        };
        let mut copies = Recording::new(gpu, &fork.scratch, (0, len), 0);
        fork.reserve(gpu, len, &mut copies)?;
        for (from, to) in self.layers.iter().zip(&fork.layers) {
            if let (Some(from), Some(to)) = (from, to) {
                self.copy_positions((from, self.room), (to, fork.room), len, &mut copies);
            }
        }
        copies.copy((&self.last_argmax, 0), (&fork.last_argmax, 0), 16);
        copies.submit()?;
        fork.len = len;
        Ok(fork)
    }

    /// Copies the keys and the values of the first `len` positions of a layer between buffers of different room.
    fn copy_positions(
        &self,
        (from, from_room): (&Arc<GpuBuffer>, usize),
        (to, to_room): (&Arc<GpuBuffer>, usize),
        len: usize,
        copies: &mut Recording,
    ) {
        let bytes = self.position_bytes();
        if len > 0 {
            copies.copy((from, 0), (to, 0), len * bytes);
            copies.copy(
                (from, from_room * bytes),
                (to, to_room * bytes),
                len * bytes,
            );
        }
    }

    /// Bytes of one position's keys, or values, of a layer.
    pub(super) fn position_bytes(&self) -> usize {
        let vector = if self.place.half { 8 } else { 16 };
        self.heads.kv * self.place.dim4() as usize * vector
    }

    /// Positions that every layer has room for.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// Makes room for `positions` in every layer; copies from buffers that are replaced go to `copies`.
    ///
    /// # Errors
    /// If the state is full, or memory is short; it is then as before.
    pub(super) fn reserve(
        &mut self,
        gpu: &Gpu,
        positions: usize,
        copies: &mut Recording,
    ) -> Result<()> {
        if positions > self.capacity {
            return Err(Error::Shape {
                what: "KV cache".into(),
                expected: format!("at most {} positions", self.capacity),
                found: format!("{positions} positions"),
            });
        }
        if positions <= self.room {
            return Ok(());
        }
        let room = positions
            .max(2 * self.room)
            .max(FIRST_ROOM)
            .min(self.capacity);
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
        let mut new = Vec::with_capacity(self.layers.len());
        for _ in &self.layers {
            new.push(Some(gpu.memory.take(bytes, Tag::KvCache)?));
        }
        let old = std::mem::replace(&mut self.layers, new);
        let old_room = std::mem::replace(&mut self.room, room);
        for (from, to) in old.iter().zip(&self.layers) {
            if let (Some(from), Some(to)) = (from, to) {
                self.copy_positions((from, old_room), (to, room), self.len, copies);
            }
        }
        // They hold the old buffers.
        self.scratch.bindings().clear();
        Ok(())
    }

    /// The buffer of `layer`.
    ///
    /// # Errors
    /// If there is no such layer, or no room was made in it.
    pub(super) fn layer(&self, layer: usize) -> Result<Arc<GpuBuffer>> {
        match self.layers.get(layer) {
            Some(Some(buffer)) => Ok(Arc::clone(buffer)),
            _ => Err(Error::Shape {
                what: "KV cache".into(),
                expected: "a layer of the model, with room for the batch".into(),
                found: format!("layer {layer}"),
            }),
        }
    }

    /// Counts `count` positions that were appended in every layer.
    pub(super) fn advance(&mut self, count: usize) {
        self.len += count;
    }

    /// Whether a likeliest token was found.
    pub(super) fn has_last_argmax(&self) -> bool {
        self.has_last_argmax
    }

    /// Says that a likeliest token will be in its buffer.
    pub(super) fn set_last_argmax(&mut self) {
        self.has_last_argmax = true;
    }
}

/// Heads as kernels are specialised by.
pub(super) fn heads_place(gpu: &Gpu, heads: AttentionHeads) -> HeadsPlace {
    HeadsPlace {
        query: heads.query as u32,
        kv: heads.kv as u32,
        dim: heads.dim as u32,
        half: gpu.half_cache,
    }
}
