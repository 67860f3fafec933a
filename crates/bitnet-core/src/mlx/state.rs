//! Keys and values of one sequence, in f32, in arrays that grow as positions are added.
//!
//! A layer has `[1, kv heads, room, dim]` of each: MLX's attention reads the first positions of every head where they lie.
//! New positions are written into the room there is. MLX writes them in place if the state has the only handle of an
//! array; an array that a fork shares it copies first.

use super::thread::{MlxThreadToken, Tensor};
use super::{REFUSED_BY, dimension, failed, width_error};
use crate::pool::Movement;
use crate::{AttentionHeads, Error, HybridMemoryPool, MixerState, Result, SequenceState};
use mlx_rs::Array;
use mlx_rs::ops::indexing::{TryIndexMutOp, TryIndexOp};
use mlx_rs::ops::{concatenate, zeros};
use std::ops::Range;

/// Positions that a layer's first arrays have room for, and the least by which they grow.
const STEP: usize = 256;

/// The state of one sequence on the MLX backend.
#[derive(Debug)]
pub struct MlxState {
    layers: Vec<Layer>,
    capacity: usize,
    /// Positions that have run. A batch writes behind them.
    len: usize,
    pool: HybridMemoryPool,
}

#[derive(Debug)]
struct Layer {
    heads: AttentionHeads,
    /// `None` until the first batch.
    arrays: Option<KeysValues>,
}

/// Keys and values of one layer.
#[derive(Debug)]
struct KeysValues {
    arrays: [Tensor; 2],
    /// Positions that the arrays have room for.
    room: usize,
}

impl Layer {
    /// The shape of the keys, or of the values, of some positions.
    fn shape(&self, positions: usize) -> Result<[i32; 4]> {
        let AttentionHeads { kv, dim, .. } = self.heads;
        Ok([1, dimension(kv)?, dimension(positions)?, dimension(dim)?])
    }

    /// Positions that there is room for.
    fn room(&self) -> usize {
        self.arrays.as_ref().map_or(0, |arrays| arrays.room)
    }

    /// Makes room for `positions`, at most `capacity`, and keeps the first `len`.
    fn reserve(
        &mut self,
        mlx: &MlxThreadToken,
        len: usize,
        positions: usize,
        capacity: usize,
        pool: &HybridMemoryPool,
    ) -> Result<()> {
        let room = self.room();
        if positions <= room {
            return Ok(());
        }
        let grown = positions.next_multiple_of(STEP).max(room + room / 2);
        let room = grown.min(capacity);
        let (end, more) = (dimension(len)?, self.shape(room - len)?);
        let fill = || zeros::<f32>(&more).map_err(failed);
        let arrays = match &self.arrays {
            Some(old) if len > 0 => {
                let bytes = 2 * len * self.heads.kv_width() * size_of::<f32>();
                pool.zero_copy().record(Movement::Copy, bytes);
                let grow = |old: &Tensor| {
                    let old = old.get(mlx).try_index((.., .., ..end));
                    let parts = [old.map_err(failed)?, fill()?];
                    concatenate(&parts, 2).map_err(failed)
                };
                [grow(&old.arrays[0])?, grow(&old.arrays[1])?]
            }
            _ => [fill()?, fill()?],
        };
        self.arrays = Some(KeysValues {
            arrays: arrays.map(Tensor::new),
            room,
        });
        Ok(())
    }
}

impl SequenceState for MlxState {
    fn len(&self) -> usize {
        self.len
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        if self.len == 0 {
            self.release();
        }
    }

    fn bytes(&self) -> usize {
        let floats = |layer: &Layer| 2 * layer.room() * layer.heads.kv_width();
        self.layers.iter().map(floats).sum::<usize>() * size_of::<f32>()
    }

    /// Forks share nothing here.
    fn bytes_for(&self, positions: Range<usize>) -> usize {
        let widths = self.layers.iter().map(|layer| layer.heads.kv_width());
        let floats = positions.end.saturating_mul(2 * widths.sum::<usize>());
        floats.saturating_mul(size_of::<f32>())
    }

    fn bytes_beyond(&self, _: usize) -> usize {
        self.bytes()
    }
}

impl MlxState {
    /// # Errors
    /// As [`Backend::state`](crate::Backend::state).
    pub(super) fn new(
        pool: &HybridMemoryPool,
        mixers: &[MixerState],
        capacity: usize,
    ) -> Result<Self> {
        dimension(capacity)?;
        let layers = mixers.iter().map(|mixer| {
            let heads = mixer.keys_values(REFUSED_BY)?;
            heads.check()?;
            dimension(heads.query_width())?;
            Ok(Layer {
                heads: *heads,
                arrays: None,
            })
        });
        Ok(Self {
            layers: layers.collect::<Result<_>>()?,
            capacity,
            len: 0,
            pool: pool.clone(),
        })
    }

    /// Another sequence that shares the arrays of the first `len` positions until one of both writes to them.
    pub(super) fn fork(&self, mlx: &MlxThreadToken, len: usize) -> Self {
        let len = len.min(self.len);
        let layers = self.layers.iter().map(|layer| Layer {
            heads: layer.heads,
            arrays: layer.arrays.as_ref().filter(|_| len > 0).map(|shared| {
                let arrays = shared.arrays.each_ref().map(|array| array.share(mlx));
                let room = shared.room;
                KeysValues { arrays, room }
            }),
        });
        Self {
            layers: layers.collect(),
            capacity: self.capacity,
            len,
            pool: self.pool.clone(),
        }
    }

    fn release(&mut self) {
        for layer in &mut self.layers {
            layer.arrays = None;
        }
    }

