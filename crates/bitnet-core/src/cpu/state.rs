//! Keys and values of one sequence, in blocks that are added as positions are.
//!
//! A block holds [`POSITIONS`] positions of all layers, `[layer][head]`, and of each head its keys, transposed, and its
//! values, in the type of the state: attention reads both in the order in which it adds them up. Blocks never move, all
//! have one size, and the pool hands those of an ended sequence to the next. Layers with a window have blocks of their own, which are
//! given back some time after the last window has left them.

mod append;
mod recurrent;
#[cfg(test)]
mod tests;

use super::kernels::Kernels;
use super::shape_error;
use super::threads::Threads;
use crate::pool::{Buffer, HybridMemoryPool, Tag};
use crate::simd::{KeysValues, POSITIONS, Stored, head_bytes, with_stored};
use crate::{AttentionHeads, DeltaHeads, Error, KvType, MixerState, Result, SequenceState};
use append::{Append, Part};
pub(super) use recurrent::Recurrent;
use recurrent::RecurrentStates;
use std::ops::Range;
use std::sync::Arc;

/// Numbers of new keys that are worth sharing among threads: most of them go to a cache line of their own.
const WORTH_SHARING: usize = 512;

/// Positions behind the windows that are kept all the same, for forks of what a batch has just passed, and for texts whose last words
/// are taken back.
const KEPT_BEHIND: usize = 8 * POSITIONS;

/// The state of one sequence on the CPU. Forks share blocks; the first write to a shared block copies it.
#[derive(Debug)]
pub struct CpuState {
    pool: HybridMemoryPool,
    kv: KvType,
    layers: Vec<Layer>,
    recurrent: RecurrentStates,
    capacity: usize,
    /// Of layers that see every position.
    wide: Shelf,
    /// Of layers with a window.
    windowed: Shelf,
    /// The widest window, in positions; 0 where no layer has one.
    window: usize,
    len: usize,
}

/// Blocks of some layers.
#[derive(Debug, Clone, Default)]
struct Shelf {
    /// Bytes of a block: those of all these layers. If 0, there are no blocks.
    block_bytes: usize,
    /// Blocks before the first there is, which were given back.
    skipped: usize,
    blocks: Vec<Arc<Buffer<u8>>>,
}

impl Shelf {
    fn bytes(&self) -> usize {
        self.blocks.len() * self.block_bytes
    }

    /// The number of the block behind the last.
    fn end(&self) -> usize {
        self.skipped + self.blocks.len()
    }

    /// Those of another sequence that begins with the first `count` blocks.
    fn share(&self, count: usize) -> Self {
        let shared = self.blocks.iter().take(count.saturating_sub(self.skipped));
        Self {
            blocks: shared.cloned().collect(),
            ..*self
        }
    }

    /// Adds blocks up to number `end`, and copies those from number `begin` on that are shared.
    fn reserve(&mut self, pool: &HybridMemoryPool, begin: usize, end: usize) -> Result<()> {
        if self.block_bytes == 0 {
            return Ok(());
        }
        let (begin, count) = (
            begin.saturating_sub(self.skipped),
            end.saturating_sub(self.skipped),
        );
        for block in self.blocks.iter_mut().take(count).skip(begin) {
            if Arc::get_mut(block).is_none() {
                *block = Arc::new(pool.buffer_copy(block, Tag::KvCache)?);
            }
        }
        while self.blocks.len() < count {
            let block = pool.buffer_uninit(self.block_bytes, Tag::KvCache)?;
            self.blocks.push(Arc::new(block));
        }
        Ok(())
    }

    /// Gives back the blocks from number `end` on.
    fn cut(&mut self, end: usize) {
        self.blocks.truncate(end.saturating_sub(self.skipped));
    }

    /// Gives back the blocks before number `first`.
    fn skip(&mut self, first: usize) {
        let count = first.saturating_sub(self.skipped).min(self.blocks.len());
        self.blocks.drain(..count);
        self.skipped += count;
    }
}

