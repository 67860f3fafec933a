//! The linear layer of ternary models: weights stay packed, activations are rounded to int8 per token.

use crate::storage::fill;
use crate::{BitNetDType, BitNetTensor, refusal};
use bitnet_core::cpu::CpuBackend;
use bitnet_core::{Activations, Result, Tag, WeightMatrix};
use bitnet_quant::{Format, I2sLayout};
use std::sync::Arc;

/// y = x·Wᵀ + b with a packed ternary `W` of `[out, in]`.
///
/// The products are those of the transformer: exact integers for int8 activations, so a row's result does not depend on
/// the machine, the number of threads or the rows beside it.
///
/// ```
/// use bitnet_core::cpu::CpuBackend;
/// use bitnet_core::{Device, HybridMemoryPool};
/// use bitnet_tensor::{BitLinear, BitNetTensor};
/// use std::sync::Arc;
///
/// # fn main() -> bitnet_core::Result<()> {
/// let (device, pool) = (Device::Cpu, HybridMemoryPool::global());
/// let backend = Arc::new(CpuBackend::new(Some(1), None)?);
/// let weight = BitNetTensor::from_slice(&[0.5f32, -0.5, 0.0, 0.5, 0.5, 0.5], &[2, 3], &device, pool)?;
/// let layer = BitLinear::from_f32(&weight, None, backend)?;
///
/// let x = BitNetTensor::from_slice(&[127f32, 1.0, -2.0], &[1, 3], &device, pool)?;
/// assert_eq!(layer.forward(&x)?.to_vec::<f32>()?, [63.0, 63.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct BitLinear {
    weights: WeightMatrix,
    bias: Option<BitNetTensor>,
    activations: Activations,
    backend: Arc<CpuBackend>,
}

impl BitLinear {
    /// A layer over packed weights, which are checked once here. `bias` is `[out]`.
    ///
    /// # Errors
    /// If a weight is no ternary code or finite number, or the bias has another shape or is no float.
    pub fn new(
        weights: WeightMatrix,
        bias: Option<BitNetTensor>,
        backend: Arc<CpuBackend>,
    ) -> Result<Self> {
        let weights = backend.resident(weights)?;
        if let Some(bias) = &bias {
            if bias.shape() != [weights.rows()] {
                return Err(refusal::shape(
                    "BitLinear: bias",
                    format!("shape [{}]", weights.rows()),
                    bias.shape(),
                ));
            }
            if !bias.dtype().is_float() {
                return Err(refusal::dtype("BitLinear: bias", "a float", bias.dtype()));
            }
        }
        Ok(Self {
            weights,
            bias,
            activations: Activations::default(),
            backend,
        })
    }