    fn layer(&self, layer: usize) -> Result<&Layer> {
        self.layers.get(layer).ok_or_else(|| no_layer(layer))
    }

    /// The widths of `layer`.
    pub(super) fn heads(&self, layer: usize) -> Result<AttentionHeads> {
        Ok(self.layer(layer)?.heads)
    }

    /// The length after `count` more positions.
    fn end(&self, count: usize) -> Result<usize> {
        let end = self.len.saturating_add(count);
        if end > self.capacity {
            return Err(Error::Shape {
                what: "KV cache".into(),
                expected: format!("at most {} positions", self.capacity),
                found: format!("{end} positions"),
            });
        }
        Ok(end)
    }

    /// Makes room for a batch of `count` positions. An empty sequence begins with new arrays: if a batch failed, those it
    /// wrote to may never be computed.
    pub(super) fn begin(&mut self, mlx: &MlxThreadToken, count: usize) -> Result<()> {
        if self.len == 0 {
            self.release();
        }
        self.reserve(mlx, count)
    }

    /// Makes room for `count` positions behind those there are.
    fn reserve(&mut self, mlx: &MlxThreadToken, count: usize) -> Result<()> {
        let end = self.end(count)?;
        for layer in &mut self.layers {
            layer.reserve(mlx, self.len, end, self.capacity, &self.pool)?;
        }
        Ok(())
    }

    /// Writes keys and values of `count` positions, `[1, kv heads, count, dim]` each, behind those that have run, for
    /// which there is room.
    pub(super) fn write(
        &mut self,
        mlx: &MlxThreadToken,
        layer: usize,
        count: usize,
        rows: [&Array; 2],
    ) -> Result<()> {
        let end = self.end(count)?;
        let (first, last) = (dimension(self.len)?, dimension(end)?);
        let found = self.layers.get_mut(layer).ok_or_else(|| no_layer(layer))?;
        let room = found.room();
        let Some(layer) = found.arrays.as_mut().filter(|_| end <= room) else {
            return Err(Error::Shape {
                what: "KV cache".into(),
                expected: format!("room for {end} positions, which `embed` makes"),
                found: format!("room for {room}"),
            });
        };
        for (array, rows) in layer.arrays.iter_mut().zip(rows) {
            let array = array.get_mut(mlx);
            array
                .try_index_mut((.., .., first..last), rows)
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Keys and values of the first `positions` of `layer`, `[1, kv heads, positions, dim]`.
    pub(super) fn keys_values(
        &self,
        mlx: &MlxThreadToken,
        layer: usize,
        positions: usize,
    ) -> Result<[Array; 2]> {
        let found = self.layer(layer)?;
        let room = found.room();
        let Some(layer) = found.arrays.as_ref().filter(|_| positions <= room) else {
            return Err(Error::Shape {
                what: format!("keys and values of layer {layer}"),
                expected: format!("{positions} positions"),
                found: format!("room for {room}"),
            });
        };
        let end = dimension(positions)?;
        let first = |array: &Tensor| array.get(mlx).try_index((.., .., ..end)).map_err(failed);
        let [keys, values] = &layer.arrays;
        Ok([first(keys)?, first(values)?])
    }

    /// Counts `count` positions that were written to every layer.
    pub(super) fn advance(&mut self, count: usize) {
        self.len += count;
    }

    /// Keys and values of `layer` in the order of their positions, `[position][kv head][dim]` each.
    pub(super) fn rows(&self, mlx: &MlxThreadToken, layer: usize) -> Result<[Vec<f32>; 2]> {
        self.layer(layer)?;
        if self.len == 0 {
            return Ok([Vec::new(), Vec::new()]);
        }
        let [keys, values] = self.keys_values(mlx, layer, self.len)?;
        let rows = |array: Array| {
            let rows = array
                .transpose_axes(&[0, 2, 1, 3])
                .and_then(|a| a.contiguous());
            super::numbers(mlx, &rows.map_err(failed)?)
        };
        Ok([rows(keys)?, rows(values)?])
    }

    /// Writes rows as [`rows`](Self::rows) gives them behind the positions of `layer`.
    pub(super) fn write_rows(
        &mut self,
        mlx: &MlxThreadToken,
        layer: usize,
        keys: &[f32],
        values: &[f32],
    ) -> Result<()> {
        let stride = self.heads(layer)?.kv_width();
        if keys.len() != values.len() || !keys.len().is_multiple_of(stride) {
            return Err(width_error("keys and values", keys.len(), values.len()));
        }
        let count = keys.len() / stride;
        let end = self.end(count)?;
        if count == 0 {
            return Ok(());
        }
        let (len, capacity) = (self.len, self.capacity);
        self.layers[layer].reserve(mlx, len, end, capacity, &self.pool)?;
        let [_, kv, positions, dim] = self.layers[layer].shape(count)?;
        let heads = |rows: &[f32]| {
            let rows = Array::from_slice(rows, &[1, positions, kv, dim]);
            rows.transpose_axes(&[0, 2, 1, 3]).map_err(failed)
        };
        self.write(mlx, layer, count, [&heads(keys)?, &heads(values)?])?;
        let [keys, values] = self.keys_values(mlx, layer, end)?;
        mlx_rs::transforms::eval([&keys, &values]).map_err(failed)
    }

    /// Counts positions that were written by [`write_rows`](Self::write_rows).
    pub(super) fn complete(&mut self, mlx: &MlxThreadToken, positions: usize) -> Result<()> {
        self.reserve(mlx, positions)?;
        self.advance(positions);
        Ok(())
    }
}

fn no_layer(layer: usize) -> Error {
    Error::Shape {
        what: "KV cache".into(),
        expected: "a layer of the model".into(),
        found: format!("layer {layer}"),
    }
}
