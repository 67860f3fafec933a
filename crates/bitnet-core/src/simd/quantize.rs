//! Rows to int8 by their largest magnitude, and back.

use super::reduce::absmax_of;
use crate::math::ROUND;
use rten_simd::ops::{BitOps, Extend, FloatOps, NarrowSaturate, NumOps, ToFloat};
use rten_simd::{Isa, Simd, SimdOp};

/// The most bytes in a register.
const WIDEST: usize = 64;

/// Rounds a row to int8 by its largest magnitude and returns the scale s = 127 / max(|x|, 1e-5): qᵢ ≈ xᵢ·s, half to
/// even. NaN becomes 0 and does not count as a magnitude.
pub fn quantize(x: &[f32], q: &mut [i8]) -> f32 {
    Quantize(x, q).dispatch()
}

/// outᵢ = qᵢ / `scale`.
pub fn dequantize(q: &[i8], scale: f32, out: &mut [f32]) {
    Dequantize(q, scale, out).dispatch();
}

/// [`quantize`] on any instruction set.
pub(crate) struct Quantize<'a>(pub(crate) &'a [f32], pub(crate) &'a mut [i8]);

impl SimdOp for Quantize<'_> {
    type Output = f32;

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) -> f32 {
        let Self(x, q) = self;
        let largest = absmax_of(isa, x);
        let scale = 127.0 / if largest > 1e-5 { largest } else { 1e-5 };
        round_by(isa, x, scale, q);
        scale
    }
}

/// qᵢ = xᵢ·scale, rounded half to even; what is beyond int8 becomes −128 or 127, and NaN 0.
#[inline(always)]
pub(super) fn round_by<I: Isa>(isa: I, x: &[f32], scale: f32, q: &mut [i8]) {
    let step = isa.i8().len();
    let n = x.len().min(q.len());
    let (x, x_rest) = x[..n].split_at(n - n % step);
    let (q, q_rest) = q[..n].split_at_mut(x.len());
    for (x, q) in x.chunks_exact(step).zip(q.chunks_exact_mut(step)) {
        round_to_bytes(isa, x, scale, q);
    }
    if !x_rest.is_empty() {
        let (mut x, mut last) = ([0.0; WIDEST], [0; WIDEST]);
        x[..x_rest.len()].copy_from_slice(x_rest);
        round_to_bytes(isa, &x, scale, &mut last);
        q_rest.copy_from_slice(&last[..q_rest.len()]);
    }
}

/// One register of int8.
#[inline(always)]
fn round_to_bytes<I: Isa>(isa: I, x: &[f32], scale: f32, q: &mut [i8]) {
    // There is no narrowing to i8: 128 is added before it is narrowed to u8, and taken off by flipping the top bit.
    const OFFSET: i32 = ROUND.to_bits() as i32 - 128;
    let (ops, int, half) = (isa.f32(), isa.i32(), isa.i16());
    let (width, scale) = (ops.len(), ops.splat(scale));
    let mut parts = [int.splat(0); 4];
    for (i, part) in parts.iter_mut().enumerate() {
        let scaled = ops.mul(ops.load(&x[i * width..][..width]), scale);
        let scaled = ops.select(scaled, ops.zero(), ops.eq(scaled, scaled));
        // The sum's low bits are the rounded integer.
        let bits: I::I32 = ops.add(scaled, ops.splat(ROUND)).reinterpret_cast();
        *part = int.sub(bits, int.splat(OFFSET));
    }
    let low = int.narrow_saturate(parts[0], parts[1]);
    let high = int.narrow_saturate(parts[2], parts[3]);
    let bytes = half.narrow_saturate(low, high).same_cast::<I::U8>();
    let bytes = isa.u8().xor(bytes, isa.u8().splat(0x80));
    isa.i8().store(bytes.reinterpret_cast(), q);
}

pub(super) struct Dequantize<'a>(
    pub(super) &'a [i8],
    pub(super) f32,
    pub(super) &'a mut [f32],
);

impl SimdOp for Dequantize<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self(q, scale, out) = self;
        let step = isa.i8().len();
        let n = q.len().min(out.len());
        let (q, q_rest) = q[..n].split_at(n - n % step);
        let (out, out_rest) = out[..n].split_at_mut(q.len());
        for (q, out) in q.chunks_exact(step).zip(out.chunks_exact_mut(step)) {
            widen_bytes(isa, q, scale, out);
        }
        if !q_rest.is_empty() {
            let (mut q, mut last) = ([0; WIDEST], [0.0; WIDEST]);
            q[..q_rest.len()].copy_from_slice(q_rest);
            widen_bytes(isa, &q, scale, &mut last);
            out_rest.copy_from_slice(&last[..out_rest.len()]);
        }
    }
}

/// One register of int8.
#[inline(always)]
fn widen_bytes<I: Isa>(isa: I, q: &[i8], scale: f32, out: &mut [f32]) {
    let (ops, int, half, bytes) = (isa.f32(), isa.i32(), isa.i16(), isa.i8());
    let scale = ops.splat(scale);
    let q = bytes.load(q);
    let (low, high) = (bytes.extend_low(q), bytes.extend_high(q));
    let parts = [
        half.extend_low(low),
        half.extend_high(low),
        half.extend_low(high),
        half.extend_high(high),
    ];
    for (q, out) in parts.into_iter().zip(out.chunks_exact_mut(ops.len())) {
        ops.store(ops.div(int.to_float(q), scale), out);
    }
}
