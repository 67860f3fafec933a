//! Softmax and the norms, each over one row, in place.

use super::reduce::{max_of, mean_of, variance_of};
use super::{lanes, vector};
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};

/// e^(xᵢ − max) / Σ e^(xⱼ − max): the reciprocal of the sum, multiplied.
pub fn softmax_in_place(x: &mut [f32]) {
    Softmax(x).dispatch();
}

/// (xᵢ − mean) / √(variance + eps), times gainᵢ and plus biasᵢ where given.
pub fn layer_norm_in_place(x: &mut [f32], gain: Option<&[f32]>, bias: Option<&[f32]>, eps: f32) {
    LayerNorm(x, gain, bias, eps).dispatch();
}

/// xᵢ / √(mean(x²) + eps)·gainᵢ: the reciprocal of the root, multiplied.
pub fn rms_norm_in_place(x: &mut [f32], gain: &[f32], eps: f32) {
    RmsNorm(x, gain, eps).dispatch();
}

pub(crate) struct Softmax<'a>(pub(crate) &'a mut [f32]);

impl SimdOp for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let largest = ops.splat(max_of(isa, self.0));
        let sum = lanes::map_and_sum(
            isa,
            self.0,
            #[inline(always)]
            |x| vector::exp(isa, ops.sub(x, largest)),
        );
        let inverse = ops.splat(1.0 / sum);
        lanes::map_in_place(
            isa,
            self.0,
            #[inline(always)]
            |x| ops.mul(x, inverse),
        );
    }
}

pub(super) struct LayerNorm<'a>(
    pub(super) &'a mut [f32],
    pub(super) Option<&'a [f32]>,
    pub(super) Option<&'a [f32]>,
    pub(super) f32,
);

impl SimdOp for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self(x, gain, bias, eps) = self;
        let ops = isa.f32();
        let mean = mean_of(isa, x);
        let inverse = 1.0 / (variance_of(isa, x, mean) + eps).sqrt();
        let (mean, inverse) = (ops.splat(mean), ops.splat(inverse));
        match gain {
            None => lanes::map_in_place(
                isa,
                x,
                #[inline(always)]
                |x| normed(isa, x, mean, inverse),
            ),
            Some(gain) => lanes::zip_in_place(
                isa,
                x,
                gain,
                #[inline(always)]
                |x, gain| ops.mul(normed(isa, x, mean, inverse), gain),
            ),
        }
        if let Some(bias) = bias {
            lanes::zip_in_place(
                isa,
                x,
                bias,
                #[inline(always)]
                |x, bias| ops.add(x, bias),
            );
        }
    }
}

/// (x − mean)·inverse.
#[inline(always)]
fn normed<I: Isa>(isa: I, x: I::F32, mean: I::F32, inverse: I::F32) -> I::F32 {
    let ops = isa.f32();
    ops.mul(ops.sub(x, mean), inverse)
}

pub(crate) struct RmsNorm<'a>(
    pub(crate) &'a mut [f32],
    pub(crate) &'a [f32],
    pub(crate) f32,
);

/// [`RmsNorm`] of the first slice into the last.
pub(crate) struct RmsNormInto<'a>(
    pub(crate) &'a [f32],
    pub(crate) &'a [f32],
    pub(crate) f32,
    pub(crate) &'a mut [f32],
);

/// 1 / √(mean(x²) + eps).
#[inline(always)]
fn inverse_rms<I: Isa>(isa: I, x: &[f32], eps: f32) -> I::F32 {
    let mean = lanes::dot(isa, x, x) / x.len() as f32;
    isa.f32().splat(1.0 / (mean + eps).sqrt())
}

impl SimdOp for RmsNormInto<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self(x, gain, eps, out) = self;
        let ops = isa.f32();
        let inverse = inverse_rms(isa, x, eps);
        lanes::zip(
            isa,
            x,
            gain,
            out,
            #[inline(always)]
            |x, gain| ops.mul(ops.mul(x, inverse), gain),
        );
    }
}

impl SimdOp for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self(x, gain, eps) = self;
        let ops = isa.f32();
        let inverse = inverse_rms(isa, x, eps);
        lanes::zip_in_place(
            isa,
            x,
            gain,
            #[inline(always)]
            |x, gain| ops.mul(ops.mul(x, inverse), gain),
        );
    }
}
