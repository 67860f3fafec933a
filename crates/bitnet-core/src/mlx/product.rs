//! Products of rows with a matrix, and rows of a matrix looked up.

use super::activations::Activation;
use super::thread::{MlxThreadToken, Tensor};
use super::weights::{Affine, Matrix, Weights};
use super::{MlxBackend, MlxRows, dimension, failed, width_error};
use crate::{Activations, Error, Result, WeightMatrix};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, Dtype, ops};

/// The most bytes of a table of halves that are widened to f32 at a time.
const WIDENED: usize = 32 << 20;

impl Activation {
    /// Multiplies the rows by `matrix`, of as many columns: `[tokens, rows]`.
    pub(super) fn times(&self, mlx: &MlxThreadToken, matrix: &Matrix) -> Result<MlxRows> {
        let product = match &self.int8 {
            Some(int8) if matrix.ternary => {
                let sums = matrix.sums(mlx, int8.codes.get(mlx))?;
                let sums = sums.divide(int8.scales.get(mlx));
                sums.map_err(failed)?
            }
            _ => matrix.sums(mlx, self.rows.array.get(mlx))?,
        };
        let product = matrix.scaled(product)?;
        Ok(MlxRows::new(product, self.rows.tokens, matrix.rows))
    }

    /// Adds the product with `matrix` to `x`, which is as wide.
    pub(super) fn add_product(
        &self,
        mlx: &MlxThreadToken,
        matrix: &Matrix,
        x: &mut MlxRows,
    ) -> Result<()> {
        let product = self.times(mlx, matrix)?;
        let sum = x.array.get(mlx).add(product.array.get(mlx));
        x.array = Tensor::new(sum.map_err(failed)?);
        Ok(())
    }
}

impl Matrix {
    /// Sums times both scales of the matrix.
    pub(super) fn scaled(&self, sums: Array) -> Result<Array> {
        let factor = self.scale * self.output_scale;
        if factor == 1.0 {
            return Ok(sums);
        }
        sums.multiply(Array::from_f32(factor)).map_err(failed)
    }

    /// `x`, which has `cols` columns, times the matrix, neither scale applied: `[tokens, rows]`.
    pub(super) fn sums(&self, mlx: &MlxThreadToken, x: &Array) -> Result<Array> {
        let padded;
        let x = if self.stored > self.cols {
            let more = dimension(self.stored - self.cols)?;
            padded = ops::pad(x, &[(0, 0), (0, more)], None, None).map_err(failed)?;
            &padded
        } else {
            x
        };
        match &self.weights {
            Weights::Affine(affine) => affine.sums(mlx, x),
            Weights::Dense(table) => self.dense_sums(x, table.get(mlx)).map_err(failed),
        }
    }

    /// f32 rows times a table of floats. Halves are widened, a part of the table at a time, so that sums are those of f32.
    fn dense_sums(&self, x: &Array, table: &Array) -> mlx_rs::error::Result<Array> {
        if table.dtype() == Dtype::Float32 {
            return x.matmul(table.t());
        }
        let step = (WIDENED / (self.stored * size_of::<f32>())).clamp(1, self.rows);
        let mut parts = Vec::new();
        for first in (0..self.rows).step_by(step) {
            let end = self.rows.min(first + step);
            let part = table.try_index(first as i32..end as i32)?;
            parts.push(x.matmul(part.as_dtype(Dtype::Float32)?.t())?);
        }
        match parts.len() {
            1 => Ok(parts.remove(0)),
            _ => ops::concatenate(&parts, -1),
        }
    }

    /// The rows of `tokens`, `[tokens, cols]` f32.
    pub(super) fn gather(&self, mlx: &MlxThreadToken, tokens: &[u32]) -> Result<Array> {
        let ids = Array::from_slice(tokens, &[dimension(tokens.len())?]);
        let rows = match &self.weights {
            Weights::Affine(affine) => affine.gather(mlx, &ids)?,
            Weights::Dense(table) => {
                let rows = table.get(mlx).take_axis(&ids, 0).map_err(failed)?;
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
    fn sums(&self, mlx: &MlxThreadToken, x: &Array) -> Result<Array> {
        #[cfg(target_os = "macos")]
        if let Some(sums) = super::kernel::ternary_rows(mlx, self, x)? {
            return Ok(sums);
        }
        ops::quantized_matmul(
            x,
            self.codes.get(mlx),
            self.groups.scales.get(mlx),
            self.groups.biases.get(mlx),
            true,
            self.group as i32,
            self.bits as i32,
        )
        .map_err(failed)
    }

    fn gather(&self, mlx: &MlxThreadToken, ids: &Array) -> Result<Array> {
        let rows_of = |tensor: &Tensor| tensor.get(mlx).take_axis(ids, 0).map_err(failed);
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

/// A resident matrix, for callers that multiply by themselves: see [`MlxBackend::multiply_prepared`].
#[derive(Debug)]
pub struct MlxMatrix(Matrix);

impl MlxMatrix {
    /// Bytes of weights that a product reads.
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }
}

/// Rows on the device, ready for a matrix: see [`MlxBackend::prepare_rows`].
#[derive(Debug)]
pub struct MlxPreparedRows(Activation);

impl MlxBackend {
    /// Makes a matrix resident by itself.
    ///
    /// # Errors
    /// If a weight is no ternary code or finite number, or memory is short.
    pub fn resident(&self, weights: &WeightMatrix) -> Result<MlxMatrix> {
        self.loader.load(weights).map(MlxMatrix)
    }

    /// Copies f32 rows of `width` to the device, rounded as `activations` say, to be multiplied by several matrices.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` is no whole number of rows, at least one; [`Error::Mlx`].
    pub fn prepare_rows(
        &self,
        x: &[f32],
        width: usize,
        activations: Activations,
    ) -> Result<MlxPreparedRows> {
        if width == 0 || x.is_empty() || !x.len().is_multiple_of(width) {
            return Err(Error::Shape {
                what: "rows to be multiplied".into(),
                expected: format!("at least one row of {width}"),
                found: format!("{} numbers", x.len()),
            });
        }
        let tokens = x.len() / width;
        let shape = [dimension(tokens)?, dimension(width)?];
        self.thread.run(|mlx| {
            let rows = MlxRows::new(Array::from_slice(x, &shape), tokens, width);
            let rows = Activation::new(mlx, &rows, None, activations)?;
            if let Some(int8) = &rows.int8 {
                mlx_rs::transforms::eval([int8.codes.get(mlx), int8.scales.get(mlx)])
                    .map_err(failed)?;
            }
            Ok(MlxPreparedRows(rows))
        })
    }

    /// Multiplies prepared rows by a resident matrix, and waits for the product, `[tokens, rows]`, which stays on the
    /// device.
    ///
    /// # Errors
    /// [`Error::Shape`] if widths differ; [`Error::Mlx`].
    pub fn multiply_prepared(&self, x: &MlxPreparedRows, weights: &MlxMatrix) -> Result<MlxRows> {
        let (MlxPreparedRows(x), MlxMatrix(weights)) = (x, weights);
        if x.rows.width != weights.cols {
            return Err(width_error(&weights.name, weights.cols, x.rows.width));
        }
        self.thread.run(|mlx| {
            let product = x.times(mlx, weights)?;
            product.array.get(mlx).eval().map_err(failed)?;
            Ok(product)
        })
    }
}