/// What is kept of one layer.
#[derive(Debug, Clone, Copy)]
enum Layer {
    KeysValues(Place),
    /// One of the recurrent layers, by its place among them.
    Recurrent(usize),
}

/// Keys and values of one layer.
#[derive(Debug, Clone, Copy)]
struct Place {
    heads: AttentionHeads,
    /// Positions that a row attends to.
    window: Option<usize>,
    /// Where they begin in a block of their shelf.
    first: usize,
}

impl SequenceState for CpuState {
    fn len(&self) -> usize {
        self.len
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn truncate(&mut self, len: usize) {
        if len < self.len {
            let len = self.recurrent.truncate(self.seen_whole(len));
            self.len = match self.seen_whole(len) {
                0 => self.recurrent.truncate(0),
                len => len,
            };
            if self.len == 0 {
                self.windowed.skipped = 0;
                self.windowed.blocks.clear();
            }
        }
        // Also what a batch that failed had made room for.
        let end = self.len.div_ceil(POSITIONS);
        self.wide.cut(end);
        self.windowed.cut(end);
    }

    fn bytes(&self) -> usize {
        self.wide.bytes() + self.windowed.bytes() + self.recurrent.bytes()
    }

    fn bytes_for(&self, positions: Range<usize>) -> usize {
        let blocks = positions.end.div_ceil(POSITIONS);
        let own = blocks.saturating_sub(positions.start / POSITIONS);
        // Up to a batch more, before they are given back.
        let kept = self.window.saturating_add(2 * KEPT_BEHIND) / POSITIONS + 1;
        let wide = own.saturating_mul(self.wide.block_bytes);
        let windowed = own.min(kept).saturating_mul(self.windowed.block_bytes);
        wide.saturating_add(windowed)
            .saturating_add(self.recurrent.most_bytes())
    }

    fn bytes_beyond(&self, positions: usize) -> usize {
        let first = positions / POSITIONS;
        let beyond = |shelf: &Shelf| {
            let blocks = shelf.end().saturating_sub(first.max(shelf.skipped));
            blocks.saturating_mul(shelf.block_bytes)
        };
        beyond(&self.wide) + beyond(&self.windowed) + self.recurrent.bytes_beyond(positions)
    }
}

/// Bytes that a sequence of `positions` takes on a CPU at most, whose layers keep `mixers` and keys and values of the type `kv`.
///
/// # Errors
/// If heads are misshapen, or memory is short.
pub fn state_bytes(mixers: &[MixerState], positions: usize, kv: KvType) -> Result<usize> {
    let state = CpuState::new(&HybridMemoryPool::default(), mixers, positions, kv)?;
    Ok(state.bytes_for(0..positions))
}

impl CpuState {
    pub(super) fn new(
        pool: &HybridMemoryPool,
        mixers: &[MixerState],
        capacity: usize,
        kv: KvType,
    ) -> Result<Self> {
        let mut layers = Vec::new();
        layers
            .try_reserve_exact(mixers.len())
            .map_err(|_| Error::OutOfMemory {
                what: "the layers of a KV cache".into(),
                bytes: mixers.len().saturating_mul(size_of::<Layer>()),
                in_use: 0,
                limit: None,
            })?;
        let (mut wide, mut windowed) = (Shelf::default(), Shelf::default());
        let (mut widest, mut recurrent) = (0, Vec::new());
        for mixer in mixers {
            match mixer {
                MixerState::KeysValues(heads) | MixerState::Window(heads, _) => {
                    heads.check()?;
                    let window = match mixer {
                        MixerState::Window(_, window) => Some(*window),
                        _ => None,
                    };
                    let shelf = match window {
                        Some(_) => &mut windowed,
                        None => &mut wide,
                    };
                    layers.push(Layer::KeysValues(Place {
                        heads: *heads,
                        window,
                        first: shelf.block_bytes,
                    }));
                    let bytes = heads.kv.saturating_mul(head_bytes(kv, heads.dim));
                    shelf.block_bytes = shelf.block_bytes.saturating_add(bytes);
                    widest = widest.max(window.unwrap_or(0));
                }
                MixerState::Recurrent(heads) => {
                    layers.push(Layer::Recurrent(recurrent.len()));
                    recurrent.push(*heads);
                }
            }
        }
        Ok(Self {
            pool: pool.clone(),
            kv,
            layers,
            recurrent: RecurrentStates::new(recurrent)?,
            capacity,
            wide,
            windowed,
            window: widest,
            len: 0,
        })
    }

