//! Keys and values of one session, in f32, grown as positions come.
//!
//! A layer's values are rows, `[position][head][dim]`; its keys are transposed in blocks of [`POSITIONS`],
//! `[block][head][dim][POSITIONS]`, so that attention reads both in the order in which it adds them up. Full buffers are
//! replaced by ones of twice the size, up to the capacity: each position is copied at most twice on average, and the
//! pool reuses what was outgrown.

use super::shape_error;
use crate::pool::{Buffer, HybridMemoryPool, Tag};
use crate::simd::{KeysValues, POSITIONS};
use crate::zero_copy::Movement;
use crate::{Error, Heads, Result};

/// Positions that a layer's first buffers have room for.
const FIRST: usize = 256;

/// The KV cache of the CPU backend.
#[derive(Debug)]
pub struct CpuCache {
    pool: HybridMemoryPool,
    heads: Heads,
    capacity: usize,
    layers: Vec<Layer>,
}

#[derive(Debug, Default)]
struct Layer {
    /// Keys and values with room for as many positions; nothing until the first.
    buffers: Option<[Buffer<f32>; 2]>,
    positions: usize,
}

impl Layer {
    fn bytes(&self) -> usize {
        let buffers = self.buffers.iter().flatten();
        buffers.map(|buffer| size_of_val(&buffer[..])).sum()
    }

    /// Makes room for `positions`: that many or twice what there was, at most `capacity`, in whole blocks.
    fn reserve(
        &mut self,
        pool: &HybridMemoryPool,
        stride: usize,
        positions: usize,
        capacity: usize,
    ) -> Result<()> {
        let room = self.buffers.as_ref().map_or(0, |[_, v]| v.len() / stride);
        if positions <= room {
            return Ok(());
        }
        let target = positions.max(2 * room).max(FIRST).min(capacity);
        let floats = target.next_multiple_of(POSITIONS).saturating_mul(stride);
        let mut keys = pool.buffer_uninit(floats, Tag::KvCache)?;
        let mut values = pool.buffer_uninit(floats, Tag::KvCache)?;
        if let Some([old_keys, old_values]) = &self.buffers {
            let used = self.positions.next_multiple_of(POSITIONS) * stride;
            keys[..used].copy_from_slice(&old_keys[..used]);
            values[..used].copy_from_slice(&old_values[..used]);
            let bytes = 2 * used * size_of::<f32>();
            pool.zero_copy().record(Movement::Copy, bytes);
        }
        self.buffers = Some([keys, values]);
        Ok(())
    }

    /// Appends whole rows to room that is there.
    fn extend(&mut self, stride: usize, new_keys: &[f32], new_values: &[f32]) {
        let Some([keys, values]) = &mut self.buffers else {
            return;
        };
        values[self.positions * stride..][..new_values.len()].copy_from_slice(new_values);
        let mut rows = new_keys;
        while !rows.is_empty() {
            let (block, first) = (self.positions / POSITIONS, self.positions % POSITIONS);
            let count = (rows.len() / stride).min(POSITIONS - first);
            let (now, rest) = rows.split_at(count * stride);
            let keys = &mut keys[block * stride * POSITIONS..][..stride * POSITIONS];
            for (column, keys) in keys.chunks_exact_mut(POSITIONS).enumerate() {
                let column = now[column..].iter().step_by(stride);
                let keys = keys[first..first + count].iter_mut();
                keys.zip(column).for_each(|(key, new)| *key = *new);
            }
            self.positions += count;
            rows = rest;
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
        let mut list = Vec::new();
        list.try_reserve_exact(layers)
            .map_err(|_| Error::OutOfMemory {
                what: "the layers of a KV cache".into(),
                bytes: layers.saturating_mul(size_of::<Layer>()),
                in_use: 0,
                limit: None,
            })?;
        list.resize_with(layers, Layer::default);
        Ok(Self {
            pool: pool.clone(),
            heads,
            capacity,
            layers: list,
        })
    }

    pub(super) fn heads(&self) -> Heads {
        self.heads
    }

    fn stride(&self) -> usize {
        self.heads.kv * self.heads.dim
    }

    pub(super) fn truncate(&mut self, len: usize) {
        for layer in &mut self.layers {
            layer.positions = layer.positions.min(len);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.layers.iter().map(Layer::bytes).sum()
    }

    /// Adds whole positions to `layer`.
    pub(super) fn append(&mut self, layer: usize, keys: &[f32], values: &[f32]) -> Result<()> {
        let (stride, capacity) = (self.stride(), self.capacity);
        let layer = self.layers.get_mut(layer).ok_or_else(|| no_layer(layer))?;
        if keys.len() != values.len() || !keys.len().is_multiple_of(stride) {
            return Err(shape_error("keys and values", keys.len(), values.len()));
        }
        let positions = layer.positions + keys.len() / stride;
        if positions > capacity {
            return Err(Error::Shape {
                what: "KV cache".into(),
                expected: format!("at most {capacity} positions"),
                found: format!("{positions} positions"),
            });
        }
        layer.reserve(&self.pool, stride, positions, capacity)?;
        layer.extend(stride, keys, values);
        Ok(())
    }

    /// Keys and values of `layer` in the order of their positions, `[position][head][dim]` each: what
    /// [`append`](Self::append) took.
    pub(super) fn rows(&self, layer: usize) -> Result<[Vec<f32>; 2]> {
        let stride = self.stride();
        let layer = self.layer(layer)?;
        let floats = layer.positions * stride;
        let [mut keys, mut values] = [floats_for(floats)?, floats_for(floats)?];
        values.extend_from_slice(&layer.values[..floats]);
        for position in 0..layer.positions {
            let (block, place) = (position / POSITIONS, position % POSITIONS);
            let block = &layer.keys[block * stride * POSITIONS..][..stride * POSITIONS];
            keys.extend(block[place..].iter().step_by(POSITIONS));
        }
        Ok([keys, values])
    }

    /// Keys and values of `layer`, for its first head.
    pub(super) fn layer(&self, layer: usize) -> Result<KeysValues<'_>> {
        let layer = self.layers.get(layer).ok_or_else(|| no_layer(layer))?;
        let (keys, values) = match &layer.buffers {
            Some([keys, values]) => (&keys[..], &values[..]),
            None => (&[][..], &[][..]),
        };
        Ok(KeysValues {
            keys,
            values,
            heads: self.heads.kv,
            head: 0,
            dim: self.heads.dim,
            positions: layer.positions,
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
        let mut cache = CpuCache::new(&HybridMemoryPool::default(), 2, heads, 1000).unwrap();
        let stride = heads.kv * heads.dim;
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for positions in [1, 15, 16, 17, 300, 2] {
            let first = keys.len();
            keys.extend((0..positions * stride).map(|i| (first + i) as f32));
            values.extend((0..positions * stride).map(|i| -((first + i) as f32)));
            cache.append(1, &keys[first..], &values[first..]).unwrap();
        }
        assert_eq!(cache.rows(1).unwrap(), [keys.clone(), values.clone()]);
        assert!(cache.rows(0).unwrap().iter().all(Vec::is_empty));
        cache.truncate(37);
        let [shorter, _] = cache.rows(1).unwrap();
        assert_eq!(shorter, keys[..37 * stride]);
        assert!(cache.rows(2).is_err());
    }
}
