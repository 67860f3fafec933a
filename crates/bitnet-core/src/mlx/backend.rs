//! [`Backend`] for [`MlxBackend`].

use super::rows::{gated, normed};
use super::thread::{Here, Tensor};
use super::weights::Matrix;
use super::{
    MlxActivation, MlxBackend, MlxCache, MlxGain, MlxMatrix, MlxRotations, MlxRows, MlxTable,
    attention, dimension, failed, width_error,
};
use crate::head::HeadStats;
use crate::pool::Movement;
use crate::{
    Activations, Backend, Candidate, Error, Gate, HeadMode, Heads, HybridMemoryPool, Input, Norm,
    Pending, Result, Rope, Top, WeightMatrix,
};
use mlx_rs::Array;
use mlx_rs::ops::indexing::TryIndexOp;

impl MlxBackend {
    /// The logits of the rows `first..` of `x`, read where they lie.
    fn logits<R: Send>(
        &self,
        x: &MlxRows,
        first: usize,
        norm: Norm<'_, MlxGain>,
        table: &Matrix,
        read: impl FnOnce(&[f32]) -> R + Send,
    ) -> Result<R> {
        if x.width != table.cols {
            return Err(width_error(&table.name, table.cols, x.width));
        }
        self.thread.run(|here| {
            let x_array = x.array.get(here);
            if first >= x.tokens {
                normed(here, x_array, x.width, norm)?;
                return Ok(read(&[]));
            }
            let rows = if first == 0 {
                x_array.clone()
            } else {
                x_array.try_index(dimension(first)?..).map_err(failed)?
            };
            let rows = normed(here, &rows, x.width, norm)?;
            let factor = table.scale * table.output_scale;
            let mut logits = table.sums(here, &rows)?;
            if factor != 1.0 {
                logits = logits.multiply(Array::from_f32(factor)).map_err(failed)?;
            }
            let logits = logits.contiguous().map_err(failed)?;
            let logits = logits.try_as_slice::<f32>().map_err(|error| Error::Mlx {
                why: error.to_string(),
            })?;
            Ok(read(logits))
        })
    }
}

/// Rows of as many tokens and columns.
fn same_shape(what: &str, one: &MlxRows, other: &MlxRows) -> Result<()> {
    if one.tokens == other.tokens && one.width == other.width {
        return Ok(());
    }
    Err(Error::Shape {
        what: what.into(),
        expected: format!("{} rows of {}", one.tokens, one.width),
        found: format!("{} rows of {}", other.tokens, other.width),
    })
}

fn activation(
    here: &Here,
    x: &MlxRows,
    norm: Option<Norm<'_, MlxGain>>,
    activations: Activations,
) -> Result<MlxActivation> {
    let shape = (x.tokens, x.width);
    MlxActivation::new(here, x.array.get(here), shape, norm, activations)
}

impl Backend for MlxBackend {
    type Matrix = MlxMatrix;
    type Table = MlxTable;
    type Gain = MlxGain;
    type Hidden = MlxRows;
    type Activation = MlxActivation;
    type Cache = MlxCache;
    type Rotations = MlxRotations;

    fn describe(&self) -> String {
        format!("mlx ({})", self.device())
    }

    fn pool(&self) -> &HybridMemoryPool {
        &self.loader.pool
    }

