//! f32 to and from the 16-bit float formats, rounded half to even as the `half` crate does.

use half::{bf16, f16};
use rten_simd::ops::{BitOps, Extend, IntOps, NarrowSaturate, NumOps};
use rten_simd::{Isa, Simd, SimdOp};

/// f32 to IEEE binary16; beyond 65504 to infinity.
pub fn f32_to_f16(x: &[f32], out: &mut [f16]) {
    Narrow(x, bytemuck::cast_slice_mut(out), Half::F16).dispatch();
}

/// IEEE binary16 to f32, exactly.
pub fn f16_to_f32(x: &[f16], out: &mut [f32]) {
    Widen(bytemuck::cast_slice(x), out, Half::F16).dispatch();
}

/// f32 to bfloat16.
pub fn f32_to_bf16(x: &[f32], out: &mut [bf16]) {
    Narrow(x, bytemuck::cast_slice_mut(out), Half::Bf16).dispatch();
}

/// bfloat16 to f32, exactly.
pub fn bf16_to_f32(x: &[bf16], out: &mut [f32]) {
    Widen(bytemuck::cast_slice(x), out, Half::Bf16).dispatch();
}

#[derive(Clone, Copy)]
pub(super) enum Half {
    F16,
    Bf16,
}

/// The most 16-bit elements in a register.
const WIDEST: usize = 32;

pub(super) struct Narrow<'a>(
    pub(super) &'a [f32],
    pub(super) &'a mut [u16],
    pub(super) Half,
);

impl SimdOp for Narrow<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self(x, out, format) = self;
        let ops = isa.f32();
        match format {
            Half::F16 => narrow(
                isa,
                x,
                out,
                #[inline(always)]
                |low, high| ops.narrow_saturate(low, high).reinterpret_cast(),
            ),
            Half::Bf16 => narrow(
                isa,
                x,
                out,
                #[inline(always)]
                |low, high| {
                    let int = isa.i32();
                    let (low, high) = (round_to_bf16(isa, low), round_to_bf16(isa, high));
                    int.narrow_saturate(low, high).reinterpret_cast()
                },
            ),
        }
    }
}

/// [`f32_to_f16`] on any instruction set.
pub(crate) struct NarrowF16<'a>(pub(crate) &'a [f32], pub(crate) &'a mut [f16]);

impl SimdOp for NarrowF16<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        Narrow(self.0, bytemuck::cast_slice_mut(self.1), Half::F16).eval(isa);
    }
}

/// The upper half of each float as i32, rounded; NaN stays NaN.
#[inline(always)]
fn round_to_bf16<I: Isa>(isa: I, x: I::F32) -> I::I32 {
    let (ops, int) = (isa.f32(), isa.i32());
    let bits: I::I32 = x.reinterpret_cast();
    let top = int.shift_right::<16>(bits);
    let odd = int.and(top, int.one());
    let rounded = int.add(bits, int.add(odd, int.splat(0x7fff)));
    let quiet = int.or(top, int.splat(0x40));
    int.select(int.shift_right::<16>(rounded), quiet, ops.eq(x, x))
}

#[inline(always)]
fn narrow<I: Isa>(isa: I, x: &[f32], out: &mut [u16], f: impl Fn(I::F32, I::F32) -> I::U16 + Copy) {
    let step = isa.u16().len();
    let n = x.len().min(out.len());
    let (x, x_rest) = x[..n].split_at(n - n % step);
    let (out, out_rest) = out[..n].split_at_mut(x.len());
    for (x, out) in x.chunks_exact(step).zip(out.chunks_exact_mut(step)) {
        narrow_register(isa, x, out, f);
    }
    if !x_rest.is_empty() {
        let (mut x, mut last) = ([0.0; WIDEST], [0; WIDEST]);
        x[..x_rest.len()].copy_from_slice(x_rest);
        narrow_register(isa, &x[..step], &mut last, f);
        out_rest.copy_from_slice(&last[..out_rest.len()]);
    }
}