    /// A layer over float weights `[out, in]`, packed as I2_S: as they are if they are 0 and ±s already, else made
    /// ternary by absmean.
    ///
    /// # Errors
    /// If `weight` is no matrix of finite floats with at least one row and column, the bias does not fit, or memory
    /// is short.
    pub fn from_f32(
        weight: &BitNetTensor,
        bias: Option<BitNetTensor>,
        backend: Arc<CpuBackend>,
    ) -> Result<Self> {
        const OP: &str = "BitLinear::from_f32";
        let &[rows, cols] = weight.shape() else {
            return Err(refusal::shape(OP, "[out, in]", weight.shape()));
        };
        if weight.is_empty() {
            return Err(refusal::shape(
                OP,
                "at least one row and one column",
                weight.shape(),
            ));
        }
        if !weight.dtype().is_float() {
            return Err(refusal::dtype(OP, "a float", weight.dtype()));
        }
        let wide = weight.to_dtype(BitNetDType::F32)?.contiguous()?;
        let values = wide.as_slice::<f32>()?;
        let scale = match bitnet_quant::is_ternary(values) {
            // All zeros: any scale will do, and this is one that codes can be found with.
            Some(0.0) => 1.0,
            Some(scale) => scale,
            None => bitnet_quant::absmean(values)?,
        };
        let format = Format::I2s(I2sLayout::A);
        let stored = cols.checked_next_multiple_of(format.block_len());
        let (stored, row_bytes) = match stored {
            Some(stored) => (stored, format.row_bytes(stored)?),
            None => return Err(refusal::shape(OP, "rows that fit memory", weight.shape())),
        };
        let pool = weight.pool();
        let bytes = rows
            .checked_mul(row_bytes)
            .ok_or_else(|| refusal::shape(OP, "rows that fit memory", weight.shape()))?;
        let mut packed = pool.buffer::<u8>(bytes, Tag::Weights)?;
        let mut codes = pool.buffer::<i8>(stored, Tag::Scratch)?;
        for (row, values) in packed
            .chunks_exact_mut(row_bytes)
            .zip(values.chunks_exact(cols))
        {
            // Columns past the last stay zero weights.
            bitnet_quant::ternarize(values, scale, &mut codes[..cols])?;
            format.encode_codes(&codes, &[], row)?;
        }
        let weights = WeightMatrix::new(
            "BitLinear weights",
            format,
            (rows, cols, stored),
            scale,
            packed.into_bytes(),
        )?;
        Self::new(weights, bias, backend)
    }

    /// The same layer with activations treated otherwise than rounded to int8.
    pub fn with_activations(mut self, activations: Activations) -> Self {
        self.activations = activations;
        self
    }

    /// The packed weights.
    pub fn weights(&self) -> &WeightMatrix {
        &self.weights
    }

    /// The bias, `[out]`.
    pub fn bias(&self) -> Option<&BitNetTensor> {
        self.bias.as_ref()
    }

    /// `[…, in] → […, out]`, in the type of `x`. The result comes from the pool of `x`; scratch comes from the backend's pool, whose
    /// thread caches keep it for the next call.
    ///
    /// With int8 activations a NaN counts as 0.
    ///
    /// # Errors
    /// If the last axis of `x` is not the layer's input, `x` is no float, or memory is short.
    pub fn forward(&self, x: &BitNetTensor) -> Result<BitNetTensor> {
        const OP: &str = "BitLinear";
        if x.shape().last() != Some(&self.weights.cols()) {
            return Err(refusal::shape(
                &format!("{OP} ({})", self.weights.name()),
                format!("[…, {}]", self.weights.cols()),
                x.shape(),
            ));
        }
        if !x.dtype().is_float() {
            return Err(refusal::dtype(OP, "a float", x.dtype()));
        }
        let rows = x.to_dtype(BitNetDType::F32)?.contiguous()?;
        let values = rows.as_slice::<f32>()?;
        let mut shape = rows.layout.shape;
        if let Some(width) = shape.last_mut() {
            *width = self.weights.rows();
        }
        let bias = match &self.bias {
            Some(bias) => Some(bias.to_dtype(BitNetDType::F32)?.contiguous()?),
            None => None,
        };
        let bias = bias
            .as_ref()
            .map(BitNetTensor::as_slice::<f32>)
            .transpose()?;
        let product = fill(shape, BitNetDType::F32, x.device(), x.pool(), |out| {
            self.backend
                .multiply(values, &self.weights, self.activations, out)?;
            if let Some(bias) = bias {
                for row in out.chunks_exact_mut(bias.len()) {
                    bitnet_core::simd::add_assign(row, bias);
                }
            }
            Ok(())
        })?;
        product.to_dtype(x.dtype())
    }
}

impl std::fmt::Debug for BitLinear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BitLinear")
            .field("weights", &self.weights.name())
            .field("in", &self.weights.cols())
            .field("out", &self.weights.rows())
            .field("format", &self.weights.format())
            .field("bias", &self.bias.is_some())
            .field("activations", &self.activations)
            .finish_non_exhaustive()
    }
}
