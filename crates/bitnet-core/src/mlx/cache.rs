//! Keys and values of one session, in f32, grown as positions come.
//!
//! A layer has `[1, kv heads, room, dim]` of each: MLX's attention reads the first positions of every head where they lie. New
//! positions are written into the room that there is; MLX does so in place, since nobody else has the array.

use super::thread::{Here, Tensor};
use super::{dimension, failed, width_error};
use crate::pool::Movement;
use crate::{Error, Heads, HybridMemoryPool, Result};
use mlx_rs::Array;
use mlx_rs::ops::indexing::{TryIndexMutOp, TryIndexOp};
use mlx_rs::ops::{concatenate, zeros};

/// Positions that a layer's first arrays have room for, and at least so many more when they are full.
const STEP: usize = 256;

/// The KV cache of the MLX backend.
pub struct MlxCache {
    pub(super) heads: Heads,
    capacity: usize,
    layers: Vec<Layer>,
    pool: HybridMemoryPool,
}

impl std::fmt::Debug for MlxCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MlxCache")
            .field("heads", &self.heads)
            .field("capacity", &self.capacity)
            .field("positions", &self.positions())
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Layer {
    /// Keys and values; nothing until the first position.
    arrays: Option<[Tensor; 2]>,
    /// Positions that the arrays have room for.
    room: usize,
    positions: usize,
}

impl MlxCache {
    pub(super) fn new(
        pool: &HybridMemoryPool,
        layers: usize,
        heads: Heads,
        capacity: usize,
    ) -> Result<Self> {
        heads.check()?;
        dimension(heads.query.saturating_mul(heads.dim))?;
        dimension(capacity)?;
        let mut list = Vec::new();
        list.resize_with(layers, Layer::default);
        Ok(Self {
            heads,
            capacity,
            layers: list,
            pool: pool.clone(),
        })
    }

    /// Positions of the first layer, which is the first to get more.
    pub(super) fn positions(&self) -> usize {
        self.layers.first().map_or(0, |layer| layer.positions)
    }

