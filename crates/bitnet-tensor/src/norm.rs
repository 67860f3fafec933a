//! Softmax and normalization along the last axes, in f32 whatever the element type.

use crate::element::gather;
use crate::layout::axis_index;
use crate::pieces::in_pieces;
use crate::storage::fill;
use crate::{BitNetDType, BitNetTensor, refusal};
use bitnet_core::{Result, simd};

impl BitNetTensor {
    /// eˣ / Σ eˣ along `axis`.
    ///
    /// # Errors
    /// If the axis does not exist, the elements are no floats, or memory is short.
    pub fn softmax(&self, axis: i32) -> Result<Self> {
        let index = axis_index("softmax", axis, &self.layout.shape)?;
        let last = self.rank() as i32 - 1;
        let turned = self.transpose(index as i32, last)?;
        let len = turned.layout.shape[last as usize];
        turned
            .map_rows("softmax", len, simd::softmax_in_place)?
            .transpose(index as i32, last)
    }

    /// (x − mean) / √(variance + eps) · gain + bias over the last axes, which have the shape `normalized`; so have `gain`
    /// and `bias`, which are 1 and 0 if not given. The variance is that of the elements themselves.
    ///
    /// ```
    /// # use bitnet_core::{Device, HybridMemoryPool};
    /// # use bitnet_tensor::BitNetTensor;
    /// # fn main() -> bitnet_core::Result<()> {
    /// let t = BitNetTensor::arange(0.0, 8.0, 1.0, &Device::Cpu, HybridMemoryPool::global())?.reshape(&[2, 4])?;
    /// let normed = t.layer_norm(&[4], None, None, 1e-5)?;
    /// assert!(normed.mean(-1, false)?.to_vec::<f32>()?.iter().all(|mean| mean.abs() < 1e-6));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the shapes do not fit, the types differ or are no floats, or memory is short.
    pub fn layer_norm(
        &self,
        normalized: &[usize],
        gain: Option<&Self>,
        bias: Option<&Self>,
        eps: f32,
    ) -> Result<Self> {
        const OP: &str = "layer_norm";
        let len = self.trailing(OP, normalized)?;
        let gain = self.factors(OP, "gain", normalized, gain)?;
        let bias = self.factors(OP, "bias", normalized, bias)?;
        let (gain, bias) = (values(gain.as_ref())?, values(bias.as_ref())?);
        self.map_rows(OP, len, |row| {
            simd::layer_norm_in_place(row, gain, bias, eps)
        })
    }

    /// x / √(mean(x²) + eps) · gain over the last axes, which have the shape of `gain`.
    ///
    /// # Errors
    /// As for [`layer_norm`](Self::layer_norm).
    pub fn rms_norm(&self, gain: &Self, eps: f32) -> Result<Self> {
        const OP: &str = "rms_norm";
        let len = self.trailing(OP, gain.shape())?;
        let gain = self.factors(OP, "gain", gain.shape(), Some(gain))?;
        let gain = values(gain.as_ref())?.unwrap_or_default();
        self.map_rows(OP, len, |row| simd::rms_norm_in_place(row, gain, eps))
    }

    /// The number of elements of `normalized`, which must be the last axes of the shape.
    fn trailing(&self, op: &str, normalized: &[usize]) -> Result<usize> {
        if normalized.is_empty() || !self.shape().ends_with(normalized) {
            return Err(refusal::shape(
                &format!("{op} over {normalized:?}"),
                "a shape that ends with these axes",
                self.shape(),
            ));
        }
        Ok(normalized.iter().product())
    }

    /// Gains or biases as contiguous f32.
    fn factors(
        &self,
        op: &str,
        what: &str,
        normalized: &[usize],
        factors: Option<&Self>,
    ) -> Result<Option<Self>> {
        let Some(factors) = factors else {
            return Ok(None);
        };
        if factors.shape() != normalized {
            return Err(refusal::shape(
                &format!("{op}: {what}"),
                format!("shape {normalized:?}"),
                factors.shape(),
            ));
        }
        if factors.dtype != self.dtype {
            return Err(refusal::dtypes(op, self.dtype, factors.dtype));
        }
        factors.to_dtype(BitNetDType::F32)?.contiguous().map(Some)
    }

    /// Changes a copy of each run of `len` elements, in f32.
    fn map_rows(&self, op: &str, len: usize, f: impl Fn(&mut [f32]) + Sync) -> Result<Self> {
        if !self.dtype.is_float() {
            return Err(refusal::dtype(op, "a float", self.dtype));
        }
        let wide = self.to_dtype(BitNetDType::F32)?;
        let data = wide.elements::<f32>(op)?;
        let rows = fill(
            self.layout.shape,
            BitNetDType::F32,
            self.device(),
            self.pool(),
            |out| {
                in_pieces([&wide.layout], len.max(1), out, |[layout], out| {
                    gather(data, layout, out);
                    out.chunks_exact_mut(len.max(1)).for_each(&f);
                });
                Ok(())
            },
        )?;
        rows.to_dtype(self.dtype)
    }
}

fn values(factors: Option<&BitNetTensor>) -> Result<Option<&[f32]>> {
    factors.map(BitNetTensor::as_slice::<f32>).transpose()
}