/// One register of 16-bit elements.
#[inline(always)]
fn narrow_register<I: Isa>(
    isa: I,
    x: &[f32],
    out: &mut [u16],
    f: impl Fn(I::F32, I::F32) -> I::U16 + Copy,
) {
    let ops = isa.f32();
    let (low, high) = x.split_at(ops.len());
    isa.u16().store(f(ops.load(low), ops.load(high)), out);
}

pub(super) struct Widen<'a>(
    pub(super) &'a [u16],
    pub(super) &'a mut [f32],
    pub(super) Half,
);

impl SimdOp for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self(x, out, format) = self;
        match format {
            Half::F16 => widen(
                isa,
                x,
                out,
                #[inline(always)]
                |x| widen_halves(isa, x),
            ),
            Half::Bf16 => widen(
                isa,
                x,
                out,
                #[inline(always)]
                |x| {
                    let (int, half, x) = (isa.i32(), isa.i16(), x.reinterpret_cast());
                    let low = int.shift_left::<16>(half.extend_low(x));
                    let high = int.shift_left::<16>(half.extend_high(x));
                    [low.reinterpret_cast(), high.reinterpret_cast()]
                },
            ),
        }
    }
}

#[inline(always)]
fn widen<I: Isa>(isa: I, x: &[u16], out: &mut [f32], f: impl Fn(I::U16) -> [I::F32; 2] + Copy) {
    let step = isa.u16().len();
    let n = x.len().min(out.len());
    let (x, x_rest) = x[..n].split_at(n - n % step);
    let (out, out_rest) = out[..n].split_at_mut(x.len());
    for (x, out) in x.chunks_exact(step).zip(out.chunks_exact_mut(step)) {
        widen_register(isa, x, out, f);
    }
    if !x_rest.is_empty() {
        let (mut x, mut last) = ([0; WIDEST], [0.0; WIDEST]);
        x[..x_rest.len()].copy_from_slice(x_rest);
        widen_register(isa, &x[..step], &mut last[..step], f);
        out_rest.copy_from_slice(&last[..out_rest.len()]);
    }
}

/// One register of 16-bit elements.
#[inline(always)]
fn widen_register<I: Isa>(
    isa: I,
    x: &[u16],
    out: &mut [f32],
    f: impl Fn(I::U16) -> [I::F32; 2] + Copy,
) {
    let ops = isa.f32();
    let [low, high] = f(isa.u16().load(x));
    let (out_low, out_high) = out.split_at_mut(ops.len());
    ops.store(low, out_low);
    ops.store(high, out_high);
}

/// Whether there is an instruction that widens binary16: registers of more than four floats come with one.
#[inline(always)]
pub(super) fn has_f16<I: Isa>(isa: I) -> bool {
    isa.f32().len() > 4 || cfg!(target_arch = "aarch64")
}

/// A register of binary16 as two of f32.
#[inline(always)]
pub(super) fn widen_halves<I: Isa>(isa: I, x: I::U16) -> [I::F32; 2] {
    if has_f16(isa) {
        let (half, x) = (isa.f16(), x.reinterpret_cast());
        return [half.extend_low(x), half.extend_high(x)];
    }
    let (half, x) = (isa.i16(), x.reinterpret_cast());
    [
        widen_f16(isa, half.extend_low(x)),
        widen_f16(isa, half.extend_high(x)),
    ]
}

/// Widens binary16 by arithmetic.
#[inline(always)]
pub(super) fn widen_f16<I: Isa>(isa: I, bits: I::I32) -> I::F32 {
    let (ops, int) = (isa.f32(), isa.i32());
    let exponent = int.splat(0x7c00);
    let magnitude = int.shift_left::<13>(int.and(bits, int.splat(0x7fff)));
    // 2¹¹² moves the exponent's bias from 15 to 127 and normalises subnormals.
    let finite = ops.mul(
        magnitude.reinterpret_cast(),
        ops.splat(f32::from_bits(0x7780_0000)),
    );
    let special = int.or(magnitude, int.splat(0x7f80_0000));
    let is_special = int.eq(int.and(bits, exponent), exponent);
    let value = int.select(special, finite.reinterpret_cast(), is_special);
    let sign = int.shift_left::<16>(int.and(bits, int.splat(0x8000)));
    int.or(value, sign).reinterpret_cast()
}
