//! Rows of f32 times any matrix: every weight is decoded to f32, and each product is one dot in the fixed order.

use super::{CpuBackend, Rows, shape_error};
use crate::device::Operation;
use crate::zero_copy::Movement;
use crate::{Result, Tag, WeightMatrix};
use bitnet_quant::Format;

impl CpuBackend {
    /// f32 rows times any matrix, each weight decoded to f32.
    pub(super) fn dense(&self, x: &Rows, weights: &WeightMatrix) -> Result<Rows> {
        let mut product = Rows::new(&self.pool, x.tokens, weights.rows())?;
        self.dense_into(x, weights, &mut product.values)?;
        Ok(product)
    }

    /// [`dense`](Self::dense) into `[tokens, rows]` floats.
    pub(super) fn dense_into(
        &self,
        x: &Rows,
        weights: &WeightMatrix,
        product: &mut [f32],
    ) -> Result<()> {
        if weights.cols() != x.width {
            return Err(shape_error(weights.name(), weights.cols(), x.width));
        }
        let factor = weights.output_scale();
        let format = weights.format();
        let direct = format == Format::F16 && x.tokens <= self.crossovers.direct_up_to(format);
        if direct {
            self.moved(Movement::ZeroCopy, weights.data().len());
        } else {
            let decoded = weights.rows() * weights.stored_cols();
            self.moved(Movement::Copy, decoded * size_of::<f32>());
        }
        let work = |first: usize, out: &mut [f32]| {
            let mut decoded = self
                .pool
                .buffer_uninit(weights.stored_cols(), Tag::Scratch)?;
            let rows = weights.row_range(first, out.len() / x.tokens);
            for (row, out) in rows.zip(out.chunks_exact_mut(x.tokens)) {
                if !direct {
                    format.decode_row(row, weights.scale(), &mut decoded)?;
                }
                for (out, x) in out.iter_mut().zip(x.values.chunks_exact(x.width)) {
                    let sum = if direct {
                        (self.kernels.dot_f16)(x, row)
                    } else {
                        (self.kernels.dot)(x, &decoded[..x.len()])
                    };
                    *out = sum * factor;
                }
            }
            Ok(())
        };
        self.by_weight_row(Operation::DenseMatmul, x.tokens, weights, product, work)
    }
}
