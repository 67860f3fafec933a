//! The tensor itself: a layout over shared storage.

use crate::layout::Layout;
use crate::shared::Shared;
use crate::storage::Storage;
use crate::{BitNetDType, Element, dispatch};
use bitnet_core::{Device, HybridMemoryPool};

/// Elements of one type under a shape. A clone shares the storage. See the [crate](crate).
#[derive(Clone)]
pub struct BitNetTensor {
    pub(crate) storage: Shared<Storage>,
    pub(crate) layout: Layout,
    pub(crate) dtype: BitNetDType,
}

impl BitNetTensor {
    /// Size along each axis, outermost first; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.layout.shape
    }

    /// Elements (not bytes) between neighbours along each axis; 0 where an axis repeats.
    pub fn strides(&self) -> &[usize] {
        &self.layout.strides
    }

    /// Number of axes; 0 for a scalar.
    pub fn rank(&self) -> usize {
        self.layout.shape.len()
    }

    /// Number of elements: 1 for a scalar, 0 if any size is 0.
    pub fn len(&self) -> usize {
        self.layout.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of the elements.
    pub fn dtype(&self) -> BitNetDType {
        self.dtype
    }

    /// Where the elements lie.
    pub fn device(&self) -> Device {
        self.storage.device()
    }

    /// The pool that results of operations on this tensor come from.
    pub fn pool(&self) -> &HybridMemoryPool {
        self.storage.pool()
    }

    /// Whether the elements lie row after row without gaps.
    pub fn is_contiguous(&self) -> bool {
        self.layout.is_contiguous()
    }

    /// Whether both are views of one storage.
    pub fn shares_storage_with(&self, other: &Self) -> bool {
        self.storage.is_same(&other.storage)
    }

    /// Whether the elements are borrowed from [`Bytes`](bitnet_core::Bytes) and not in the pool's memory.
    pub fn is_borrowed(&self) -> bool {
        self.storage.is_borrowed()
    }

    /// Another shape over the same storage.
    pub(crate) fn view(&self, layout: Layout) -> Self {
        Self {
            storage: self.storage.clone(),
            layout,
            dtype: self.dtype,
        }
    }
}

impl std::fmt::Debug for BitNetTensor {
    /// Type, shape and device, and the elements of a short tensor.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 16;
        write!(
            f,
            "BitNetTensor({} {:?} on {}",
            self.dtype,
            self.layout.shape,
            self.device()
        )?;
        if self.len() <= SHOWN {
            let values: Option<Vec<f64>> = dispatch::with_type!(self.dtype, T => {
                self.to_vec::<T>().ok().map(|v| v.into_iter().map(Element::to_f64).collect())
            });
            if let Some(values) = values {
                write!(f, ": {values:?}")?;
            }
        }
        f.write_str(")")
    }
}
