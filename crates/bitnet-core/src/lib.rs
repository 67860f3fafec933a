//! Where numbers live and move: memory pool, weight matrices, backends, kernels, and the arithmetic they agree on.
//!
//! [`Backend`] is what the transformer is written over; [`cpu::CpuBackend`] runs it on every target. Tensors with shapes, views
//! and broadcasting are in the crate `bitnet-tensor`, over the pool and the kernels of this one.

pub mod backend;
pub mod cpu;
pub mod device;
mod error;
#[cfg(any(
    feature = "wgpu",
    all(feature = "metal", target_os = "macos"),
    all(feature = "metal-shim", target_os = "linux")
))]
pub mod gpu;
pub mod head;
pub mod math;
mod matrix;
#[cfg(all(
    feature = "mlx",
    any(all(target_os = "macos", target_arch = "aarch64"), mlx_on_linux)
))]
pub mod mlx;
pub mod pending;
pub mod pool;
pub mod simd;

pub use backend::{Activations, Backend, Gate, Heads, Input, Norm, Rope, RopePairs};
pub use bytes::Bytes;
pub use device::Device;
pub use error::{Error, Result};
pub use head::{Candidate, HeadMode, HeadStats, Top};
pub use matrix::WeightMatrix;
pub use pending::Pending;
pub use pool::{Alignment, Block, Buffer, HybridMemoryPool, PoolOptions, Tag};
