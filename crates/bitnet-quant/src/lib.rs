//! What a ternary number is: quantizers, packed weight formats, codecs and error metrics.
//!
//! Slices in, slices out. No tensor, no file, no thread, no device.

mod error;
mod format;

pub use error::QuantError;
pub use format::{Format, I2sLayout};
