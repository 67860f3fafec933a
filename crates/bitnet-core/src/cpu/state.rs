//! Keys and values of one sequence, in f32, in blocks that are added as positions are.
//!
//! A block holds [`POSITIONS`] positions of all layers, `[layer][head]`, and of each head its keys, transposed, and its
//! values, `[dim][POSITIONS]` and `[POSITIONS][dim]`: attention reads both in the order in which it adds them up. Blocks
//! never move, all have one size, and the pool hands those of an ended sequence to the next.

use super::shape_error;
use super::threads::Threads;
use crate::pool::{Buffer, HybridMemoryPool, Tag};
use crate::simd::{KeysValues, POSITIONS};
use crate::{AttentionHeads, Error, MixerState, Result, SequenceState};
use std::ops::Range;
use std::sync::Arc;

/// Numbers of new keys that are worth sharing among threads: most of them go to a cache line of their own.
const WORTH_SHARING: usize = 512;

/// The state of one sequence on the CPU. Forks share blocks; the first write to a shared block copies it.
#[derive(Debug)]
pub struct CpuState {
    pool: HybridMemoryPool,
    layers: Vec<Layer>,
    /// Numbers of a block: those of all layers.
    block_floats: usize,
    capacity: usize,
    blocks: Vec<Arc<Buffer<f32>>>,
    len: usize,
}

/// Keys and values of one layer.
#[derive(Debug, Clone, Copy)]
struct Layer {
    heads: AttentionHeads,
    /// Where they begin in a block.
    first: usize,
}

impl Layer {
    /// Numbers of a head in a block. Too many for a `usize` stay too many for the pool, which says so.
    fn head_floats(self) -> usize {
        self.heads.dim.saturating_mul(2 * POSITIONS)
    }

    /// Numbers of the layer in a block.
    fn floats(self) -> usize {
        self.heads.kv.saturating_mul(self.head_floats())
    }
}

/// What new rows add to a head of a block.
struct Part<'a> {
    /// The head's keys and values.
    block: &'a mut [f32],
    head: usize,
    /// Where in the block they begin.
    place: usize,
    rows: Range<usize>,
}

impl Part<'_> {
    /// Writes the part's rows of `keys` and `values`, each `[position][head][dim]`.
    fn write(self, heads: AttentionHeads, keys: &[f32], values: &[f32]) {
        let (dim, stride) = (heads.dim, heads.kv * heads.dim);
        let first = self.rows.start * stride + self.head * dim;
        let (block_keys, block_values) = self.block.split_at_mut(dim * POSITIONS);
        for (column, block) in block_keys.chunks_exact_mut(POSITIONS).enumerate() {
            let new = keys[first + column..].iter().step_by(stride);
            let places = block[self.place..].iter_mut().take(self.rows.len());
            places.zip(new).for_each(|(place, new)| *place = *new);
        }
        let rows = values[first..].chunks(stride);
        let places = block_values.chunks_exact_mut(dim).skip(self.place);
        for (place, row) in places.zip(rows).take(self.rows.len()) {
            place.copy_from_slice(&row[..dim]);
        }
    }
}

impl SequenceState for CpuState {
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
        self.blocks
            .iter()
            .map(|block| size_of_val(&block[..]))
            .sum()
    }

    fn bytes_for(&self, positions: usize) -> usize {
        let floats = positions
            .div_ceil(POSITIONS)
            .saturating_mul(self.block_floats);
        floats.saturating_mul(size_of::<f32>())
    }
}

impl CpuState {
    pub(super) fn new(
        pool: &HybridMemoryPool,
        mixers: &[MixerState],
        capacity: usize,
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
        let mut first = 0;
        for MixerState::KeysValues(heads) in mixers {
            heads.check()?;
            let layer = Layer {
                heads: *heads,
                first,
            };
            first = first.saturating_add(layer.floats());
            layers.push(layer);
        }
        Ok(Self {
            pool: pool.clone(),
            layers,
            block_floats: first,
            capacity,
            blocks: Vec::new(),
            len: 0,
        })
    }

