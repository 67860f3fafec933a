//! What views share: a block of the pool or borrowed bytes, and the pool that results come from.

use crate::zero_copy::HostData;
use crate::{BitNetDType, BitNetTensor, Dims, Element, refusal};
use bitnet_core::{Alignment, Block, Bytes, Device, Error, HybridMemoryPool, Result, Tag};

/// Elements in row-major order of the shape they were made with.
pub(crate) struct Storage {
    data: Data,
    pool: HybridMemoryPool,
    device: Device,
}

enum Data {
    /// The pool's memory.
    Block(Block),
    /// Somebody else's memory, aligned for the elements.
    Borrowed(Bytes),
}

impl Storage {
    /// Zeros of `dtype` for `shape`.
    #[inline]
    pub(crate) fn zeroed(
        shape: &Dims,
        dtype: BitNetDType,
        device: Device,
        pool: &HybridMemoryPool,
    ) -> Result<Self> {
        check_device(device)?;
        let bytes = byte_count(shape, dtype)?;
        // Counted before the zeros are written: the count would wait for all of them.
        let handle = pool.clone();
        let block = pool.allocate(bytes, Alignment::LINE, Tag::Tensor)?;
        Ok(Self {
            data: Data::Block(block),
            pool: handle,
            device,
        })
    }

    /// A copy of `values`.
    pub(crate) fn copy_of<T: Element>(
        values: &[T],
        device: Device,
        pool: &HybridMemoryPool,
    ) -> Result<Self> {
        check_device(device)?;
        let bytes = bytemuck::cast_slice(values);
        let mut block = pool.allocate_uninit(bytes.len(), Alignment::LINE, Tag::Tensor)?;
        block.copy_from_slice(bytes);
        Ok(Self::of_block(block, device, pool))
    }

    #[inline]
    fn of_block(block: Block, device: Device, pool: &HybridMemoryPool) -> Self {
        Self {
            data: Data::Block(block),
            pool: pool.clone(),
            device,
        }
    }

    /// `bytes` themselves where they are aligned for `dtype`, else a copy.
    pub(crate) fn borrowed(
        bytes: Bytes,
        dtype: BitNetDType,
        device: Device,
        pool: &HybridMemoryPool,
    ) -> Result<Self> {
        check_device(device)?;
        let (data, _) = HostData::Shared(bytes).convert(dtype, dtype, false, pool)?;
        Ok(match data {
            HostData::Owned(copy) => Self::of_block(copy.into_block(), device, pool),
            HostData::Shared(bytes) => Self {
                data: Data::Borrowed(bytes),
                pool: pool.clone(),
                device,
            },
        })
    }

    #[inline]
    pub(crate) fn device(&self) -> Device {
        self.device
    }

    pub(crate) fn pool(&self) -> &HybridMemoryPool {
        &self.pool
    }

    pub(crate) fn is_borrowed(&self) -> bool {
        matches!(self.data, Data::Borrowed(_))
    }

    /// All elements.
    pub(crate) fn elements<T: Element>(&self) -> Result<&[T]> {
        let bytes: &[u8] = match &self.data {
            Data::Block(block) => block,
            Data::Borrowed(bytes) => bytes,
        };
        if bytes.is_empty() {
            // Wherever it points.
            return Ok(&[]);
        }
        bytemuck::try_cast_slice(bytes).map_err(|_| misfit::<T>(bytes.len()))
    }

    /// All elements, to write to; none if they are borrowed.
    pub(crate) fn elements_mut<T: Element>(&mut self) -> Result<&mut [T]> {
        match &mut self.data {
            Data::Block(block) if !block.is_empty() => {
                let len = block.len();
                bytemuck::try_cast_slice_mut(block).map_err(|_| misfit::<T>(len))
            }
            _ => Ok(&mut []),
        }
    }
}

/// Refuses devices other than the CPU, which run whole models and hold no tensors.
#[inline]
fn check_device(device: Device) -> Result<()> {
    match device {
        Device::Cpu => Ok(()),
        Device::Wgpu | Device::Metal | Device::Mlx => Err(refusal::device(device)),
    }
}

/// Bytes that are no elements of `T`; storage is made so that this cannot be.
fn misfit<T: Element>(bytes: usize) -> Error {
    Error::Shape {
        what: "tensor storage".into(),
        expected: format!("whole aligned elements of {}", T::DTYPE),
        found: format!("{bytes} bytes"),
    }
}

#[inline]
fn byte_count(shape: &Dims, dtype: BitNetDType) -> Result<usize> {
    let bytes = shape
        .elements()
        .and_then(|n| n.checked_mul(dtype.size()))
        .filter(|bytes| isize::try_from(*bytes).is_ok());
    bytes.ok_or_else(|| {
        refusal::shape(
            &format!("a tensor of {dtype}"),
            "a size that memory can hold",
            shape,
        )
    })
}

/// A new contiguous tensor. `write` is given elements of any value and must write them all.
#[inline]
pub(crate) fn fill<T: Element>(
    shape: Dims,
    dtype: BitNetDType,
    device: Device,
    pool: &HybridMemoryPool,
    write: impl FnOnce(&mut [T]) -> Result<()>,
) -> Result<BitNetTensor> {
    check_device(device)?;
    let bytes = byte_count(&shape, dtype)?;
    let block = pool.allocate_uninit(bytes, Alignment::LINE, Tag::Tensor)?;
    let mut storage = Storage::of_block(block, device, pool);
    write(storage.elements_mut()?)?;
    Ok(BitNetTensor::of(storage, shape, dtype))
}
