//! Elementwise functions, reductions, norms and conversions on slices, each written once over the registers of the
//! `rten-simd` library and compiled for AVX-512, AVX2, NEON, WebAssembly SIMD and a portable fallback.
//!
//! The functions of this module run on the best instruction set of the machine. All sets give the same bits, which are
//! those of [`math`](crate::math) applied to each element: nothing is fused, reductions run in a fixed number of lanes
//! (sixteen, or sixty-four for [`sum`], [`mean`] and [`variance`]) ended by [`tree_sum`](crate::math::tree_sum), and only the payload of a NaN is left open. So the transformer's kernel
//! tables, which are chosen by `BITNET_ISA` and must not be overruled by the library's own detection, run these same
//! definitions for the set they name.
//!
//! `x` and `out` are as long as each other; of slices that differ the shorter length counts and the rest of `out` is
//! left alone. `…_in_place` and `…_assign` write into their first argument.
//!
//! Accuracy against f64, in units in the last place where the result is not subnormal: [`exp`] and [`tanh`] 2,
//! [`sigmoid`] 3, [`silu`] 4, [`gelu_erf`] 7, [`gelu`] 4 above −1 and up to 40 in its tail, where the result is
//! smaller than 10⁻⁶ (−5). Square root, reciprocal and arithmetic are rounded correctly.

mod arithmetic;
mod attention;
mod compare;
mod convert;
mod convolution;
mod delta;
mod functions;
mod hadamard;
mod keys_values;
pub(crate) mod lanes;
mod norm;
pub(crate) mod packed;
mod quantize;
mod reduce;
pub mod scalar;
mod shadow;
#[cfg(test)]
mod tests;
mod vector;

pub use arithmetic::{
    add, add_assign, add_scalar, add_scalar_assign, div, div_assign, div_scalar, div_scalar_assign,
    gate, maximum, maximum_assign, maximum_scalar, maximum_scalar_assign, minimum, minimum_assign,
    minimum_scalar, minimum_scalar_assign, mul, mul_assign, mul_scalar, mul_scalar_assign,
    scalar_div, scalar_div_assign, scalar_sub, scalar_sub_assign, sub, sub_assign, sub_scalar,
    sub_scalar_assign,
};
pub use compare::{Comparison, compare, compare_scalar};
pub use convert::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
pub use functions::{
    abs, abs_in_place, exp, exp_in_place, gelu, gelu_erf, gelu_erf_in_place, gelu_in_place, neg,
    neg_in_place, recip, recip_in_place, relu, relu_in_place, relu2, relu2_in_place, sigmoid,
    sigmoid_in_place, silu, silu_in_place, sqr, sqr_in_place, sqrt, sqrt_in_place, tanh,
    tanh_in_place,
};
pub use norm::{layer_norm_in_place, rms_norm_in_place, softmax_in_place};
pub use quantize::{dequantize, quantize};
pub use reduce::{absmax, argmax, argmin, dot, max, mean, min, sum, variance};

// For the transformer's kernel tables, which evaluate them on the instruction set they are for.
pub(crate) use arithmetic::{Add, Gated, SigmoidMul, ZipInPlace};
pub(crate) use attention::Attend;
pub(crate) use convert::NarrowF16;
pub(crate) use convolution::{Convolve, Unit};
pub(crate) use delta::Delta;
pub(crate) use hadamard::Hadamard;
pub(crate) use keys_values::{
    HeadBlockMut, KeysValues, POSITIONS, RoundHead, Stored, head_bytes, with_stored,
};
pub(crate) use norm::{RmsNorm, RmsNormInto};
pub(crate) use packed::{DotPacked, DotTile, ROWS, Unpack, is_dense};
pub(crate) use quantize::Quantize;
pub(crate) use reduce::Dot;
pub(crate) use shadow::{MOST, RoundRow, SMALLEST, Steps, WIDE_ROWS, WideTile};
