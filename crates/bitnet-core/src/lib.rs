//! Where numbers live and move: memory pool, weight matrices, backends, kernels, and the arithmetic they agree on.
//!
//! [`Backend`] runs a model's sublayers over batches of sequences; [`cpu::CpuBackend`] does so on every target. Tensors with
//! shapes, views and broadcasting are in the crate `bitnet-tensor`, over the pool and the kernels of this one.

pub mod backend;
pub mod batch;
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
mod rope;
pub mod simd;
pub mod sublayer;

pub use backend::{Backend, Inspection, LmHead, Snapshots, Sublayer, WarmUp};
pub use batch::{Batch, Input, Output, OutputRequest, SequenceState, Span};
pub use bytes::Bytes;
pub use device::Device;
pub use error::{Error, Result};
pub use head::{Candidate, HeadMode, HeadStats, Top};
pub use matrix::WeightMatrix;
pub use pending::Pending;
pub use pool::{Alignment, Block, Buffer, HybridMemoryPool, PoolOptions, Tag};
pub use rope::{Rope, RopePairs};
pub use sublayer::{
    Activations, AttentionWeights, FeedForwardWeights, Gate, GatedWeights, Heads, MixerState,
    MixerWeights, NormWeights, Projection, VocabularyWeights,
};
