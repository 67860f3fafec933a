//! Memory for keys and values of all sequences, in blocks of [`BLOCK`] positions.
//!
//! Blocks lie in *slabs*, one buffer for each layer, because a kernel sees one buffer of keys and values at a time. All blocks of
//! a sequence, and of the sequences of a batch, are in one slab: those that are not are moved when the batch begins, and where
//! no slab has room a new one is made, with more than they need. A block is counted: forks share it, and the first write to a
//! shared one copies it. A slab is given back with its last block.
//!
//! A block that is given back may be written by another sequence at once: batches run in the order in which they were submitted.

use super::device::Gpu;
use super::memory::GpuBuffer;
use super::recording::Recording;
use super::sequences::Sequences;
use super::state::GpuState;
use crate::{Error, Result, SequenceState, Tag};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Positions of a block.
pub(super) const BLOCK: usize = 64;
/// Blocks of the first slab, if they fit a binding.
const FIRST: usize = 4;

/// The layers and bytes of a model's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockShape {
    pub(super) layers: usize,
    /// Bytes of a block in one layer: keys, then values.
    pub(super) bytes: usize,
}

/// Room for some blocks.
pub(super) struct Slab {
    shape: BlockShape,
    layers: Vec<Arc<GpuBuffer>>,
    blocks: usize,
    /// Numbers of the free blocks, the next one last.
    free: Mutex<Vec<u32>>,
}

/// A block of positions in every layer, free again when dropped.
pub(super) struct Block {
    pub(super) slab: Arc<Slab>,
    pub(super) index: u32,
}

impl Drop for Block {
    fn drop(&mut self) {
        self.slab.free().push(self.index);
    }
}

impl Slab {
    fn new(gpu: &Gpu, shape: BlockShape, blocks: usize) -> Result<Arc<Self>> {
        let layers = (0..shape.layers).map(|_| gpu.memory.take(blocks * shape.bytes, Tag::KvCache));
        Ok(Arc::new(Self {
            shape,
            layers: layers.collect::<Result<_>>()?,
            blocks,
            free: Mutex::new((0..blocks as u32).rev().collect()),
        }))
    }

    fn free(&self) -> MutexGuard<'_, Vec<u32>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>) -> Option<Arc<Block>> {
        let index = self.free().pop()?;
        Some(Arc::new(Block {
            slab: Arc::clone(self),
            index,
        }))
    }

    /// The buffer of `layer`.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is no such layer.
    pub(super) fn layer(&self, layer: usize) -> Result<&Arc<GpuBuffer>> {
        self.layers.get(layer).ok_or_else(|| Error::Shape {
            what: "KV cache".into(),
            expected: format!("a layer below {}", self.layers.len()),
            found: format!("layer {layer}"),
        })
    }
}

/// A sequence that will have so many positions.
pub(super) struct Growing<'a> {
    pub(super) state: &'a mut GpuState,
    pub(super) positions: usize,
}

impl Growing<'_> {
    fn blocks(&self) -> usize {
        self.positions.div_ceil(BLOCK)
    }

    fn is_in(&self, slab: &Arc<Slab>) -> bool {
        self.state.slab().is_none_or(|own| Arc::ptr_eq(own, slab))
    }

    /// The number of the block that the next position is written to, if others have it too.
    fn shared(&self) -> Option<usize> {
        let next = self.state.len() / BLOCK;
        let block = self.state.blocks.get(next)?;
        (Arc::strong_count(block) > 1).then_some(next)
    }

    /// Blocks that it will take from `slab`.
    fn wants(&self, slab: &Arc<Slab>) -> usize {
        if self.is_in(slab) {
            let more = self.blocks().saturating_sub(self.state.blocks.len());
            more + usize::from(self.shared().is_some())
        } else {
            self.blocks()
        }
    }

    /// Blocks that are copied if it goes to `slab`.
    fn moves(&self, slab: &Arc<Slab>) -> usize {
        if self.is_in(slab) {
            0
        } else {
            self.state.len().div_ceil(BLOCK)
        }
    }
}

/// The slabs there are.
#[derive(Default)]
pub(super) struct Slabs(Mutex<Vec<Weak<Slab>>>);

