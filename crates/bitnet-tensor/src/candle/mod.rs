//! Tensors of candle and ours, converted into each other.
//!
//! candle keeps the elements of a CPU tensor in a `Vec` behind a lock. So a tensor that comes from candle can share
//! them: the view holds the tensor and a reader's lock on its storage ([`BitNetTensor::from_candle`]). A tensor that
//! goes to candle is copied: candle takes nothing but a `Vec` of its own, and the pool's memory is none.
//!
//! | candle | here |
//! |---|---|
//! | `F32`, `F16`, `BF16`, `I32`, `I64` | the same |
//! | `U8` | `U8`; on the way to candle also `Bool` |
//! | `U32`, `I16`, `F64`, `F8E4M3`, … | none: an error |
//! | none: an error | `I8` |

mod storage;

use crate::{BitNetDType, BitNetTensor, Element};
use bitnet_core::pool::Movement;
use bitnet_core::{Bytes, Device, Error, HybridMemoryPool, Result};
use candle_core::{DType, Tensor};
use half::{bf16, f16};
use storage::SharedStorage;

impl BitNetTensor {
    /// The same elements, shape and strides over candle's own memory, where it lies on the CPU; else over a copy. The
    /// pool's [`zero_copy`](HybridMemoryPool::zero_copy) counts which it was.
    ///
    /// Candle's memory is shared as long as the result or a view of it lives, and candle waits that long before it
    /// writes to it (`slice_set`, `zero_set`, in-place operations). A variable, and a tensor in whose making a variable
    /// took part, is written to in training; it is copied.
    ///
    /// ```
    /// use bitnet_core::HybridMemoryPool;
    /// use bitnet_tensor::BitNetTensor;
    /// use candle_core::{Device, Tensor};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let candle = Tensor::new(&[[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]], &Device::Cpu)?;
    /// let ours = BitNetTensor::from_candle(&candle.t()?, HybridMemoryPool::global())?;
    /// assert!(ours.is_borrowed());
    /// assert_eq!(ours.shape(), [3, 2]);
    /// assert_eq!(ours.to_vec::<f32>()?, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If there is no such element type here, the tensor has more than [`Dims::MAX_RANK`](crate::Dims::MAX_RANK)
    /// axes, or memory is short.
    pub fn from_candle(tensor: &Tensor, pool: &HybridMemoryPool) -> Result<Self> {
        let dtype = dtype_here(tensor.dtype())?;
        if !tensor.device().is_cpu() || tensor.track_op() {
            return copied(tensor, dtype, pool);
        }
        let layout = tensor.layout();
        let (start, len) = (layout.start_offset(), extent(tensor));
        let size = dtype.size();
        let all = Bytes::from_owner(SharedStorage::of(tensor.clone()));
        let range = start.checked_mul(size).zip(len.checked_mul(size));
        let range = range.and_then(|(start, len)| Some(start..start.checked_add(len)?));
        let Some(range) = range.filter(|range| range.end <= all.len()) else {
            return Err(Error::Shape {
                what: "candle tensor".into(),
                expected: format!("elements within its {} bytes", all.len()),
                found: format!("{len} elements from {start}"),
            });
        };
        let run = Self::from_bytes(all.slice(range), &[len], dtype, &Device::Cpu, pool)?;
        run.strided(layout.dims(), layout.stride())
    }

    /// A candle tensor on the CPU with a copy of the elements.
    ///
    /// # Errors
    /// If candle has no such element type ([`BitNetDType::I8`]).
    pub fn to_candle(&self) -> Result<Tensor> {
        match self.dtype() {
            BitNetDType::F32 => self.candle_copy::<f32>(),
            BitNetDType::F16 => self.candle_copy::<f16>(),
            BitNetDType::BF16 => self.candle_copy::<bf16>(),
            BitNetDType::U8 | BitNetDType::Bool => self.candle_copy::<u8>(),
            BitNetDType::I32 => self.candle_copy::<i32>(),
            BitNetDType::I64 => self.candle_copy::<i64>(),
            BitNetDType::I8 => Err(Error::Unavailable {
                what: "element type i8 in candle".into(),
                why: "convert the tensor to i32 first".into(),
            }),
        }
    }

    fn candle_copy<T: Element + candle_core::WithDType>(&self) -> Result<Tensor> {
        let values = self.to_vec::<T>()?;
        let bytes = values.len() * size_of::<T>();
        self.pool().zero_copy().record(Movement::Copy, bytes);
        Tensor::from_vec(values, self.shape(), &candle_core::Device::Cpu).map_err(refused)
    }
}

/// The elements in row-major order, brought to the CPU.
fn copied(tensor: &Tensor, dtype: BitNetDType, pool: &HybridMemoryPool) -> Result<BitNetTensor> {
    fn copy<T: Element + candle_core::WithDType>(
        flat: &Tensor,
        shape: &[usize],
        pool: &HybridMemoryPool,
    ) -> Result<BitNetTensor> {
        let values = flat.to_vec1::<T>().map_err(refused)?;
        let bytes = values.len() * size_of::<T>();
        pool.zero_copy().record(Movement::Copy, bytes);
        BitNetTensor::from_slice(&values, shape, &Device::Cpu, pool)
    }
    let flat = tensor.flatten_all().map_err(refused)?;
    match dtype {
        BitNetDType::F32 => copy::<f32>(&flat, tensor.dims(), pool),
        BitNetDType::F16 => copy::<f16>(&flat, tensor.dims(), pool),
        BitNetDType::BF16 => copy::<bf16>(&flat, tensor.dims(), pool),
        BitNetDType::I32 => copy::<i32>(&flat, tensor.dims(), pool),
        BitNetDType::I64 => copy::<i64>(&flat, tensor.dims(), pool),
        BitNetDType::U8 | BitNetDType::I8 | BitNetDType::Bool => {
            copy::<u8>(&flat, tensor.dims(), pool)
        }
    }
}

/// Elements from the first to the last that the tensor's strides reach, both included.
fn extent(tensor: &Tensor) -> usize {
    if tensor.elem_count() == 0 {
        return 0;
    }
    let steps = tensor.dims().iter().zip(tensor.stride());
    let last = steps.fold(0usize, |last, (size, stride)| {
        last.saturating_add((size - 1).saturating_mul(*stride))
    });
    last.saturating_add(1)
}

fn dtype_here(dtype: DType) -> Result<BitNetDType> {
    match dtype {
        DType::F32 => Ok(BitNetDType::F32),
        DType::F16 => Ok(BitNetDType::F16),
        DType::BF16 => Ok(BitNetDType::BF16),
        DType::U8 => Ok(BitNetDType::U8),
        DType::I32 => Ok(BitNetDType::I32),
        DType::I64 => Ok(BitNetDType::I64),
        other => Err(Error::Unavailable {
            what: format!("element type {other:?} of candle"),
            why: "convert the tensor to F32, F16, BF16, U8, I32 or I64 first".into(),
        }),
    }
}

fn refused(error: candle_core::Error) -> Error {
    Error::Unavailable {
        what: "candle's copy of a tensor".into(),
        why: error.to_string(),
    }
}