    fn scope<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.thread.run(|_| work())
    }

    fn matrix(&self, weights: WeightMatrix) -> Result<MlxMatrix> {
        self.loader.load(&weights).map(MlxMatrix)
    }

    fn table(&self, weights: WeightMatrix) -> Result<MlxTable> {
        self.loader.load(&weights).map(MlxTable)
    }

    fn head_table(&self, weights: WeightMatrix, mode: HeadMode) -> Result<MlxTable> {
        if mode == HeadMode::Screened {
            tracing::warn!("{}: MLX reads all of a head", weights.name());
        }
        self.table(weights)
    }

    fn gain(&self, values: Vec<f32>) -> Result<MlxGain> {
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(Error::Value {
                what: format!("norm gain {index}"),
                expected: "a finite number".into(),
                found: values[index].to_string(),
            });
        }
        let len = values.len();
        let shape = [dimension(len)?];
        let array = self
            .thread
            .run(|_| Tensor::new(Array::from_slice(&values, &shape)));
        Ok(MlxGain { array, len })
    }

    fn cache(&self, layers: usize, heads: Heads, capacity: usize) -> Result<MlxCache> {
        MlxCache::new(self.pool(), layers, heads, capacity)
    }

    fn truncate(&self, cache: &mut MlxCache, len: usize) {
        cache.truncate(len);
    }

    fn cache_bytes(&self, cache: &MlxCache) -> usize {
        cache.bytes()
    }

    fn read_layer(&self, cache: &MlxCache, layer: usize) -> Result<[Vec<f32>; 2]> {
        self.thread.run(|here| cache.rows(here, layer))
    }

    fn restore_layer(
        &self,
        cache: &mut MlxCache,
        layer: usize,
        keys: &[f32],
        values: &[f32],
    ) -> Result<()> {
        self.thread
            .run(|here| cache.restore(here, layer, keys, values))
    }

    fn rotations(&self, rope: &Rope, first: usize, count: usize) -> Result<MlxRotations> {
        self.thread
            .run(|here| MlxRotations::new(here, rope, first, count))
    }

    fn embed(&self, table: &MlxTable, input: Input<'_>, cache: &MlxCache) -> Result<MlxRows> {
        let Input::Tokens(tokens) = input else {
            return Err(Error::Unavailable {
                what: "the chosen token".into(),
                why: "MLX gives every token at once".into(),
            });
        };
        let table = &table.0;
        if tokens.is_empty() {
            return Err(Error::Shape {
                what: "tokens for MLX".into(),
                expected: "at least one".into(),
                found: "none".into(),
            });
        }
        if let Some(token) = tokens.iter().find(|token| **token as usize >= table.rows) {
            return Err(Error::Value {
                what: "token".into(),
                expected: format!("below the vocabulary's {}", table.rows),
                found: token.to_string(),
            });
        }
        let positions = cache.positions().saturating_add(tokens.len());
        if positions > cache.capacity() {
            return Err(Error::Shape {
                what: "KV cache".into(),
                expected: format!("at most {} positions", cache.capacity()),
                found: format!("{positions} positions"),
            });
        }
        let bytes = tokens.len() * table.cols * size_of::<f32>();
        self.pool().zero_copy().record(Movement::Copy, bytes);
        let array = self
            .thread
            .run(|here| table.gather(here, tokens).map(Tensor::new))?;
        Ok(MlxRows {
            array,
            tokens: tokens.len(),
            width: table.cols,
        })
    }

    fn norm_quantize(
        &self,
        x: &MlxRows,
        norm: Option<Norm<'_, MlxGain>>,
        activations: Activations,
    ) -> Result<MlxActivation> {
        self.thread
            .run(|here| activation(here, x, norm, activations))
    }

    fn matmul(&self, a: &MlxActivation, weights: &[&MlxMatrix]) -> Result<Vec<MlxRows>> {
        self.thread.run(|here| {
            let products = weights.iter().map(|matrix| a.times(here, &matrix.0));
            products.collect()
        })
    }

    fn matmul_add(
        &self,
        a: &MlxActivation,
        weights: &MlxMatrix,
        residual: &mut MlxRows,
    ) -> Result<()> {
        self.thread.run(|here| {
            let product = a.times(here, &weights.0)?;
            same_shape(&weights.0.name, residual, &product)?;
            let sum = residual.array.get(here).add(product.array.get(here));
            residual.array = Tensor::new(sum.map_err(failed)?);
            Ok(())
        })
    }

    fn rope_append(
        &self,
        q: &mut MlxRows,
        k: MlxRows,
        v: MlxRows,
        head_norms: Option<[Norm<'_, MlxGain>; 2]>,
        rotations: &MlxRotations,
        cache: &mut MlxCache,
        layer: usize,
    ) -> Result<()> {
        let bytes = (k.tokens * k.width + v.tokens * v.width) * size_of::<f32>();
        self.pool().zero_copy().record(Movement::Copy, bytes);
        self.thread.run(|here| {
            attention::rope_append(here, q, &k, &v, head_norms, rotations, cache, layer)
        })
    }

    fn attention(&self, q: &MlxRows, cache: &MlxCache, layer: usize) -> Result<MlxRows> {
        let (rows, movement, bytes) = self
            .thread
            .run(|here| attention::attention(here, q, cache, layer))?;
        self.pool().zero_copy().record(movement, bytes);
        Ok(rows)
    }

    fn attention_weights(&self, q: &MlxRows, cache: &MlxCache, layer: usize) -> Result<Vec<f32>> {
        self.thread
            .run(|here| attention::weights_of_last(here, q, cache, layer))
    }

    fn gate_norm_quantize(
        &self,
        gate: MlxRows,
        up: MlxRows,
        function: Gate,
        norm: Option<Norm<'_, MlxGain>>,
        activations: Activations,
    ) -> Result<MlxActivation> {
        same_shape("up projection", &gate, &up)?;
        self.thread.run(|here| {
            let array = gated(gate.array.get(here), up.array.get(here), function);
            let rows = MlxRows {
                array: Tensor::new(array.map_err(failed)?),
                ..gate
            };
            activation(here, &rows, norm, activations)
        })
    }

    fn head(
        &self,
        x: &MlxRows,
        first: usize,
        norm: Norm<'_, MlxGain>,
        table: &MlxTable,
    ) -> Result<Pending<Vec<f32>>> {
        let logits = self.logits(x, first, norm, &table.0, <[f32]>::to_vec)?;
        Ok(Pending::ready(logits))
    }

    fn head_top(
        &self,
        x: &MlxRows,
        first: usize,
        norm: Norm<'_, MlxGain>,
        table: &MlxTable,
        top: &Top<'_>,
        _: &mut MlxCache,
    ) -> Result<Pending<Vec<Vec<Candidate>>>> {
        let vocabulary = table.0.rows;
        let candidates = self.logits(x, first, norm, &table.0, |logits| {
            let rows = logits.chunks_exact(vocabulary);
            rows.map(|logits| top.of_logits(logits)).collect()
        })?;
        Ok(Pending::ready(candidates))
    }

    fn run(&self, x: MlxRows) -> Result<()> {
        self.thread
            .run(|here| x.array.get(here).eval().map_err(failed))
    }

    fn matrix_bytes(&self, matrix: &MlxMatrix) -> usize {
        matrix.0.bytes
    }

    fn head_bytes(&self, table: &MlxTable) -> usize {
        table.0.bytes
    }

    fn head_stats(&self, _: &MlxTable) -> Option<HeadStats> {
        None
    }
}