impl Slabs {
    /// Makes room for the sequences of a batch, all in one slab. What they have is copied there at once, so that a batch which is
    /// given up leaves nothing empty.
    ///
    /// # Errors
    /// If a sequence is full, all of them are more than the device binds at once, or memory is short; nothing has changed then.
    pub(super) fn make_room(
        &self,
        gpu: &Arc<Gpu>,
        sequences: &Sequences,
        growing: &mut [Growing<'_>],
    ) -> Result<()> {
        for one in growing.iter() {
            one.state.check_capacity(one.positions)?;
        }
        let Some(shape) = growing.first().map(|one| one.state.shape) else {
            return Ok(());
        };
        let mut slabs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slab = choose(gpu, &mut slabs, shape, growing)?;
        let mut copies = Recording::new(gpu, &sequences.scratch, 0);
        // Blocks that are left, until what they held is on its way.
        let mut left: Vec<Arc<Block>> = Vec::new();
        let mut moves: Vec<(Arc<Block>, Arc<Block>)> = Vec::new();
        for one in growing.iter_mut() {
            let take = || slab.take().ok_or_else(|| taken(&slab));
            if !one.is_in(&slab) {
                let own = std::mem::take(&mut one.state.blocks);
                for block in own.iter().take(one.state.len().div_ceil(BLOCK)) {
                    let new = take()?;
                    moves.push((Arc::clone(block), Arc::clone(&new)));
                    one.state.blocks.push(new);
                }
                left.extend(own);
            } else if let Some(shared) = one.shared() {
                let new = take()?;
                let old = std::mem::replace(&mut one.state.blocks[shared], new);
                if one.state.len() % BLOCK > 0 {
                    moves.push((Arc::clone(&old), Arc::clone(&one.state.blocks[shared])));
                }
                left.push(old);
            }
            while one.state.blocks.len() < one.blocks() {
                one.state.blocks.push(take()?);
            }
        }
        if moves.is_empty() {
            return Ok(());
        }
        copy(&mut copies, shape, &moves)?;
        copies.submit()?;
        Ok(())
    }
}

fn taken(slab: &Slab) -> Error {
    Error::OutOfMemory {
        what: "blocks of keys and values that were free".into(),
        bytes: slab.shape.bytes,
        in_use: slab.blocks * slab.shape.bytes,
        limit: None,
    }
}

/// The slab that the fewest blocks have to move to, or a new one.
fn choose(
    gpu: &Gpu,
    slabs: &mut Vec<Weak<Slab>>,
    shape: BlockShape,
    growing: &[Growing<'_>],
) -> Result<Arc<Slab>> {
    slabs.retain(|slab| slab.strong_count() > 0);
    let found: Vec<Arc<Slab>> = slabs.iter().filter_map(Weak::upgrade).collect();
    let found: Vec<Arc<Slab>> = found.into_iter().filter(|s| s.shape == shape).collect();
    let fits = |slab: &&Arc<Slab>| {
        let wanted: usize = growing.iter().map(|one| one.wants(slab)).sum();
        wanted <= slab.free().len()
    };
    let moves = |slab: &Arc<Slab>| -> usize { growing.iter().map(|one| one.moves(slab)).sum() };
    // The largest of several: it will last the longest.
    let best = found
        .iter()
        .filter(fits)
        .min_by_key(|slab| (moves(slab), usize::MAX - slab.blocks));
    if let Some(slab) = best {
        return Ok(Arc::clone(slab));
    }
    let wanted: usize = growing.iter().map(Growing::blocks).sum();
    let most = gpu.limits.binding / shape.bytes.max(1);
    if wanted > most {
        return Err(Error::Unavailable {
            what: format!("a KV cache of {} positions", wanted * BLOCK),
            why: format!(
                "a layer takes {} bytes, and the GPU binds at most {} at once",
                wanted * shape.bytes,
                gpu.limits.binding
            ),
        });
    }
    // Half as much again, so that growing sequences seldom move; but no more than they can ever have.
    let capacity = |one: &Growing<'_>| one.state.capacity().div_ceil(BLOCK);
    let ever = growing.iter().map(capacity).fold(0, usize::saturating_add);
    let roomy = (wanted + wanted / 2).max(FIRST).min(ever).min(most);
    let roomy = roomy.max(wanted);
    let made = match Slab::new(gpu, shape, roomy) {
        Err(Error::OutOfMemory { .. }) if roomy > wanted => Slab::new(gpu, shape, wanted),
        made => made,
    }?;
    slabs.push(Arc::downgrade(&made));
    Ok(made)
}

/// Copies blocks to other ones, in every layer.
fn copy(
    copies: &mut Recording,
    shape: BlockShape,
    moves: &[(Arc<Block>, Arc<Block>)],
) -> Result<()> {
    let at = |block: &Block| block.index as usize * shape.bytes;
    for layer in 0..shape.layers {
        for (from, to) in moves {
            let (source, target) = (from.slab.layer(layer)?, to.slab.layer(layer)?);
            if Arc::ptr_eq(source, target) {
                // No buffer is copied to itself.
                let between = copies.slot(shape.bytes)?;
                copies.copy((source, at(from)), (between.buffer(), 0), shape.bytes);
                copies.copy((between.buffer(), 0), (target, at(to)), shape.bytes);
            } else {
                copies.copy((source, at(from)), (target, at(to)), shape.bytes);
            }
        }
    }
    Ok(())
}