    /// `len`, or 0 if a layer with a window does not have what the position behind them sees.
    fn seen_whole(&self, len: usize) -> usize {
        let begin = len.saturating_sub(self.window);
        if begin < self.windowed.skipped * POSITIONS {
            0
        } else {
            len
        }
    }

    /// Another sequence that shares the first `len` positions, or fewer if a layer has not kept what comes before the next.
    pub(super) fn fork(&self, len: usize) -> Self {
        let len = self.seen_whole(len.min(self.len));
        let (mut recurrent, mut len) = self.recurrent.fork(len);
        if self.seen_whole(len) < len {
            (recurrent, len) = self.recurrent.fork(0);
        }
        let count = len.div_ceil(POSITIONS);
        let mut windowed = self.windowed.share(count);
        if len == 0 {
            windowed.skipped = 0;
        }
        Self {
            pool: self.pool.clone(),
            layers: self.layers.clone(),
            recurrent,
            wide: self.wide.share(count),
            windowed,
            len,
            ..*self
        }
    }

    /// Makes room for `count` positions behind those there are: blocks that are missing, and copies of shared ones.
    ///
    /// # Errors
    /// If the state is full, or memory is short; the positions are as before.
    pub(super) fn reserve(&mut self, count: usize) -> Result<()> {
        let last = self.len.saturating_add(count);
        if last > self.capacity {
            return Err(Error::Shape {
                what: "KV cache".into(),
                expected: format!("at most {} positions", self.capacity),
                found: format!("{last} positions"),
            });
        }
        let (begin, end) = (self.len / POSITIONS, last.div_ceil(POSITIONS));
        self.wide.reserve(&self.pool, begin, end)?;
        self.windowed.reserve(&self.pool, begin, end)?;
        self.recurrent.reserve(&self.pool, self.len)
    }

    /// Writes whole positions, `[position][head][dim]` each of `keys` and `values`, behind those there are, for which
    /// [`reserve`](Self::reserve) made room.
    pub(super) fn write(
        &mut self,
        (threads, kernels): (&Threads, &Kernels),
        layer: usize,
        keys: &[f32],
        values: &[f32],
    ) -> Result<()> {
        let layer = self.place(layer)?;
        let (heads, kv) = (layer.heads, self.kv);
        let head_bytes = head_bytes(kv, heads.dim);
        let stride = heads.kv_width();
        if keys.len() != values.len() || !keys.len().is_multiple_of(stride) {
            return Err(shape_error("keys and values", keys.len(), values.len()));
        }
        let first = self.len;
        let last = first + keys.len() / stride;
        let shelf = match layer.window {
            Some(_) => &mut self.windowed,
            None => &mut self.wide,
        };
        if last > shelf.end().saturating_mul(POSITIONS) || first < shelf.skipped * POSITIONS {
            return Err(Error::Shape {
                what: "KV cache".into(),
                expected: format!(
                    "positions {} to {}, for which there is room",
                    shelf.skipped * POSITIONS,
                    shelf.end() * POSITIONS
                ),
                found: format!("{first} to {last}"),
            });
        }
        let own = |block: &mut Arc<Buffer<u8>>| Arc::get_mut(block).is_some();
        let blocks = first / POSITIONS - shelf.skipped..last.div_ceil(POSITIONS) - shelf.skipped;
        if !shelf.blocks[blocks.clone()].iter_mut().all(own) {
            return Err(Error::Shape {
                what: "KV cache".into(),
                expected: "room made before positions are written".into(),
                found: "a block that a fork shares".into(),
            });
        }
        let touched = (first / POSITIONS..).zip(&mut shelf.blocks[blocks]);
        let touched = touched.filter_map(|(index, block)| Some((index, Arc::get_mut(block)?)));
        let parts = touched.flat_map(|(index, block)| {
            let start = first.max(index * POSITIONS);
            let end = last.min((index + 1) * POSITIONS);
            let layer = &mut block[layer.first..][..heads.kv * head_bytes];
            let parts = layer.chunks_exact_mut(head_bytes).enumerate();
            parts.map(move |(head, block)| Part {
                block,
                head,
                place: start % POSITIONS,
                rows: start - first..end - first,
            })
        });
        let append = Append {
            kernels,
            heads,
            keys,
            values,
        };
        if keys.len() >= WORTH_SHARING && threads.count() > 1 {
            threads.each(parts, |_, part| {
                append.write(kv, part);
                Ok(())
            })?;
        } else {
            parts.for_each(|part| append.write(kv, part));
        }
        Ok(())
    }

