//! The state of one sequence on the device: keys and values in [blocks](super::blocks), and the token found likeliest.

use super::REFUSED_BY;
use super::blocks::{BLOCK, Block, BlockShape, Slab};
use super::device::Gpu;
use super::kernel::HeadsPlace;
use super::recording::Recording;
use super::sequences::{LikeliestPlace, Sequences};
use crate::{AttentionHeads, Error, MixerState, Result, SequenceState};
use std::ops::Range;
use std::sync::Arc;

/// The state of one sequence on the GPU.
pub struct GpuState {
    pub(super) heads: AttentionHeads,
    pub(super) place: HeadsPlace,
    pub(super) shape: BlockShape,
    capacity: usize,
    len: usize,
    /// Blocks of its positions, all in one slab, and some behind them if a batch was given up.
    pub(super) blocks: Vec<Arc<Block>>,
    /// Where the token found likeliest after the last position is, once one was.
    pub(super) likeliest: LikeliestPlace,
    has_last_argmax: bool,
}

impl std::fmt::Debug for GpuState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuState")
            .field("len", &self.len)
            .field("blocks", &self.blocks.len())
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
        self.blocks.truncate(self.len.div_ceil(BLOCK));
    }

    fn bytes(&self) -> usize {
        self.blocks.len() * self.shape.bytes * self.shape.layers
    }

    fn bytes_for(&self, positions: Range<usize>) -> usize {
        let blocks = positions.end.div_ceil(BLOCK);
        let own = blocks.saturating_sub(positions.start / BLOCK);
        own.saturating_mul(self.shape.bytes * self.shape.layers)
    }

    fn bytes_beyond(&self, positions: usize) -> usize {
        let beyond = self.blocks.len().saturating_sub(positions / BLOCK);
        beyond * self.shape.bytes * self.shape.layers
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
        sequences: &Arc<Sequences>,
    ) -> Result<Self> {
        gpu.failures.check()?;
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
        let place = heads_place(gpu, heads);
        Ok(Self {
            heads,
            place,
            shape: BlockShape {
                layers: layers.len(),
                bytes: 2 * BLOCK * position_bytes(place),
            },
            capacity,
            len: 0,
            blocks: Vec::new(),
            likeliest: sequences.place()?,
            has_last_argmax: false,
        })
    }

    /// Another sequence that begins with the first `len` positions, whose blocks it shares.
    ///
    /// # Errors
    /// If there are too many sequences, or the device refuses a copy.
    pub(super) fn fork(&self, gpu: &Arc<Gpu>, len: usize) -> Result<Self> {
        let len = len.min(self.len);
        let sequences = self.sequences();
        let shared = self.blocks.iter().take(len.div_ceil(BLOCK));
        let fork = Self {
            len,
            blocks: shared.cloned().collect(),
            likeliest: sequences.place()?,
            has_last_argmax: self.has_last_argmax && len == self.len,
            ..*self
        };
        if fork.has_last_argmax {
            let mut copies = Recording::new(gpu, &sequences.scratch, 0);
            // No buffer is copied to itself.
            let between = copies.slot(4)?;
            let at = |state: &Self| 4 * state.likeliest.index as usize;
            copies.copy((&sequences.likeliest, at(self)), (between.buffer(), 0), 4);
            copies.copy((between.buffer(), 0), (&sequences.likeliest, at(&fork)), 4);
            copies.submit()?;
        }
        Ok(fork)
    }

    /// The state that it shares with other sequences.
    pub(super) fn sequences(&self) -> &Arc<Sequences> {
        &self.likeliest.sequences
    }

    /// The slab that its blocks are in, if it has any.
    pub(super) fn slab(&self) -> Option<&Arc<Slab>> {
        self.blocks.first().map(|block| &block.slab)
    }

    /// Bytes of one position's keys, or values, of a layer.
    pub(super) fn position_bytes(&self) -> usize {
        position_bytes(self.place)
    }

    /// Positions that there is room for.
    pub(super) fn room(&self) -> usize {
        self.blocks.len() * BLOCK
    }

    /// Refuses more positions than it can hold.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub(super) fn check_capacity(&self, positions: usize) -> Result<()> {
        if positions <= self.capacity {
            return Ok(());
        }
        Err(Error::Shape {
            what: "KV cache".into(),
            expected: format!("at most {} positions", self.capacity),
            found: format!("{positions} positions"),
        })
    }

    /// Counts `count` positions that were appended in every layer.
    pub(super) fn advance(&mut self, count: usize) {
        self.len += count;
    }

    /// Whether a likeliest token was found.
    pub(super) fn has_last_argmax(&self) -> bool {
        self.has_last_argmax
    }

    /// Says that a likeliest token will be in its place.
    pub(super) fn set_last_argmax(&mut self) {
        self.has_last_argmax = true;
    }
}

/// Bytes of one position's keys, or values, of a layer.
fn position_bytes(place: HeadsPlace) -> usize {
    let vector = if place.half { 8 } else { 16 };
    place.kv as usize * place.dim4() as usize * vector
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
