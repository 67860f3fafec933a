//! What a ternary number is: quantizers, packed weight formats, codecs and error metrics.
//!
//! Slices in, slices out. No tensor, no file, no thread, no device.

mod codec;
mod error;
mod float;
mod format;
mod i2_s;
mod q2_0;
mod q4_0;
mod q6_k;
mod q8_0;
mod ternary_block;
mod tq1_0;
mod tq2_0;

pub use error::QuantError;
pub use format::{Format, I2sLayout};