    /// Counts `count` positions that were written in every layer.
    pub(super) fn advance(&mut self, count: usize) {
        self.len += count;
        self.recurrent.advance(self.len);
        let kept = self.window.saturating_add(KEPT_BEHIND);
        self.windowed
            .skip(self.len.saturating_sub(kept) / POSITIONS);
    }

    /// Counts `count` positions that were written in every layer from what [`rows`](Self::rows) gave. What no window sees was no
    /// longer there, perhaps.
    pub(super) fn complete(&mut self, count: usize) {
        self.advance(count);
        self.windowed
            .skip(self.len.saturating_sub(self.window) / POSITIONS);
    }

    /// Keys and values of `layer` in the order of their positions, `[position][head][dim]` each: what
    /// [`write`](Self::write) made of what it took; zeros where a window has left them and they were given back. Written again they
    /// are the same bits.
    pub(super) fn rows(&self, layer: usize) -> Result<[Vec<f32>; 2]> {
        if let Some(Layer::Recurrent(index)) = self.layers.get(layer) {
            return self.recurrent_numbers(*index);
        }
        with_stored!(self.kv, T => self.rows_of::<T>(layer))
    }

    /// The present state of a recurrent layer: its heads, and the rows of its convolution.
    fn recurrent_numbers(&self, index: usize) -> Result<[Vec<f32>; 2]> {
        let Some(present) = self.recurrent.present(index) else {
            return Ok([Vec::new(), Vec::new()]);
        };
        let copy = |numbers: &[f32]| {
            let mut copy = floats_for(numbers.len())?;
            copy.extend_from_slice(numbers);
            Ok::<_, Error>(copy)
        };
        Ok([copy(&present.heads)?, copy(&present.conv)?])
    }

    /// Whether no layer comes behind it.
    pub(super) fn is_last(&self, layer: usize) -> bool {
        layer + 1 == self.layers.len()
    }

    /// Whether a layer keeps no keys and values.
    pub(super) fn is_recurrent(&self, layer: usize) -> bool {
        matches!(self.layers.get(layer), Some(Layer::Recurrent(_)))
    }

    /// Writes what [`rows`](Self::rows) gave of a recurrent layer, of as many positions as are written to the others.
    pub(super) fn write_recurrent(
        &mut self,
        layer: usize,
        heads: &[f32],
        conv: &[f32],
    ) -> Result<()> {
        let Some(Layer::Recurrent(index)) = self.layers.get(layer) else {
            return Err(no_layer(layer));
        };
        let index = *index;
        let Some((_, next)) = self.recurrent.layer(index) else {
            return Err(no_layer(layer));
        };
        if heads.is_empty() && conv.is_empty() {
            // That of an empty sequence.
            return Ok(());
        }
        for (room, numbers) in [(&mut next.heads, heads), (&mut next.conv, conv)] {
            if room.len() != numbers.len() {
                return Err(shape_error(
                    "the state of a delta net",
                    room.len(),
                    numbers.len(),
                ));
            }
            room.copy_from_slice(numbers);
        }
        Ok(())
    }

