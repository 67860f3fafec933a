//! Making tensors: from nothing, from a slice, from somebody else's bytes.

use crate::dispatch::with_type;
use crate::layout::Layout;
use crate::shared::Shared;
use crate::storage::{Storage, fill};
use crate::{BitNetDType, BitNetTensor, Dims, Element, refusal};
use bitnet_core::{Bytes, Device, Error, HybridMemoryPool, Result};

impl BitNetTensor {
    /// Zeros.
    ///
    /// ```
    /// # use bitnet_core::{Device, HybridMemoryPool};
    /// # use bitnet_tensor::{BitNetDType, BitNetTensor};
    /// # fn main() -> bitnet_core::Result<()> {
    /// let pool = HybridMemoryPool::global();
    /// let tensor = BitNetTensor::zeros(&[32, 32], BitNetDType::F32, &Device::Cpu, pool)?;
    /// assert_eq!(tensor.shape(), [32, 32]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If there are more than [`Dims::MAX_RANK`] axes or memory is short.
    pub fn zeros(
        shape: &[usize],
        dtype: BitNetDType,
        device: &Device,
        pool: &HybridMemoryPool,
    ) -> Result<Self> {
        let shape = Dims::new(shape)?;
        let storage = Storage::zeroed(&shape, dtype, *device, pool)?;
        Ok(Self::of(storage, shape, dtype))
    }

    /// Ones.
    ///
    /// # Errors
    /// As for [`zeros`](Self::zeros).
    pub fn ones(
        shape: &[usize],
        dtype: BitNetDType,
        device: &Device,
        pool: &HybridMemoryPool,
    ) -> Result<Self> {
        Self::full(shape, 1.0, dtype, device, pool)
    }

    /// `value` everywhere, rounded to the element type; any value but 0 is true.
    ///
    /// # Errors
    /// As for [`zeros`](Self::zeros), or if an integer type cannot hold `value`.
    pub fn full(
        shape: &[usize],
        value: f64,
        dtype: BitNetDType,
        device: &Device,
        pool: &HybridMemoryPool,
    ) -> Result<Self> {
        let shape = Dims::new(shape)?;
        with_type!(dtype, T => {
            let value = scalar::<T>("full", value, dtype)?;
            fill::<T>(shape, dtype, *device, pool, |out| {
                out.fill(value);
                Ok(())
            })
        })
    }

    /// A copy of `values`, in row-major order.
    ///
    /// # Errors
    /// If there are not as many values as the shape has elements, or memory is short.
    pub fn from_slice<T: Element>(
        values: &[T],
        shape: &[usize],
        device: &Device,
        pool: &HybridMemoryPool,
    ) -> Result<Self> {
        let shape = Dims::new(shape)?;
        if shape.elements() != Some(values.len()) {
            return Err(Error::Shape {
                what: "from_slice".into(),
                expected: format!("as many values as shape {shape:?} has elements"),
                found: format!("{} values", values.len()),
            });
        }
        let storage = Storage::copy_of(values, *device, pool)?;
        Ok(Self::of(storage, shape, T::DTYPE))
    }

    /// A tensor over `bytes` (little-endian, row after row) without copying them, where they are aligned for the
    /// type; else over a copy. The pool's [`zero_copy`](HybridMemoryPool::zero_copy) counts which it was.
    ///
    /// # Errors
    /// If the number of bytes does not fit the shape, a [`BitNetDType::Bool`] is neither 0 nor 1, or memory is short.
    pub fn from_bytes(
        bytes: Bytes,
        shape: &[usize],
        dtype: BitNetDType,
        device: &Device,
        pool: &HybridMemoryPool,
    ) -> Result<Self> {
        let shape = Dims::new(shape)?;
        let expected = shape.elements().and_then(|n| n.checked_mul(dtype.size()));
        if expected != Some(bytes.len()) {
            return Err(Error::Shape {
                what: "from_bytes".into(),
                expected: format!("the bytes of shape {shape:?} of {dtype}"),
                found: format!("{} bytes", bytes.len()),
            });
        }
        if dtype == BitNetDType::Bool
            && let Some(index) = bytes.iter().position(|byte| *byte > 1)
        {
            return Err(refusal::argument(
                format!("from_bytes: bool {index}"),
                "0 or 1",
                bytes[index].to_string(),
            ));
        }
        let storage = Storage::borrowed(bytes, dtype, *device, pool)?;
        Ok(Self::of(storage, shape, dtype))
    }

    /// `start`, `start + step`, … before `end`: f32 of shape `[⌈(end − start) / step⌉]`, each element computed from
    /// its index in f64.
    ///
    /// # Errors
    /// If an argument is not finite, `step` is 0, or memory is short.
    pub fn arange(
        start: f64,
        end: f64,
        step: f64,
        device: &Device,
        pool: &HybridMemoryPool,
    ) -> Result<Self> {
        let count = ((end - start) / step).ceil().max(0.0);
        // 2⁵³: beyond it, indices are no longer exact.
        let sound = [start, end, step].iter().all(|x| x.is_finite()) && step != 0.0;
        if !sound || count >= 9_007_199_254_740_992.0 {
            return Err(refusal::argument(
                "arange".into(),
                "finite ends and a step that gets from one to the other",
                format!("{start}..{end} by {step}"),
            ));
        }
        let shape = Dims::new(&[count as usize])?;
        fill::<f32>(shape, BitNetDType::F32, *device, pool, |out| {
            for (i, out) in out.iter_mut().enumerate() {
                *out = (start + i as f64 * step) as f32;
            }
            Ok(())
        })
    }

    /// A tensor of one value and no axes.
    ///
    /// # Errors
    /// If memory is short.
    pub fn scalar<T: Element>(value: T, device: &Device, pool: &HybridMemoryPool) -> Result<Self> {
        Self::from_slice(&[value], &[], device, pool)
    }

    #[inline]
    pub(crate) fn of(storage: Storage, shape: Dims, dtype: BitNetDType) -> Self {
        Self {
            storage: Shared::new(storage),
            layout: Layout::contiguous(shape),
            dtype,
        }
    }
}

/// `value` as an element of `dtype`.
///
/// # Errors
/// If an integer type cannot hold it.
pub(crate) fn scalar<T: Element>(op: &str, value: f64, dtype: BitNetDType) -> Result<T> {
    if dtype == BitNetDType::Bool {
        return Ok(T::from_f64(f64::from(u8::from(value != 0.0))));
    }
    let element = T::from_f64(value);
    if !dtype.is_float() && element.to_f64() != value {
        return Err(refusal::argument(
            format!("{op}: scalar"),
            format!("an integer that {dtype} can hold"),
            value.to_string(),
        ));
    }
    Ok(element)
}
