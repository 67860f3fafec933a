//! Where numbers live and move: weight matrices, backends, kernels, and the arithmetic they agree on.
//!
//! [`Backend`] is what the transformer is written over; [`cpu::CpuBackend`] runs it on every target.

pub mod backend;
pub mod cpu;
mod error;
pub mod math;
mod matrix;
pub mod simd;

pub use backend::{Activations, Backend, Gate, Heads, Norm, Rope, RopePairs};
pub use bytes::Bytes;
pub use error::{Error, Result};
pub use matrix::WeightMatrix;