    fn rows_of<T: Stored>(&self, layer: usize) -> Result<[Vec<f32>; 2]> {
        let heads = self.heads(layer)?;
        let layer = self.layer(layer)?;
        let floats = layer.positions * heads.kv_width();
        let [mut keys, mut values] = [floats_for(floats)?, floats_for(floats)?];
        let begin = layer.positions.min(layer.skipped * POSITIONS);
        for numbers in [&mut keys, &mut values] {
            numbers.resize(begin * heads.kv_width(), 0.0);
        }
        for position in begin..layer.positions {
            for head in 0..heads.kv {
                let block = layer.of_head(head).block::<T>(position / POSITIONS);
                keys.extend(block.key(position % POSITIONS));
                values.extend(block.value(position % POSITIONS));
            }
        }
        Ok([keys, values])
    }

    /// Widths of `layer`.
    pub(super) fn heads(&self, layer: usize) -> Result<AttentionHeads> {
        Ok(self.place(layer)?.heads)
    }

    /// Refuses a mixer of `layer` whose window is another than that of the state.
    pub(super) fn check_window(&self, layer: usize, window: Option<usize>) -> Result<()> {
        let found = self.place(layer)?.window;
        if found == window {
            return Ok(());
        }
        Err(Error::Shape {
            what: format!("window of layer {layer} of a state"),
            expected: format!("{window:?}"),
            found: format!("{found:?}"),
        })
    }

    fn place(&self, layer: usize) -> Result<Place> {
        match self.layers.get(layer) {
            Some(Layer::KeysValues(place)) => Ok(*place),
            Some(Layer::Recurrent(_)) => Err(Error::Shape {
                what: "the state of a sequence".into(),
                expected: format!("keys and values in layer {layer}"),
                found: "the state of a delta net".into(),
            }),
            None => Err(no_layer(layer)),
        }
    }

    /// The state of a delta net of these widths before the batch that runs, and the one that it writes.
    pub(super) fn recurrent(
        &mut self,
        layer: usize,
        heads: DeltaHeads,
    ) -> Result<(&Recurrent, &mut Recurrent)> {
        let wrong = |found: String| Error::Shape {
            what: format!("the state of a sequence in layer {layer}"),
            expected: format!("that of {heads:?}, with room for a batch"),
            found,
        };
        let index = match self.layers.get(layer) {
            Some(Layer::Recurrent(index)) => *index,
            Some(Layer::KeysValues(_)) => return Err(wrong("keys and values".into())),
            None => return Err(no_layer(layer)),
        };
        let found = self.recurrent.heads(index);
        if found != Some(heads) {
            return Err(wrong(format!("that of {found:?}")));
        }
        let layer = self.recurrent.layer(index);
        layer.ok_or_else(|| wrong("no room".into()))
    }

    /// Keys and values of `layer`, for its first head.
    pub(crate) fn layer(&self, layer: usize) -> Result<KeysValues<'_>> {
        let found = self.place(layer)?;
        let shelf = match found.window {
            Some(_) => &self.windowed,
            None => &self.wide,
        };
        Ok(KeysValues {
            blocks: &shelf.blocks,
            skipped: shelf.skipped,
            first: found.first,
            dim: found.heads.dim,
            positions: self.len,
            window: found.window.unwrap_or(usize::MAX),
            kv: self.kv,
        })
    }
}

/// Room for `count` floats outside of the pool.
fn floats_for(count: usize) -> Result<Vec<f32>> {
    let mut floats = Vec::new();
    floats
        .try_reserve_exact(count)
        .map_err(|_| Error::OutOfMemory {
            what: "a copy of keys or values".into(),
            bytes: count.saturating_mul(size_of::<f32>()),
            in_use: 0,
            limit: None,
        })?;
    Ok(floats)
}

fn no_layer(layer: usize) -> Error {
    Error::Shape {
        what: "KV cache".into(),
        expected: "a layer of the model".into(),
        found: format!("layer {layer}"),
    }
}
