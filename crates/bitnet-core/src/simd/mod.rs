//! Elementwise functions, reductions, norms and conversions on slices, each written once over the registers of the
//! `rten-simd` library and compiled for AVX-512, AVX2, NEON, WebAssembly SIMD and a portable fallback.
//!
//! The functions of this module run on the best instruction set of the machine. All sets give the same bits, which are
//! those of [`math`](crate::math) applied to each element: nothing is fused, reductions run in sixteen lanes ended by
//! [`tree_sum`](crate::math::tree_sum), and only the payload of a NaN is left open. So the transformer's kernel
//! tables, which are chosen by `BITNET_ISA` and must not be overruled by the library's own detection, run these same
//! definitions for the set they name.
//!
//! `x` and `out` are as long as each other; of slices that differ the shorter length counts and the rest of `out` is
//! left alone. `…_in_place` and `…_assign` write into their first argument.
//!
//! Accuracy against f64, in units in the last place: [`exp`] 2, [`sigmoid`] 3, [`tanh`] 2, [`silu`] 3, [`gelu`] and
//! [`gelu_erf`] 4 (where the result is no subnormal); square root, reciprocal and arithmetic are rounded correctly.

mod arithmetic;
mod compare;
mod convert;
mod functions;
mod lanes;
mod norm;
mod quantize;
mod reduce;
pub mod scalar;
mod vector;

pub use arithmetic::*;
pub use compare::{Comparison, compare, compare_scalar};
pub use convert::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
pub use functions::*;
pub use norm::{layer_norm_in_place, rms_norm_in_place, softmax_in_place};
pub use quantize::{dequantize, quantize};
pub use reduce::{absmax, argmax, argmin, dot, max, mean, min, sum, variance};
