//! Rows of activations, and the operations on each of them alone: norm, rounding to int8, gate.

use super::thread::{MlxThreadToken, Tensor, Thread};
use super::{REFUSED_BY, dimension, failed, width_error};
use crate::{Activations, Error, Gate, NormWeights, Result};
use mlx_rs::{Array, fast, ops};

/// f32 rows, `tokens × width`: recorded, and computed when they are read.
#[derive(Debug)]
pub struct MlxRows {
    pub(super) array: Tensor,
    pub(super) tokens: usize,
    pub(super) width: usize,
}

impl MlxRows {
    pub(super) fn new(array: Array, tokens: usize, width: usize) -> Self {
        Self {
            array: Tensor::new(array),
            tokens,
            width,
        }
    }

    /// Refuses rows that are not those of a batch of `tokens` rows of a model of width `width`.
    pub(super) fn check(&self, tokens: usize, width: usize) -> Result<()> {
        if self.width != width {
            return Err(width_error("rows of a batch", width, self.width));
        }
        if self.tokens != tokens {
            return Err(Error::Shape {
                what: "rows of a batch".into(),
                expected: format!("{tokens} rows"),
                found: format!("{} rows", self.tokens),
            });
        }
        Ok(())
    }
}

/// RMSNorm, its weights resident.
#[derive(Debug)]
pub(super) struct Norm {
    weight: Tensor,
    eps: f32,
}

impl Norm {
    /// Makes a norm resident that was checked.
    pub(super) fn load(thread: Thread, weights: &NormWeights) -> Result<Self> {
        let shape = [dimension(weights.weight.len())?];
        let array = thread.run(|_| Tensor::new(Array::from_slice(&weights.weight, &shape)));
        Ok(Self {
            weight: array,
            eps: weights.eps,
        })
    }

    /// Norms the last axis of `x`.
    pub(super) fn apply(&self, mlx: &MlxThreadToken, x: &Array) -> Result<Array> {
        fast::rms_norm(x, Some(self.weight.get(mlx)), self.eps).map_err(failed)
    }
}

/// Rows ready to be multiplied.
#[derive(Debug)]
pub(super) struct Activation {
    pub(super) rows: MlxRows,
    /// Their rounding, unless activations stay f32.
    pub(super) int8: Option<Int8>,
}

/// Rows rounded to int8.
#[derive(Debug)]
pub(super) struct Int8 {
    /// Integers from −128 to 127, as f32.
    pub(super) codes: Tensor,
    /// The factor of each row before rounding, `[tokens, 1]`.
    pub(super) scales: Tensor,
}

impl Activation {
    /// `x`, normed if asked and rounded if asked.
    pub(super) fn new(
        mlx: &MlxThreadToken,
        x: &MlxRows,
        norm: Option<&Norm>,
        activations: Activations,
    ) -> Result<Self> {
        let array = x.array.get(mlx);
        let array = match norm {
            Some(norm) => norm.apply(mlx, array)?,
            None => array.clone(),
        };
        activations.without_groups(REFUSED_BY)?;
        let int8 = match activations {
            Activations::Int8 => Some(Int8::round(&array).map_err(failed)?),
            Activations::Int8Groups | Activations::F32 => None,
        };
        Ok(Self {
            rows: MlxRows::new(array, x.tokens, x.width),
            int8,
        })
    }
}

impl Int8 {
    /// Every row times 127 / max(|x|, 1e-5), rounded half to even; NaN becomes 0.
    fn round(x: &Array) -> mlx_rs::error::Result<Self> {
        let x = ops::select(x.is_nan()?, Array::from_f32(0.0), x)?;
        let largest = x.abs()?.max_axis(-1, true)?;
        let largest = ops::maximum(largest, Array::from_f32(1e-5))?;
        let scales = Array::from_f32(127.0).divide(largest)?;
        let codes = x.multiply(&scales)?.round(0)?;
        let codes = ops::maximum(codes, Array::from_f32(-128.0))?;
        let codes = ops::minimum(codes, Array::from_f32(127.0))?;
        Ok(Self {
            codes: Tensor::new(codes),
            scales: Tensor::new(scales),
        })
    }
}

/// √(2/π).
const SQRT_2_OVER_PI: f32 = 0.797_884_6;

/// function(gate) · up.
pub(super) fn gated(gate: &Array, up: &Array, function: Gate) -> mlx_rs::error::Result<Array> {
    let gate = match function {
        Gate::Relu2 => ops::maximum(gate, Array::from_f32(0.0))?.square()?,
        Gate::Silu => gate.multiply(ops::sigmoid(gate)?)?,
        Gate::Gelu => {
            let cube = gate
                .square()?
                .multiply(gate)?
                .multiply(Array::from_f32(0.044_715))?;
            let inner = gate.add(cube)?.multiply(Array::from_f32(SQRT_2_OVER_PI))?;
            let half = gate.multiply(Array::from_f32(0.5))?;
            half.multiply(ops::tanh(&inner)?.add(Array::from_f32(1.0))?)?
        }
    };
    gate.multiply(up)
}
