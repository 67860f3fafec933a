//! Keys and values of one session: f32, `[position, kv heads · dim]` for each layer, grown as positions come.
//!
//! A layer's keys (and its values) are one buffer, so that attention reads a contiguous run. A full buffer is replaced by one
//! of twice the size, up to the capacity: each position is copied at most twice on average, and the pool reuses what
//! was outgrown.

use crate::pool::{Buffer, HybridMemoryPool, Tag};
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
    keys: Floats,
    values: Floats,
}

/// Floats that come one position after the other.
#[derive(Debug, Default)]
struct Floats {
    /// Nothing until the first position.
    buffer: Option<Buffer<f32>>,
    len: usize,
}

impl Floats {
    fn room(&self) -> usize {
        self.buffer.as_ref().map_or(0, |buffer| buffer.len())
    }

    fn as_slice(&self) -> &[f32] {
        self.buffer
            .as_ref()
            .map_or(&[], |buffer| &buffer[..self.len])
    }

    /// Makes room for `len` floats: that many or twice what there was, at most `capacity`.
    fn reserve(
        &mut self,
        pool: &HybridMemoryPool,
        first: usize,
        len: usize,
        capacity: usize,
    ) -> Result<()> {
        if len <= self.room() {
            return Ok(());
        }
        let target = len.max(2 * self.room()).max(first).min(capacity);
        let mut buffer = pool.buffer_uninit(target, Tag::KvCache)?;
        if self.len > 0 {
            buffer[..self.len].copy_from_slice(self.as_slice());
            let bytes = self.len * size_of::<f32>();
            pool.zero_copy().record(Movement::Copy, bytes);
        }
        self.buffer = Some(buffer);
        Ok(())
    }

    /// `len` more floats of any value, in room that is there.
    fn extend(&mut self, len: usize) -> &mut [f32] {
        let start = self.len;
        self.len += len;
        match &mut self.buffer {
            Some(buffer) => &mut buffer[start..self.len],
            None => &mut [],
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
        if heads.kv == 0 || heads.dim == 0 || !heads.query.is_multiple_of(heads.kv) {
            return Err(Error::Shape {
                what: "attention heads".into(),
                expected: "query heads a whole multiple of kv heads".into(),
                found: format!("{} and {}, of width {}", heads.query, heads.kv, heads.dim),
            });
        }
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
        let floats = len.saturating_mul(self.stride());
        for layer in &mut self.layers {
            layer.keys.len = layer.keys.len.min(floats);
            layer.values.len = layer.values.len.min(floats);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.layers
            .iter()
            .map(|l| 4 * (l.keys.room() + l.values.room()))
            .sum()
    }

    /// Adds `positions` to `layer`: the places for their keys and for their values, `[positions, kv heads · dim]` each,
    /// all of which the caller writes.
    pub(super) fn append(
        &mut self,
        layer: usize,
        positions: usize,
    ) -> Result<(&mut [f32], &mut [f32])> {
        let (stride, capacity) = (self.stride(), self.capacity);
        let layer = self.layers.get_mut(layer).ok_or_else(|| no_layer(layer))?;
        let all = positions.saturating_add(layer.keys.len / stride);
        if all > capacity {
            return Err(Error::Shape {
                what: "KV cache".into(),
                expected: format!("at most {capacity} positions"),
                found: format!("{all} positions"),
            });
        }
        let (first, most) = (FIRST * stride, capacity.saturating_mul(stride));
        for store in [&mut layer.keys, &mut layer.values] {
            store.reserve(&self.pool, first, all * stride, most)?;
        }
        // Both or neither.
        let new = positions * stride;
        Ok((layer.keys.extend(new), layer.values.extend(new)))
    }

    pub(super) fn layer(&self, layer: usize) -> Result<(&[f32], &[f32])> {
        let layer = self.layers.get(layer).ok_or_else(|| no_layer(layer))?;
        Ok((layer.keys.as_slice(), layer.values.as_slice()))
    }
}

fn no_layer(layer: usize) -> Error {
    Error::Shape {
        what: "KV cache".into(),
        expected: "a layer of the model".into(),
        found: format!("layer {layer}"),
    }
}
