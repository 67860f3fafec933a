//! Where weights and activations live and move: memory pool, weight matrices, backends, kernels, and the arithmetic they
//! agree on.
//!
//! [`Backend`] runs a model's sublayers over batches of sequences; [`cpu::CpuBackend`] does so on every target.
//!
//! | module | content |
//! |---|---|
//! | [`backend`], [`sublayer`], [`batch`] | the interface, the weights that it takes, and the sequences that it runs |
//! | [`head`], [`pending`] | candidates for the next token, and outputs that a device still works on |
//! | [`cpu`] | the backend of every machine: products of packed weights, one file for each instruction set |
//! | `gpu`, `mlx` | the backends for GPUs and for Apple's MLX, with the features `wgpu`, `metal` and `mlx` |
//! | [`simd`], [`math`] | float kernels on slices, and the functions of one number that define their bits |
//! | [`pool`] | host memory: size classes, thread caches, limits, leak guards, and counts of what was copied |
//! | [`device`] | the devices of the machine, and the sizes from which threads pay on it |
//!
//! [`WeightMatrix`] is a packed matrix as it lies in a file. Tensors with shapes, views and broadcasting are no part of the
//! runtime: the crate `bitnet-tensor` has them, over the pool and the kernels of this one.

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
mod kv;
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
pub use head::{Candidate, LmHeadMode, LmHeadStats, Top};
pub use kv::KvType;
pub use matrix::WeightMatrix;
pub use pending::Pending;
pub use pool::{Alignment, Block, Buffer, HybridMemoryPool, PoolOptions, Tag};
pub use rope::{Rope, RopePairs};
pub use sublayer::{
    Activations, AttentionHeads, AttentionWeights, DeltaHeads, DeltaNetWeights, ExpertsWeights,
    FeedForwardWeights, Gate, GatedWeights, MixerState, MixerWeights, NormWeights, Projection,
    Regroup, Rotation, VocabularyWeights,
};
