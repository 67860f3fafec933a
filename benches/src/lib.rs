//! What the benchmarks and measuring programs of BitNet-Rust share: their inputs, candle's side of the comparison, how
//! time is taken, what the machine can do at most, and the report.
//!
//! All of it needs the feature `measure`, which the benches and tests of this package turn on by themselves; without
//! it the package is empty and costs a build of the workspace nothing.

#![cfg(feature = "measure")]

pub mod candle_ops;
pub mod comparison;
pub mod creation;
pub mod elementwise;
pub mod figures;
pub mod inputs;
pub mod layers;
pub mod machine;
pub mod matmul;
#[cfg(all(
    feature = "mlx",
    any(all(target_os = "macos", target_arch = "aarch64"), mlx_on_linux)
))]
mod mlx;
pub mod operations;
pub mod outputs;
pub mod places;
pub mod process;
pub mod quantization;
mod register;
pub mod report;
pub mod synthetic;

pub use register::{register, settings};