    /// Positions there may be.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn truncate(&mut self, len: usize) {
        for layer in &mut self.layers {
            layer.positions = layer.positions.min(len);
            if layer.positions == 0 {
                // With what may have failed to be computed for it.
                layer.arrays = None;
                layer.room = 0;
            }
        }
    }

    /// Bytes of keys and values, room for more included.
    pub(super) fn bytes(&self) -> usize {
        let floats = 2 * self.heads.kv * self.heads.dim;
        let rooms = self.layers.iter().map(|layer| layer.room);
        rooms.sum::<usize>() * floats * size_of::<f32>()
    }

    fn shape(&self, positions: usize) -> Result<[i32; 4]> {
        let Heads { kv, dim, .. } = self.heads;
        Ok([1, dimension(kv)?, dimension(positions)?, dimension(dim)?])
    }

    /// Appends `count` positions to `layer`, whose last one is position `first - 1`: keys and values of
    /// `[1, kv heads, count, dim]`.
    pub(super) fn append(
        &mut self,
        here: &Here,
        layer: usize,
        (first, count): (usize, usize),
        rows: [&Array; 2],
    ) -> Result<()> {
        let capacity = self.capacity;
        let index = layer;
        let layer = self.layers.get(index).ok_or_else(|| no_layer(index))?;
        if layer.positions != first {
            return Err(Error::Shape {
                what: format!("cache of layer {index}"),
                expected: format!("{first} positions"),
                found: format!("{} positions", layer.positions),
            });
        }
        let end = first + count;
        if end > capacity {
            return Err(Error::Shape {
                what: "KV cache".into(),
                expected: format!("at most {capacity} positions"),
                found: format!("{end} positions"),
            });
        }
        self.reserve(here, index, end)?;
        let (first, end) = (dimension(first)?, dimension(end)?);
        let layer = &mut self.layers[index];
        for (array, rows) in layer.arrays.iter_mut().flatten().zip(rows) {
            let array = array.get_mut(here);
            array
                .try_index_mut((.., .., first..end), rows)
                .map_err(failed)?;
        }
        layer.positions = end as usize;
        Ok(())
    }

    /// Makes room for `positions` in `layer`.
    fn reserve(&mut self, here: &Here, layer: usize, positions: usize) -> Result<()> {
        let Layer {
            room,
            positions: used,
            ..
        } = self.layers[layer];
        if positions <= room {
            return Ok(());
        }
        let grown = positions.next_multiple_of(STEP).max(room + room / 2);
        let target = grown.min(self.capacity.max(positions));
        let (kept, more) = (self.shape(used)?, self.shape(target - used)?);
        let fill = || zeros::<f32>(&more).map_err(failed);
        let arrays = match self.layers[layer].arrays.take() {
            Some(old) if used > 0 => {
                let bytes = 2 * kept.iter().map(|n| *n as usize).product::<usize>() * 4;
                self.pool.zero_copy().record(Movement::Copy, bytes);
                let grow = |old: &Tensor| {
                    let old = old.get(here).try_index((.., .., ..kept[2]));
                    let parts = [old.map_err(failed)?, fill()?];
                    concatenate(&parts, 2).map_err(failed)
                };
                [grow(&old[0])?, grow(&old[1])?]
            }
            _ => [fill()?, fill()?],
        };
        self.layers[layer].arrays = Some(arrays.map(Tensor::new));
        self.layers[layer].room = target;
        Ok(())
    }

    /// Keys and values of `layer`, `[1, kv heads, positions, dim]`, and how many positions there are.
    pub(super) fn layer(&self, here: &Here, layer: usize) -> Result<([Array; 2], usize)> {
        let found = self.layers.get(layer).ok_or_else(|| no_layer(layer))?;
        let Some([keys, values]) = &found.arrays else {
            return Err(Error::Shape {
                what: format!("cache of layer {layer}"),
                expected: "at least one position".into(),
                found: "none".into(),
            });
        };
        let end = dimension(found.positions)?;
        let held = |array: &Tensor| array.get(here).try_index((.., .., ..end)).map_err(failed);
        Ok(([held(keys)?, held(values)?], found.positions))
    }

    /// Keys and values of `layer` in the order of their positions, `[position][kv head][dim]` each.
    pub(super) fn rows(&self, here: &Here, layer: usize) -> Result<[Vec<f32>; 2]> {
        let found = self.layers.get(layer).ok_or_else(|| no_layer(layer))?;
        if found.positions == 0 {
            return Ok([Vec::new(), Vec::new()]);
        }
        let ([keys, values], _) = self.layer(here, layer)?;
        let rows = |array: Array| {
            let rows = array
                .transpose_axes(&[0, 2, 1, 3])
                .and_then(|a| a.contiguous());
            super::numbers(here, &rows.map_err(failed)?)
        };
        Ok([rows(keys)?, rows(values)?])
    }

    /// Appends to `layer` what [`rows`](Self::rows) gave.
    pub(super) fn restore(
        &mut self,
        here: &Here,
        layer: usize,
        keys: &[f32],
        values: &[f32],
    ) -> Result<()> {
        let stride = self.heads.kv * self.heads.dim;
        if keys.len() != values.len() || !keys.len().is_multiple_of(stride) {
            return Err(width_error("keys and values", keys.len(), values.len()));
        }
        let count = keys.len() / stride;
        if count == 0 {
            return Ok(());
        }
        let [_, kv, positions, dim] = self.shape(count)?;
        let heads = |rows: &[f32]| {
            let rows = Array::from_slice(rows, &[1, positions, kv, dim]);
            rows.transpose_axes(&[0, 2, 1, 3]).map_err(failed)
        };
        let first = self.layers.get(layer).map_or(0, |layer| layer.positions);
        self.append(
            here,
            layer,
            (first, count),
            [&heads(keys)?, &heads(values)?],
        )?;
        let arrays = self.layers[layer].arrays.iter().flatten();
        mlx_rs::transforms::eval(arrays.map(|array| array.get(here))).map_err(failed)
    }
}

fn no_layer(layer: usize) -> Error {
    Error::Shape {
        what: "KV cache".into(),
        expected: "a layer of the model".into(),
        found: format!("layer {layer}"),
    }
}
