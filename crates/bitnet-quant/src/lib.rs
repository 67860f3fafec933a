//! What a ternary number is: quantizers, packed weight formats, codecs and error metrics.
//!
//! Slices in, slices out. No tensor, no file, no thread, no device.
//!
//! - Packed rows of every [`Format`]: [`Format::decode_row`], [`Format::encode_row`] and, without rounding,
//!   [`Format::decode_codes`] and [`Format::encode_codes`]; [`hf_packed`] for the checkpoints that pack four rows into one.
//! - Weights to ternary: [`quantize_absmean`], and with the least error [`quantize_least_squares`]; activations to int8:
//!   [`quantize_absmax_i8`].
//! - Real matrices to 2, 4 or 8 bits: [`IntQuantizer`]; what that cost: [`ErrorMetrics`].
//!
//! Quantize a matrix of 2 × 128 and pack it as I2_S:
//!
//! ```
//! use bitnet_quant::{ErrorMetrics, Format, I2sLayout, quantize_absmean};
//!
//! # fn main() -> Result<(), bitnet_quant::QuantError> {
//! const ROWS: usize = 2;
//! const COLS: usize = 128;
//! let weights: Vec<f32> = (0..ROWS * COLS).map(|i| (i as f32).sin()).collect();
//!
//! let mut codes = vec![0; weights.len()];
//! let scale = quantize_absmean(&weights, &mut codes)?; // one for the whole matrix
//!
//! let format = Format::I2s(I2sLayout::A);
//! let row_bytes = format.row_bytes(COLS)?;
//! let mut packed = vec![0; ROWS * row_bytes];
//! for (codes, row) in codes.chunks(COLS).zip(packed.chunks_mut(row_bytes)) {
//!     format.encode_codes(codes, &[], row)?;
//! }
//! assert_eq!(packed.len(), 64); // two bits to a weight
//!
//! let mut decoded = vec![0.0; weights.len()];
//! for (row, values) in packed.chunks(row_bytes).zip(decoded.chunks_mut(COLS)) {
//!     format.decode_row(row, scale, values)?;
//! }
//! let error = ErrorMetrics::between(&weights, &decoded)?;
//! assert!(error.cosine > 0.9);
//! # Ok(())
//! # }
//! ```

mod activation;
mod codec;
mod error;
mod float;
mod format;
pub mod hf_packed;
mod i2_s;
mod integer;
mod least_squares;
mod metrics;
mod ptq1_0;
mod q2_0;
mod q4_0;
mod q4_k;
mod q6_k;
mod q8_0;
mod ternary;
mod ternary_block;
mod tq1_0;
mod tq2_0;

pub use activation::quantize_absmax_i8;
pub use error::QuantError;
pub use format::{Encoding, Format, I2sLayout, ScaleOwner};
pub use hf_packed::WeightScale;
pub use integer::{Bits, Granularity, IntQuantized, IntQuantizer, Symmetry};
pub use least_squares::{LeastSquares, quantize_least_squares};
pub use metrics::{ErrorMetrics, ErrorSums};
pub use ternary::{AbsMean, TernaryScale, absmean, is_ternary, quantize_absmean, ternarize};