    /// Another sequence that shares the first `len` positions.
    pub(super) fn fork(&self, len: usize) -> Self {
        let len = len.min(self.len);
        let shared = self.blocks.iter().take(len.div_ceil(POSITIONS));
        Self {
            pool: self.pool.clone(),
            layers: self.layers.clone(),
            blocks: shared.cloned().collect(),
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
        let needed = last.div_ceil(POSITIONS);
        for block in self
            .blocks
            .iter_mut()
            .take(needed)
            .skip(self.len / POSITIONS)
        {
            if Arc::get_mut(block).is_none() {
                *block = Arc::new(self.pool.buffer_copy(block, Tag::KvCache)?);
            }
        }
        while self.blocks.len() < needed {
            let block = self.pool.buffer_uninit(self.block_floats, Tag::KvCache)?;
            self.blocks.push(Arc::new(block));
        }
        Ok(())
    }

    /// Writes whole positions, `[position][head][dim]` each of `keys` and `values`, behind those there are, for which
    /// [`reserve`](Self::reserve) made room.
    pub(super) fn write(
        &mut self,
        threads: &Threads,
        layer: usize,
        keys: &[f32],
        values: &[f32],
    ) -> Result<()> {
        let &layer = self.layers.get(layer).ok_or_else(|| no_layer(layer))?;
        let (heads, head_floats, floats) = (layer.heads, layer.head_floats(), layer.floats());
        let stride = heads.kv_width();
        if keys.len() != values.len() || !keys.len().is_multiple_of(stride) {
            return Err(shape_error("keys and values", keys.len(), values.len()));
        }
        let first = self.len;
        let last = first + keys.len() / stride;
        if last > self.blocks.len().saturating_mul(POSITIONS) {
            return Err(Error::Shape {
                what: "KV cache".into(),
                expected: format!("room for {} positions", self.blocks.len() * POSITIONS),
                found: format!("{last} positions"),
            });
        }
        let own = |block: &mut Arc<Buffer<f32>>| Arc::get_mut(block).is_some();
        let blocks = first / POSITIONS..last.div_ceil(POSITIONS);
        if !self.blocks[blocks].iter_mut().all(own) {
            return Err(Error::Shape {
                what: "KV cache".into(),
                expected: "room made before positions are written".into(),
                found: "a block that a fork shares".into(),
            });
        }
        let touched = self.blocks.iter_mut().enumerate();
        let touched = touched
            .skip(first / POSITIONS)
            .take_while(|(index, _)| index * POSITIONS < last)
            .filter_map(|(index, block)| Some((index, Arc::get_mut(block)?)));
        let parts = touched.flat_map(|(index, block)| {
            let start = first.max(index * POSITIONS);
            let end = last.min((index + 1) * POSITIONS);
            let layer = &mut block[layer.first..][..floats];
            let parts = layer.chunks_exact_mut(head_floats).enumerate();
            parts.map(move |(head, block)| Part {
                block,
                head,
                place: start % POSITIONS,
                rows: start - first..end - first,
            })
        });
        if keys.len() >= WORTH_SHARING && threads.count() > 1 {
            threads.each(parts, |_, part| {
                part.write(heads, keys, values);
                Ok(())
            })?;
        } else {
            parts.for_each(|part| part.write(heads, keys, values));
        }
        Ok(())
    }

    /// Counts `count` positions that were written in every layer.
    pub(super) fn advance(&mut self, count: usize) {
        self.len += count;
    }

    /// Keys and values of `layer` in the order of their positions, `[position][head][dim]` each: what
    /// [`write`](Self::write) took.
    pub(super) fn rows(&self, layer: usize) -> Result<[Vec<f32>; 2]> {
        let heads = self.heads(layer)?;
        let (stride, dim) = (heads.kv_width(), heads.dim);
        let layer = self.layer(layer)?;
        let floats = layer.positions * stride;
        let [mut keys, mut values] = [floats_for(floats)?, floats_for(floats)?];
        for position in 0..layer.positions {
            let place = position % POSITIONS;
            for head in 0..heads.kv {
                let (block_keys, block_values) = layer.of_head(head).block(position / POSITIONS);
                keys.extend(block_keys[place..].iter().step_by(POSITIONS));
                values.extend_from_slice(&block_values[place * dim..][..dim]);
            }
        }
        Ok([keys, values])
    }

    /// Widths of `layer`.
    pub(super) fn heads(&self, layer: usize) -> Result<AttentionHeads> {
        let found = self.layers.get(layer).ok_or_else(|| no_layer(layer))?;
        Ok(found.heads)
    }

    /// Keys and values of `layer`, for its first head.
    pub(crate) fn layer(&self, layer: usize) -> Result<KeysValues<'_>> {
        let found = self.layers.get(layer).ok_or_else(|| no_layer(layer))?;
        Ok(KeysValues {
            blocks: &self.blocks,
            first: found.first,
            dim: found.heads.dim,
            positions: self.len,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_out_as_they_went_in() {
        let heads = AttentionHeads {
            query: 4,
            kv: 2,
            dim: 3,
        };
        for threads in [1, 3] {
            rows_come_out(&Threads::new(Some(threads)).unwrap(), heads);
        }
    }

    fn rows_come_out(threads: &Threads, heads: AttentionHeads) {
        let layers = [MixerState::KeysValues(heads); 2];
        let mut state = CpuState::new(&HybridMemoryPool::default(), &layers, 1000).unwrap();
        let stride = heads.kv * heads.dim;
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for positions in [1, 15, 16, 17, 300, 2] {
            let first = keys.len();
            keys.extend((0..positions * stride).map(|i| (first + i) as f32));
            values.extend((0..positions * stride).map(|i| -((first + i) as f32)));
            state.reserve(positions).unwrap();
            state
                .write(threads, 1, &keys[first..], &values[first..])
                .unwrap();
            state.advance(positions);
        }
        assert_eq!(state.rows(1).unwrap(), [keys.clone(), values.clone()]);
        let fork = state.fork(40);
        state.truncate(37);
        let [shorter, _] = state.rows(1).unwrap();
        assert_eq!(shorter, keys[..37 * stride]);
        assert!(state.rows(2).is_err());
        // A fork does not see what the other writes behind it.
        state.reserve(1).unwrap();
        let other = vec![7.5; stride];
        state.write(threads, 1, &other, &other).unwrap();
        assert_eq!(fork.rows(1).unwrap()[0], keys[..40 * stride]);
        state.advance(1);
        assert_eq!(state.rows(1).unwrap()[0][37 * stride..], other);
    }
}
