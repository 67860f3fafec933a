//! Keys and values of one session, in f32, in blocks that come as positions do.
//!
//! A block holds [`POSITIONS`] positions of all layers, `[layer][head]`, and of each head its keys, transposed, and its
//! values, `[dim][POSITIONS]` and `[POSITIONS][dim]`: attention reads both in the order in which it adds them up. Blocks
//! never move, all have one size, and the pool hands those of an ended session to the next.

use super::shape_error;
use super::threads::Threads;
use crate::pool::{Buffer, HybridMemoryPool, Tag};
use crate::simd::{KeysValues, POSITIONS};
use crate::{Error, Heads, Result};
use std::ops::Range;

/// Numbers of new keys that are worth sharing among threads: most of them go to a cache line of their own.
const WORTH_SHARING: usize = 512;

/// The KV cache of the CPU backend.
#[derive(Debug)]
pub struct CpuCache {
    pool: HybridMemoryPool,
    heads: Heads,
    capacity: usize,
    blocks: Vec<Buffer<f32>>,
    /// Positions of each layer.
    positions: Vec<usize>,
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
    fn write(self, heads: Heads, keys: &[f32], values: &[f32]) {
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

impl CpuCache {
    pub(super) fn new(
        pool: &HybridMemoryPool,
        layers: usize,
        heads: Heads,
        capacity: usize,
    ) -> Result<Self> {
        heads.check()?;
        let mut positions = Vec::new();
        positions
            .try_reserve_exact(layers)
            .map_err(|_| Error::OutOfMemory {
                what: "the layers of a KV cache".into(),
                bytes: layers.saturating_mul(size_of::<usize>()),
                in_use: 0,
                limit: None,
            })?;
        positions.resize(layers, 0);
        Ok(Self {
            pool: pool.clone(),
            heads,
            capacity,
            blocks: Vec::new(),
            positions,
        })
    }

    pub(super) fn heads(&self) -> Heads {
        self.heads
    }

    fn stride(&self) -> usize {
        self.heads.kv.saturating_mul(self.heads.dim)
    }

    /// Numbers of a head in a block. Too many for a `usize` stay too many for the pool, which says so.
    fn head_floats(&self) -> usize {
        self.heads.dim.saturating_mul(2 * POSITIONS)
    }

    /// Numbers of a layer in a block.
    fn layer_floats(&self) -> usize {
        self.heads.kv.saturating_mul(self.head_floats())
    }

    pub(super) fn truncate(&mut self, len: usize) {
        for positions in &mut self.positions {
            *positions = len.min(*positions);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.blocks
            .iter()
            .map(|block| size_of_val(&block[..]))
            .sum()
    }

    /// Makes room for `positions`.
    fn reserve(&mut self, positions: usize) -> Result<()> {
        while self.blocks.len() < positions.div_ceil(POSITIONS) {
            let floats = self.positions.len().saturating_mul(self.layer_floats());
            let block = self.pool.buffer_uninit(floats, Tag::KvCache)?;
            self.blocks.push(block);
        }
        Ok(())
    }

    /// Adds whole positions, `[position][head][dim]` each of `keys` and `values`, to `layer`.
    pub(super) fn append(
        &mut self,
        threads: &Threads,
        layer: usize,
        keys: &[f32],
        values: &[f32],
    ) -> Result<()> {
        let stride = self.stride();
        let &first = self.positions.get(layer).ok_or_else(|| no_layer(layer))?;
        if keys.len() != values.len() || !keys.len().is_multiple_of(stride) {
            return Err(shape_error("keys and values", keys.len(), values.len()));
        }
        let last = first + keys.len() / stride;
        if last > self.capacity {
            return Err(Error::Shape {
                what: "KV cache".into(),
                expected: format!("at most {} positions", self.capacity),
                found: format!("{last} positions"),
            });
        }
        self.reserve(last)?;
        let (heads, head_floats, layer_floats) =
            (self.heads, self.head_floats(), self.layer_floats());
        let touched = self.blocks.iter_mut().enumerate();
        let touched = touched
            .skip(first / POSITIONS)
            .take_while(|(index, _)| index * POSITIONS < last);
        let parts = touched.flat_map(|(index, block)| {
            let start = first.max(index * POSITIONS);
            let end = last.min((index + 1) * POSITIONS);
            let layer = &mut block[layer * layer_floats..][..layer_floats];
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
        self.positions[layer] = last;
        Ok(())
    }

    /// Keys and values of `layer` in the order of their positions, `[position][head][dim]` each: what
    /// [`append`](Self::append) took.
    pub(super) fn rows(&self, layer: usize) -> Result<[Vec<f32>; 2]> {
        let (stride, dim) = (self.stride(), self.heads.dim);
        let layer = self.layer(layer)?;
        let floats = layer.positions * stride;
        let [mut keys, mut values] = [floats_for(floats)?, floats_for(floats)?];
        for position in 0..layer.positions {
            let place = position % POSITIONS;
            for head in 0..self.heads.kv {
                let (block_keys, block_values) = layer.of_head(head).block(position / POSITIONS);
                keys.extend(block_keys[place..].iter().step_by(POSITIONS));
                values.extend_from_slice(&block_values[place * dim..][..dim]);
            }
        }
        Ok([keys, values])
    }

    /// Keys and values of `layer`, for its first head.
    pub(super) fn layer(&self, layer: usize) -> Result<KeysValues<'_>> {
        let &positions = self.positions.get(layer).ok_or_else(|| no_layer(layer))?;
        Ok(KeysValues {
            blocks: &self.blocks,
            first: layer.saturating_mul(self.layer_floats()),
            dim: self.heads.dim,
            positions,
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
        let heads = Heads {
            query: 4,
            kv: 2,
            dim: 3,
        };
        for threads in [1, 3] {
            rows_come_out(&Threads::new(Some(threads)).unwrap(), heads);
        }
    }

    fn rows_come_out(threads: &Threads, heads: Heads) {
        let mut cache = CpuCache::new(&HybridMemoryPool::default(), 2, heads, 1000).unwrap();
        let stride = heads.kv * heads.dim;
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for positions in [1, 15, 16, 17, 300, 2] {
            let first = keys.len();
            keys.extend((0..positions * stride).map(|i| (first + i) as f32));
            values.extend((0..positions * stride).map(|i| -((first + i) as f32)));
            cache
                .append(threads, 1, &keys[first..], &values[first..])
                .unwrap();
        }
        assert_eq!(cache.rows(1).unwrap(), [keys.clone(), values.clone()]);
        assert!(cache.rows(0).unwrap().iter().all(Vec::is_empty));
        cache.truncate(37);
        let [shorter, _] = cache.rows(1).unwrap();
        assert_eq!(shorter, keys[..37 * stride]);
        assert!(cache.rows(2).is_err());
    }
}
