//! Tensors over the memory pool and the SIMD kernels of [`bitnet_core`]: NumPy's shapes, views and broadcasting for layers,
//! experiments and comparisons that are written beside a ternary model.
//!
//! The runtime itself does not depend on this crate: its forward pass works on rows in the pool's memory and needs neither
//! shapes nor broadcasting.
//!
//! A [`BitNetTensor`] is an immutable value: elements of one [`BitNetDType`], a shape of up to six axes ([`Dims`]), and
//! strides over storage in a [`HybridMemoryPool`](bitnet_core::HybridMemoryPool) or borrowed from its owner
//! ([`from_bytes`](BitNetTensor::from_bytes)). Cloning and viewing ([`reshape`](BitNetTensor::reshape),
//! [`transpose`](BitNetTensor::transpose), [`slice`](BitNetTensor::slice),
//! [`broadcast_to`](BitNetTensor::broadcast_to), …) share the storage; every operation returns a new tensor from the pool of
//! its left operand. Operations that write ([`make_mut`](BitNetTensor::make_mut),
//! [`add_assign`](BitNetTensor::add_assign), …) write in place only where nothing else shares the storage, and into a copy
//! otherwise.
//!
//! Broadcasting follows NumPy. Both operands of an operation have one element type: convert with
//! [`to_dtype`](BitNetTensor::to_dtype). Axes are counted from 0, or from the end with negative numbers. Rank 0
//! (a scalar) and sizes of 0 are shapes like any other.
//!
//! ```
//! use bitnet_core::{Device, HybridMemoryPool};
//! use bitnet_tensor::{BitNetDType, BitNetTensor};
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
//! Elementwise operations, reductions, softmax and norms give the same bits on every machine and for every number of
//! threads. Float matrix products and convolutions come from the `gemm` crate, which is faster and fuses multiply and add
//! where the machine can; [`BitLinear`] multiplies packed ternary weights with the runtime's own kernels, whose integer sums
//! are exact.
//!
//! | module | content |
//! |---|---|
//! | `tensor` | the tensor: a layout over shared storage |
//! | `dims`, `layout`, `view` | shapes, strides, views |
//! | `storage`, `create`, `random`, `element` | memory and elements |
//! | `arithmetic`, `compare`, `unary`, `reduce` | elementwise operations and reductions |
//! | `pieces` | large results on several threads |
//! | `matmul`, `gemm`, `conv`, `norm` | products, convolution, normalization |
//! | `bit_linear` | the ternary linear layer |
//! | [`zero_copy`] | conversions of raw bytes between element types, planned before they run |
//! | `candle` | with the feature `candle`: candle's tensors as these and back |

mod arithmetic;
mod bit_linear;
#[cfg(feature = "candle")]
mod candle;
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
mod shared;
mod storage;
mod tensor;
mod unary;
mod view;
pub mod zero_copy;

pub use bit_linear::BitLinear;
pub use conv::Conv1d;
pub use dims::Dims;
pub use dtype::{BitNetDType, Element};
pub use reduce::Axes;
pub use tensor::BitNetTensor;
