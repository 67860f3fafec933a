//! Rows of activations, and what happens to each of them alone.

use super::thread::{Here, Tensor};
use super::weights::{Affine, Matrix, Weights};
use super::{dimension, failed, width_error};
use crate::{Activations, Gate, Norm, Result};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Dtype, fast, ops};

/// f32 rows, `tokens × width`: recorded, and computed when they are asked for.
pub struct MlxRows {
    pub(super) array: Tensor,
    pub(super) tokens: usize,
    pub(super) width: usize,
}

/// Rows ready to be multiplied.
pub struct MlxActivation {
    pub(super) rows: MlxRows,
    /// Rounded to int8, unless activations stay f32.
    int8: Option<Int8>,
}

/// Whole numbers from −128 to 127, as f32, and what their rows were multiplied by before they were rounded, `[tokens, 1]`.
struct Int8 {
    codes: Tensor,
    scales: Tensor,
}

/// A norm's gains.
pub struct MlxGain {
    pub(super) array: Tensor,
    pub(super) len: usize,
}

impl std::fmt::Debug for MlxRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MlxRows")
            .field("tokens", &self.tokens)
            .field("width", &self.width)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for MlxActivation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MlxActivation")
            .field("rows", &self.rows)
            .field("rounded", &self.int8.is_some())
            .finish()
    }
}

impl std::fmt::Debug for MlxGain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MlxGain")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl MlxRows {
    pub(super) fn new(array: Array, tokens: usize, width: usize) -> Self {
        Self {
            array: Tensor::new(array),
            tokens,
            width,
        }
    }
}

/// RMSNorm of the last axis of `x`, which is `width` wide.
pub(super) fn normed(
    here: &Here,
    x: &Array,
    width: usize,
    norm: Norm<'_, MlxGain>,
) -> Result<Array> {
    if norm.gain.len != width {
        return Err(width_error("norm gain", width, norm.gain.len));
    }
    fast::rms_norm(x, Some(norm.gain.array.get(here)), norm.eps).map_err(failed)
}

impl MlxActivation {
    /// `x`, normed if asked and rounded if asked.
    pub(super) fn new(
        here: &Here,
        x: &Array,
        (tokens, width): (usize, usize),
        norm: Option<Norm<'_, MlxGain>>,
        activations: Activations,
    ) -> Result<Self> {
        let x = match norm {
            Some(norm) => normed(here, x, width, norm)?,
            None => x.clone(),
        };
        let int8 = match activations {
            Activations::Int8 => Some(Int8::round(&x).map_err(failed)?),
            Activations::F32 => None,
        };
        Ok(Self {
            rows: MlxRows::new(x, tokens, width),
            int8,
        })
    }

    /// Multiplies the rows by `matrix`: `[tokens, rows]`.
    pub(super) fn times(&self, here: &Here, matrix: &Matrix) -> Result<MlxRows> {
        let MlxRows { tokens, width, .. } = self.rows;
        if width != matrix.cols {
            return Err(width_error(&matrix.name, matrix.cols, width));
        }
        let product = match &self.int8 {
            Some(int8) if matrix.ternary => {
                let sums = matrix.sums(here, int8.codes.get(here))?;
                let sums = sums.divide(int8.scales.get(here));
                sums.map_err(failed)?
            }
            _ => matrix.sums(here, self.rows.array.get(here))?,
        };
        let factor = matrix.scale * matrix.output_scale;
        let product = if factor == 1.0 {
            product
        } else {
            product.multiply(Array::from_f32(factor)).map_err(failed)?
        };
        Ok(MlxRows::new(product, tokens, matrix.rows))
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

/// The most bytes of a table of halves that are widened to f32 at a time.
const WIDENED: usize = 32 << 20;

impl Matrix {
    /// `x`, which has `cols` columns, times the matrix, neither scale applied: `[tokens, rows]`.
    pub(super) fn sums(&self, here: &Here, x: &Array) -> Result<Array> {
        let padded;
        let x = if self.stored > self.cols {
            let more = dimension(self.stored - self.cols)?;
            padded = ops::pad(x, &[(0, 0), (0, more)], None, None).map_err(failed)?;
            &padded
        } else {
            x
        };
        match &self.weights {
            Weights::Affine(affine) => affine.sums(here, x),
            Weights::Dense(table) => self.dense_sums(x, table.get(here)).map_err(failed),
        }
    }

    /// f32 rows times a table of floats. Halves are widened, a piece of the table at a time, so that sums are those of f32.
    fn dense_sums(&self, x: &Array, table: &Array) -> mlx_rs::error::Result<Array> {
        if table.dtype() == Dtype::Float32 {
            return x.matmul(table.t());
        }
        let step = (WIDENED / (self.stored * size_of::<f32>())).clamp(1, self.rows);
        let mut pieces = Vec::new();
        for first in (0..self.rows).step_by(step) {
            let end = self.rows.min(first + step);
            let piece = table.try_index(first as i32..end as i32)?;
            pieces.push(x.matmul(piece.as_dtype(Dtype::Float32)?.t())?);
        }
        match pieces.len() {
            1 => Ok(pieces.remove(0)),
            _ => ops::concatenate(&pieces, -1),
        }
    }

    /// The rows of `tokens`, `[tokens, cols]` f32.
    pub(super) fn gather(&self, here: &Here, tokens: &[u32]) -> Result<Array> {
        let ids = Array::from_slice(tokens, &[dimension(tokens.len())?]);
        let rows = match &self.weights {
            Weights::Affine(affine) => affine.gather(here, &ids)?,
            Weights::Dense(table) => {
                let rows = table.get(here).take_axis(&ids, 0).map_err(failed)?;
                rows.as_dtype(Dtype::Float32).map_err(failed)?
            }
        };
        let rows = if self.stored > self.cols {
            let cols = dimension(self.cols)?;
            rows.try_index((.., ..cols)).map_err(failed)?
        } else {
            rows
        };
        if self.scale == 1.0 {
            return Ok(rows);
        }
        rows.multiply(Array::from_f32(self.scale)).map_err(failed)
    }
}

impl Affine {
    fn sums(&self, here: &Here, x: &Array) -> Result<Array> {
        #[cfg(target_os = "macos")]
        if let Some(sums) = super::kernel::ternary_rows(here, self, x)? {
            return Ok(sums);
        }
        ops::quantized_matmul(
            x,
            self.codes.get(here),
            self.groups.scales.get(here),
            self.groups.biases.get(here),
            true,
            self.group as i32,
            self.bits as i32,
        )
        .map_err(failed)
    }

    fn gather(&self, here: &Here, ids: &Array) -> Result<Array> {
        let rows_of = |tensor: &Tensor| tensor.get(here).take_axis(ids, 0).map_err(failed);
        let biases = rows_of(&self.groups.biases)?;
        ops::dequantize(
            rows_of(&self.codes)?,
            rows_of(&self.groups.scales)?,
            &biases,
            self.group as i32,
            self.bits as i32,
        )
        .map_err(failed)
    }
}

/// function(gate) · up.
pub(super) fn gated(gate: &Array, up: &Array, function: Gate) -> mlx_rs::error::Result<Array> {
    let gate = match function {
        Gate::Relu2 => ops::maximum(gate, Array::from_f32(0.0))?.square()?,
        Gate::Silu => gate.multiply(ops::sigmoid(gate)?)?,
    };
    gate.multiply(up)
}
