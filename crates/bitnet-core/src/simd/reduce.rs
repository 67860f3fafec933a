//! One number from a slice. Sums run in sixty-four lanes ended by a tree, and so do mean and variance; the dot product,
//! on which the transformer is built, in sixteen; the greatest and the least do not depend on order.

use super::{lanes, vector};
use rten_simd::ops::{BitOps, MaskOps, NumOps};
use rten_simd::{Isa, SimdOp};

macro_rules! reductions {
    ($($(#[$doc:meta])* $name:ident($($x:ident),*) -> $result:ty = $op:ident, $eval:expr;)*) => {
        $(
            $(#[$doc])*
            pub fn $name($($x: &[f32]),*) -> $result {
                $op($($x),*).dispatch()
            }

            pub(crate) struct $op<'a>($(pub(crate) reductions!(@slice 'a $x)),*);

            impl SimdOp for $op<'_> {
                type Output = $result;

                #[inline(always)]
                fn eval<I: Isa>(self, isa: I) -> $result {
                    let Self($($x),*) = self;
                    ($eval)(isa, $($x),*)
                }
            }
        )*
    };
    (@slice $life:lifetime $x:ident) => { &$life [f32] };
}

reductions! {
    /// Σ xᵢ.
    sum(x) -> f32 = Sum, sum_of;
    /// Σ aᵢ·bᵢ over the shorter length.
    dot(a, b) -> f32 = Dot, lanes::dot;
    /// The greatest element; NaN is passed over; −∞ for an empty slice. Zero comes out as +0.
    max(x) -> f32 = Max, max_of;
    /// The least element; NaN is passed over; +∞ for an empty slice. Zero comes out as +0.
    min(x) -> f32 = Min, min_of;
    /// The greatest magnitude; NaN is passed over; 0 for an empty slice.
    absmax(x) -> f32 = Absmax, absmax_of;
    /// The first place of the greatest element; NaN is passed over; nothing if there is no number.
    argmax(x) -> Option<usize> = Argmax, argmax_of;
    /// The first place of the least element; NaN is passed over; nothing if there is no number.
    argmin(x) -> Option<usize> = Argmin, argmin_of;
    /// Σ xᵢ / n; NaN for an empty slice.
    mean(x) -> f32 = Mean, mean_of;
    /// Σ (xᵢ − mean)² / n, the variance of a whole population; NaN for an empty slice.
    variance(x) -> f32 = Variance, whole_variance_of;
}

#[inline(always)]
fn sum_of<I: Isa>(isa: I, x: &[f32]) -> f32 {
    lanes::sum_of(
        isa,
        x,
        #[inline(always)]
        |x| x,
    )
}

#[inline(always)]
pub(super) fn mean_of<I: Isa>(isa: I, x: &[f32]) -> f32 {
    sum_of(isa, x) / x.len() as f32
}

#[inline(always)]
pub(super) fn variance_of<I: Isa>(isa: I, x: &[f32], mean: f32) -> f32 {
    let ops = isa.f32();
    let center = ops.splat(mean);
    let squares = lanes::sum_of(
        isa,
        x,
        #[inline(always)]
        |x| {
            let x = ops.sub(x, center);
            ops.mul(x, x)
        },
    );
    squares / x.len() as f32
}

#[inline(always)]
fn whole_variance_of<I: Isa>(isa: I, x: &[f32]) -> f32 {
    variance_of(isa, x, mean_of(isa, x))
}

#[inline(always)]
fn argmax_of<I: Isa>(isa: I, x: &[f32]) -> Option<usize> {
    first_equal(isa, x, max_of(isa, x))
}

#[inline(always)]
fn argmin_of<I: Isa>(isa: I, x: &[f32]) -> Option<usize> {
    first_equal(isa, x, min_of(isa, x))
}

#[inline(always)]
pub(super) fn max_of<I: Isa>(isa: I, x: &[f32]) -> f32 {
    // −0 + 0 is 0.
    lanes::greatest_of(
        isa,
        x,
        f32::NEG_INFINITY,
        #[inline(always)]
        |x| x,
    ) + 0.0
}

#[inline(always)]
fn min_of<I: Isa>(isa: I, x: &[f32]) -> f32 {
    -lanes::greatest_of(
        isa,
        x,
        f32::NEG_INFINITY,
        #[inline(always)]
        |x| vector::neg(isa, x),
    ) + 0.0
}

#[inline(always)]
pub(super) fn absmax_of<I: Isa>(isa: I, x: &[f32]) -> f32 {
    lanes::greatest_of(
        isa,
        x,
        0.0,
        #[inline(always)]
        |x| vector::abs(isa, x),
    )
}

/// The first place of `value`.
#[inline(always)]
fn first_equal<I: Isa>(isa: I, x: &[f32], value: f32) -> Option<usize> {
    let (ops, masks) = (isa.f32(), isa.m32());
    let wanted = ops.splat(value);
    let mut chunks = x.chunks_exact(ops.len());
    let before = chunks
        .position(
            #[inline(always)]
            |x| masks.any(ops.eq(ops.load(x), wanted)),
        )
        .unwrap_or(x.len() / ops.len());
    let start = before * ops.len();
    let place = x[start..].iter().position(|x| *x == value)?;
    Some(start + place)
}
