//! Keys and values of one session: f32, `[position, kv heads · dim]` for each layer, grown as positions come.

use super::{out_of_memory, shape_error};
use crate::{Error, Heads, Result};

/// Positions that memory is reserved for at a time.
const GROWTH: usize = 256;

/// The KV cache of the CPU backend.
#[derive(Debug)]
pub struct CpuCache {
    heads: Heads,
    capacity: usize,
    layers: Vec<Layer>,
}

#[derive(Debug, Default)]
struct Layer {
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl CpuCache {
    pub(super) fn new(layers: usize, heads: Heads, capacity: usize) -> Result<Self> {
        if heads.kv == 0 || heads.dim == 0 || !heads.query.is_multiple_of(heads.kv) {
            return Err(Error::Shape {
                what: "attention heads".into(),
                expected: "query heads a whole multiple of kv heads".into(),
                found: format!("{} and {}, of width {}", heads.query, heads.kv, heads.dim),
            });
        }
        let mut list = Vec::new();
        list.try_reserve_exact(layers)
            .map_err(|_| out_of_memory("KV cache", layers))?;
        list.resize_with(layers, Layer::default);
        Ok(Self {
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
            layer.keys.truncate(floats);
            layer.values.truncate(floats);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.layers
            .iter()
            .map(|l| 4 * (l.keys.capacity() + l.values.capacity()))
            .sum()
    }

    /// Adds whole positions to `layer`.
    pub(super) fn append(&mut self, layer: usize, keys: &[f32], values: &[f32]) -> Result<()> {
        let (stride, capacity) = (self.stride(), self.capacity);
        let layer = self.layers.get_mut(layer).ok_or_else(|| no_layer(layer))?;
        if keys.len() != values.len() || !keys.len().is_multiple_of(stride) {
            return Err(shape_error("keys and values", keys.len(), values.len()));
        }
        let positions = (layer.keys.len() + keys.len()) / stride;
        if positions > capacity {
            return Err(Error::Shape {
                what: "KV cache".into(),
                expected: format!("at most {capacity} positions"),
                found: format!("{positions} positions"),
            });
        }
        let target = positions.next_multiple_of(GROWTH).min(capacity) * stride;
        for (store, new) in [(&mut layer.keys, keys), (&mut layer.values, values)] {
            if store.capacity() < store.len() + new.len() {
                store
                    .try_reserve_exact(target - store.len())
                    .map_err(|_| out_of_memory("KV cache", 4 * target))?;
            }
            store.extend_from_slice(new);
        }
        Ok(())
    }

    pub(super) fn layer(&self, layer: usize) -> Result<(&[f32], &[f32])> {
        let layer = self.layers.get(layer).ok_or_else(|| no_layer(layer))?;
        Ok((&layer.keys, &layer.values))
    }
}

fn no_layer(layer: usize) -> Error {
    Error::Shape {
        what: "KV cache".into(),
        expected: "a layer of the model".into(),
        found: format!("layer {layer}"),
    }
}
