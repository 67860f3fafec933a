//! What the benchmarks of BitNet-Rust share: their inputs, candle's side of the comparison, and how time is taken.
//!
//! All of it needs the feature `measure`, which the benches and tests of this package turn on by themselves; without
//! it the package is empty and costs a build of the workspace nothing.

#![cfg(feature = "measure")]

pub mod candle_ops;
pub mod comparison;
pub mod creation;
pub mod elementwise;
pub mod inputs;
pub mod matmul;
pub mod operations;
pub mod quantization;
mod register;

pub use register::{register, settings};
