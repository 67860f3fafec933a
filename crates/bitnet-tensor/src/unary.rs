//! Functions of each element, on the kernels of [`simd`](bitnet_core::simd): the same bits on every machine.
//!
//! Floats only; f16 and bf16 are computed in f32 and rounded.

use crate::element::gather;
use crate::pieces::in_pieces;
use crate::storage::fill;
use crate::{BitNetDType, BitNetTensor, refusal};
use bitnet_core::{Result, simd};

macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident, $kernel:path, $in_place:path;)*) => {
        impl BitNetTensor {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// If the elements are no floats, or memory is short.
            pub fn $name(&self) -> Result<Self> {
                self.unary(stringify!($name), $kernel, $in_place)
            }
        )*}
    };
}

functions! {
    /// eˣ.
    exp, simd::exp, simd::exp_in_place;
    /// Natural logarithm; NaN below 0.
    ln, ln, ln_in_place;
    /// √x; NaN below 0.
    sqrt, simd::sqrt, simd::sqrt_in_place;
    /// x².
    sqr, simd::sqr, simd::sqr_in_place;
    /// 1 / x.
    recip, simd::recip, simd::recip_in_place;
    /// −x.
    neg, simd::neg, simd::neg_in_place;
    /// |x|.
    abs, simd::abs, simd::abs_in_place;
    /// max(x, 0); 0 for NaN.
    relu, simd::relu, simd::relu_in_place;
    /// max(x, 0)².
    relu2, simd::relu2, simd::relu2_in_place;
    /// 1 / (1 + e⁻ˣ).
    sigmoid, simd::sigmoid, simd::sigmoid_in_place;
    /// x / (1 + e⁻ˣ).
    silu, simd::silu, simd::silu_in_place;
    /// GELU in its tanh form: x/2 · (1 + tanh(√(2/π) · (x + 0.044715·x³))).
    gelu, simd::gelu, simd::gelu_in_place;
    /// GELU in its exact form: x/2 · (1 + erf(x/√2)).
    gelu_erf, simd::gelu_erf, simd::gelu_erf_in_place;
    /// Hyperbolic tangent.
    tanh, simd::tanh, simd::tanh_in_place;
    /// Sine of an angle in radians.
    sin, sin, sin_in_place;
    /// Cosine of an angle in radians.
    cos, cos, cos_in_place;
}

impl BitNetTensor {
    fn unary(
        &self,
        op: &str,
        kernel: fn(&[f32], &mut [f32]),
        in_place: fn(&mut [f32]),
    ) -> Result<Self> {
        if !self.dtype.is_float() {
            return Err(refusal::dtype(op, "a float", self.dtype));
        }
        if self.dtype != BitNetDType::F32 {
            let wide = self.to_dtype(BitNetDType::F32)?;
            return wide.unary(op, kernel, in_place)?.to_dtype(self.dtype);
        }
        let data = self.elements::<f32>(op)?;
        fill(
            self.layout.shape,
            self.dtype,
            self.device(),
            self.pool(),
            |out| {
                in_pieces([&self.layout], 1, out, |[layout], out| {
                    if layout.is_contiguous() {
                        kernel(layout.row_major(data), out);
                    } else {
                        gather(data, layout, out);
                        in_place(out);
                    }
                });
                Ok(())
            },
        )
    }
}

/// Kernels that are one call per element.
macro_rules! scalar_kernels {
    ($($name:ident $in_place:ident = $function:path;)*) => {$(
        fn $name(x: &[f32], out: &mut [f32]) {
            out.iter_mut().zip(x).for_each(|(out, x)| *out = $function(*x));
        }
        fn $in_place(x: &mut [f32]) {
            x.iter_mut().for_each(|x| *x = $function(*x));
        }
    )*};
}

scalar_kernels! {
    ln ln_in_place = libm::logf;
    sin sin_in_place = libm::sinf;
    cos cos_in_place = libm::cosf;
}
