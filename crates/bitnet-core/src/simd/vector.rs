//! The functions of `math` on one SIMD register: the same operations in the same order, so that every lane has
//! the scalar function's bits.
//!
//! Three operations of the SIMD library are kept away from here: its fused multiply-add (other bits), its `min` and
//! `max` (which differ between instruction sets on NaN and −0), and its `neg` and `abs` (likewise on −0).

use crate::math::{
    EXP, EXP_HIGH, EXP_LOW, GELU, LN2, MILLS, ROUND, SIGN, TAIL_END, TANH, TANH_NEAR, TOP_BITS,
};
use rten_simd::ops::{BitOps, FloatOps, IntOps, NumOps};
use rten_simd::{Isa, Simd};
use std::f32::consts::LOG2_E;

/// c₀·xᵏ + … + cₖ.
#[inline(always)]
fn horner<I: Isa>(isa: I, coefficients: &[f32], x: I::F32) -> I::F32 {
    let ops = isa.f32();
    let mut p = ops.splat(coefficients[0]);
    for c in &coefficients[1..] {
        p = ops.add(ops.mul(p, x), ops.splat(*c));
    }
    p
}

/// −x.
#[inline(always)]
pub(super) fn neg<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    ops.xor(x, ops.splat(f32::from_bits(SIGN)))
}

/// 1 / x.
#[inline(always)]
pub(super) fn recip<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    ops.div(ops.one(), x)
}

/// x².
#[inline(always)]
pub(super) fn sqr<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    isa.f32().mul(x, x)
}

/// |x|.
#[inline(always)]
pub(super) fn abs<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    ops.and(x, ops.splat(f32::from_bits(!SIGN)))
}

/// √x. There is no such operation on registers; the compiler makes one of this loop.
#[inline(always)]
pub(super) fn sqrt<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    let mut lanes = x.to_array();
    for i in 0..ops.len() {
        lanes[i] = lanes[i].sqrt();
    }
    ops.load(lanes.as_ref())
}

/// The integer nearest to x, half to even, as integer and as float; for |x| < 2²².
#[inline(always)]
pub(super) fn round<I: Isa>(isa: I, x: I::F32) -> (I::I32, I::F32) {
    let (ops, int) = (isa.f32(), isa.i32());
    let shifted = ops.add(x, ops.splat(ROUND));
    let n: I::I32 = shifted.reinterpret_cast();
    let n = int.sub(n, int.splat(ROUND.to_bits() as i32));
    (n, ops.sub(shifted, ops.splat(ROUND)))
}

#[inline(always)]
fn exp_reduce<I: Isa>(isa: I, x: I::F32) -> (I::I32, I::F32) {
    let ops = isa.f32();
    let (whole, n) = round(isa, ops.mul(x, ops.splat(LOG2_E)));
    let r = ops.sub(x, ops.mul(n, ops.splat(LN2[0])));
    (whole, ops.sub(r, ops.mul(n, ops.splat(LN2[1]))))
}

#[inline(always)]
fn exp_finish<I: Isa>(isa: I, n: I::I32, r: I::F32) -> I::F32 {
    let (ops, int) = (isa.f32(), isa.i32());
    let p = ops.mul(horner(isa, &EXP, r), ops.mul(r, r));
    let y = ops.add(ops.add(p, r), ops.one());
    let half = int.shift_right::<1>(n);
    let y = ops.mul(y, power_of_two(isa, half));
    ops.mul(y, power_of_two(isa, int.sub(n, half)))
}

/// 2ⁿ for −126 ≤ n ≤ 127.
#[inline(always)]
fn power_of_two<I: Isa>(isa: I, n: I::I32) -> I::F32 {
    let int = isa.i32();
    int.shift_left::<23>(int.add(n, int.splat(127)))
        .reinterpret_cast()
}

/// eˣ.
#[inline(always)]
pub(super) fn exp<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    let (low, high) = (ops.splat(EXP_LOW), ops.splat(EXP_HIGH));
    let (below, above) = (ops.lt(x, low), ops.gt(x, high));
    let clamped = ops.select(high, ops.select(low, x, below), above);
    let (n, r) = exp_reduce(isa, clamped);
    let y = exp_finish(isa, n, r);
    let y = ops.select(ops.splat(f32::INFINITY), y, above);
    ops.select(ops.zero(), y, below)
}

/// 1 + e⁻ˣ.
#[inline(always)]
fn one_plus_exp_neg<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    ops.add(ops.one(), exp(isa, neg(isa, x)))
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub(super) fn sigmoid<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    ops.div(ops.one(), one_plus_exp_neg(isa, x))
}

/// x / (1 + e⁻ˣ).
#[inline(always)]
pub(super) fn silu<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    isa.f32().div(x, one_plus_exp_neg(isa, x))
}

/// tanh x.
#[inline(always)]
pub(super) fn tanh<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    let z = ops.mul(x, x);
    let near = ops.mul(ops.mul(horner(isa, &TANH, z), z), x);
    let near = ops.add(near, x);
    let magnitude = abs(isa, x);
    let e = exp(isa, ops.mul(ops.splat(2.0), magnitude));
    let far = ops.div(ops.splat(2.0), ops.add(e, ops.one()));
    let far = ops.sub(ops.one(), far);
    let sign = ops.and(x, ops.splat(f32::from_bits(SIGN)));
    let is_near = ops.lt(magnitude, ops.splat(TANH_NEAR));
    ops.select(near, ops.or(far, sign), is_near)
}

/// GELU, tanh form.
#[inline(always)]
pub(super) fn gelu<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    let u = ops.mul(ops.splat(GELU[1]), ops.mul(x, x));
    let u = ops.mul(x, ops.add(ops.splat(GELU[0]), u));
    ops.div(x, one_plus_exp_neg(isa, u))
}

/// GELU, exact form.
#[inline(always)]
pub(super) fn gelu_erf<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    let (end, z) = (ops.splat(TAIL_END), abs(isa, x));
    let z = ops.select(end, z, ops.gt(z, end));
    let t = ops.add(ops.one(), ops.mul(ops.splat(0.3), z));
    let t = ops.div(ops.one(), t);
    let m = ops.mul(horner(isa, &MILLS, t), t);
    let top = ops.and(z, ops.splat(f32::from_bits(TOP_BITS)));
    let minus_half = ops.splat(-0.5);
    let (n, r) = exp_reduce(isa, ops.mul(ops.mul(top, top), minus_half));
    let low = ops.mul(ops.mul(ops.sub(z, top), ops.add(z, top)), minus_half);
    let tail = ops.mul(exp_finish(isa, n, ops.add(r, low)), m);
    let negative = ops.lt(x, ops.zero());
    let phi = ops.select(tail, ops.sub(ops.one(), tail), negative);
    ops.mul(x, phi)
}

/// max(x, 0); 0 for NaN.
#[inline(always)]
pub(super) fn relu<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    ops.select(x, ops.zero(), ops.gt(x, ops.zero()))
}

/// max(x, 0)². Not the square of [`relu`]: there the sign of zero is lost, and compilers make a maximum of the choice,
/// which on aarch64 is NaN for a signalling NaN.
#[inline(always)]
pub(super) fn relu2<I: Isa>(isa: I, x: I::F32) -> I::F32 {
    let ops = isa.f32();
    ops.select(ops.mul(x, x), ops.zero(), ops.gt(x, ops.zero()))
}
