//! Functions of one element: `f(x, out)` and `f_in_place(x)`.

use super::{lanes, vector};
use rten_simd::{Isa, SimdOp};

/// A function of one element, on a register of them.
pub(super) trait Function: Copy {
    fn apply<I: Isa>(self, isa: I, x: I::F32) -> I::F32;
}

pub(super) struct Map<'a, F>(pub(super) F, pub(super) &'a [f32], pub(super) &'a mut [f32]);

impl<F: Function> SimdOp for Map<'_, F> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self(f, x, out) = self;
        lanes::map(
            isa,
            x,
            out,
            #[inline(always)]
            |x| f.apply(isa, x),
        );
    }
}

pub(super) struct MapInPlace<'a, F>(pub(super) F, pub(super) &'a mut [f32]);

impl<F: Function> SimdOp for MapInPlace<'_, F> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self(f, x) = self;
        lanes::map_in_place(
            isa,
            x,
            #[inline(always)]
            |x| f.apply(isa, x),
        );
    }
}

macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident, $in_place:ident = $apply:expr;)*) => {
        $(
            $(#[$doc])*
            pub fn $name(x: &[f32], out: &mut [f32]) {
                Map(apply::$name, x, out).dispatch();
            }

            #[doc = concat!("As [`", stringify!($name), "`], in place.")]
            pub fn $in_place(x: &mut [f32]) {
                MapInPlace(apply::$name, x).dispatch();
            }
        )*

        /// The functions as types.
        pub(super) mod apply {
            $(
                #[derive(Clone, Copy)]
                #[expect(non_camel_case_types, reason = "named after its function")]
                pub(in super::super) struct $name;
            )*
        }

        $(
            impl Function for apply::$name {
                #[inline(always)]
                fn apply<I: Isa>(self, isa: I, x: I::F32) -> I::F32 {
                    ($apply)(isa, x)
                }
            }
        )*
    };
}

functions! {
    /// eˣ: [`math::exp`](crate::math::exp).
    exp, exp_in_place = vector::exp;
    /// 1 / (1 + e⁻ˣ): [`math::sigmoid`](crate::math::sigmoid).
    sigmoid, sigmoid_in_place = vector::sigmoid;
    /// tanh x: [`math::tanh`](crate::math::tanh).
    tanh, tanh_in_place = vector::tanh;
    /// x / (1 + e⁻ˣ): [`math::silu`](crate::math::silu).
    silu, silu_in_place = vector::silu;
    /// GELU in its tanh form: [`math::gelu`](crate::math::gelu).
    gelu, gelu_in_place = vector::gelu;
    /// GELU in its exact form: [`math::gelu_erf`](crate::math::gelu_erf).
    gelu_erf, gelu_erf_in_place = vector::gelu_erf;
    /// max(x, 0): [`math::relu`](crate::math::relu).
    relu, relu_in_place = vector::relu;
    /// max(x, 0)²: [`math::relu2`](crate::math::relu2).
    relu2, relu2_in_place = vector::relu2;
    /// −x.
    neg, neg_in_place = vector::neg;
    /// |x|.
    abs, abs_in_place = vector::abs;
    /// √x.
    sqrt, sqrt_in_place = vector::sqrt;
    /// 1 / x.
    recip, recip_in_place = vector::recip;
    /// x².
    sqr, sqr_in_place = vector::sqr;
}
