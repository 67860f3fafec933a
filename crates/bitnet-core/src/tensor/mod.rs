//! Tensors: typed elements under a shape, in memory of a [`HybridMemoryPool`] or borrowed from its owner.
//!
//! A [`BitNetTensor`] is an immutable value. Cloning and viewing ([`reshape`](BitNetTensor::reshape),
//! [`transpose`](BitNetTensor::transpose), [`slice`](BitNetTensor::slice),
//! [`broadcast_to`](BitNetTensor::broadcast_to), …) share its storage; every operation returns a new tensor from the pool of
//! its left operand. What writes ([`make_mut`](BitNetTensor::make_mut), [`add_assign`](BitNetTensor::add_assign), …) writes in
//! place only where nothing else shares the storage, and into a copy otherwise.
//!
//! Broadcasting follows NumPy. Both operands of an operation have one element type: convert with
//! [`to_dtype`](BitNetTensor::to_dtype). Axes are counted from 0, or from the end with negative numbers. Rank 0
//! (a scalar) and sizes of 0 are shapes like any other.
//!
//! ```
//! use bitnet_core::{BitNetDType, BitNetTensor, Device, HybridMemoryPool};
//!
//! # fn main() -> bitnet_core::Result<()> {
//! let pool = HybridMemoryPool::global();
//! let x = BitNetTensor::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3], &Device::Cpu, pool)?;
//! let row = BitNetTensor::from_slice(&[10f32, 20.0, 30.0], &[3], &Device::Cpu, pool)?;
//!
//! let sum = (&x + &row)?;
//! assert_eq!(sum.to_vec::<f32>()?, [11.0, 22.0, 33.0, 14.0, 25.0, 36.0]);
//!
//! let product = x.matmul(&x.transpose(0, 1)?)?;
//! assert_eq!(product.shape(), [2, 2]);
//! assert_eq!(product.to_vec::<f32>()?, [14.0, 32.0, 32.0, 77.0]);
//!
//! assert_eq!(x.mean(0, false)?.to_vec::<f32>()?, [2.5, 3.5, 4.5]);
//! assert_eq!(BitNetTensor::zeros(&[32, 32], BitNetDType::F32, &Device::Cpu, pool)?.len(), 1024);
//! # Ok(())
//! # }
//! ```
//!
//! | file | what |
//! |---|---|
//! | `dims`, `layout`, `view` | shapes, strides, views |
//! | `storage`, `create`, `random`, `element` | memory and elements |
//! | `arithmetic`, `compare`, `unary`, `reduce` | elementwise operations and reductions |
//! | `pieces` | large results on several threads |
//! | `matmul`, `gemm`, `conv`, `norm` | products, convolution, normalization |
//! | `bit_linear` | the ternary linear layer |

mod arithmetic;
mod bit_linear;
mod compare;
mod conv;
mod create;
mod dims;
mod dispatch;
mod dtype;
mod element;
mod gemm;
mod layout;
mod matmul;
mod norm;
mod pieces;
mod random;
mod reduce;
mod refusal;
mod storage;
mod unary;
mod view;

pub use bit_linear::BitLinear;
pub use conv::Conv1d;
pub use dims::Dims;
pub use dtype::{BitNetDType, Element};
pub use reduce::Axes;

use crate::pool::Shared;
use crate::{Device, HybridMemoryPool};
use layout::Layout;
use storage::Storage;

/// Elements of one type under a shape. A clone shares the storage. See the [module](self).
#[derive(Clone)]
pub struct BitNetTensor {
    storage: Shared<Storage>,
    layout: Layout,
    dtype: BitNetDType,
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

    /// Whether the elements are borrowed from [`Bytes`](crate::Bytes) and not in the pool's memory.
    pub fn is_borrowed(&self) -> bool {
        self.storage.is_borrowed()
    }

    fn view(&self, layout: Layout) -> Self {
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
