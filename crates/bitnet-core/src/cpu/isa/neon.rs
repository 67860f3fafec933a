//! aarch64 with NEON: sixteen bytes at a time.
//!
//! `smlal` adds each product in an i16 of its own: at most 3·128, so 85 dots fit a lane.

use super::scalar::Portable;
use crate::cpu::integer::{IntegerIsa, kernels};
use crate::cpu::kernels::FloatIsa;
use rten_simd::SimdOp;
use rten_simd::isa::ArmNeonIsa;
use std::arch::aarch64::*;

kernels!(Neon, Floats, 2, 4);

/// Float kernels on NEON registers.
pub(super) struct Floats;

impl FloatIsa for Floats {
    fn run<Op: SimdOp>(op: Op) -> Op::Output {
        match ArmNeonIsa::new() {
            Some(isa) => op.eval(isa),
            // There is no aarch64 without NEON; the bits would be the same.
            None => Portable::run(op),
        }
    }
}

/// NEON, which is part of aarch64.
#[derive(Clone, Copy)]
pub(super) struct Neon(());

impl Neon {
    pub(super) const fn enabled() -> Self {
        Self(())
    }
}

impl IntegerIsa for Neon {
    type Bytes = uint8x16_t;
    type Sums = int32x4_t;
    /// The products of the first eight bytes and of the last.
    type Open = [int16x8_t; 2];

    const WIDTH: usize = 16;
    const RUN: usize = 85;

    #[inline(always)]
    fn load(self, bytes: &[u8]) -> uint8x16_t {
        let bytes = &bytes[..16];
        // SAFETY: 16 bytes are there, and NEON is part of aarch64.
        unsafe { vld1q_u8(bytes.as_ptr()) }
    }

    #[inline(always)]
    fn load_parts(self, parts: [&[u8; 16]; 4]) -> uint8x16_t {
        self.load(parts[0])
    }

    #[inline(always)]
    fn transpose(self, [a, b, c, d]: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
        // SAFETY: NEON is part of aarch64.
        unsafe {
            let [a, b, c, d] = [
                vreinterpretq_u32_u8(a),
                vreinterpretq_u32_u8(b),
                vreinterpretq_u32_u8(c),
                vreinterpretq_u32_u8(d),
            ];
            let ab = [
                vreinterpretq_u64_u32(vzip1q_u32(a, b)),
                vreinterpretq_u64_u32(vzip2q_u32(a, b)),
            ];
            let cd = [
                vreinterpretq_u64_u32(vzip1q_u32(c, d)),
                vreinterpretq_u64_u32(vzip2q_u32(c, d)),
            ];
            [
                vreinterpretq_u8_u64(vzip1q_u64(ab[0], cd[0])),
                vreinterpretq_u8_u64(vzip2q_u64(ab[0], cd[0])),
                vreinterpretq_u8_u64(vzip1q_u64(ab[1], cd[1])),
                vreinterpretq_u8_u64(vzip2q_u64(ab[1], cd[1])),
            ]
        }
    }

    #[inline(always)]
    fn store(self, bytes: uint8x16_t, out: &mut [u8]) {
        let out = &mut out[..16];
        // SAFETY: there is room for 16 bytes, and NEON is part of aarch64.
        unsafe { vst1q_u8(out.as_mut_ptr(), bytes) }
    }

    #[inline(always)]
    fn splat(self, four: &[i8; 4]) -> uint8x16_t {
        // SAFETY: NEON is part of aarch64.
        unsafe { vreinterpretq_u8_s32(vdupq_n_s32(i32::from_le_bytes(bytemuck::cast(*four)))) }
    }

    #[inline(always)]
    fn pair<const SHIFT: i32>(self, bytes: uint8x16_t) -> uint8x16_t {
        // SAFETY: NEON is part of aarch64.
        unsafe {
            match SHIFT {
                0 => vandq_u8(bytes, vdupq_n_u8(3)),
                2 => vandq_u8(vshrq_n_u8::<2>(bytes), vdupq_n_u8(3)),
                4 => vandq_u8(vshrq_n_u8::<4>(bytes), vdupq_n_u8(3)),
                _ => vshrq_n_u8::<6>(bytes),
            }
        }
    }

    #[inline(always)]
    fn digit(self, bytes: uint8x16_t) -> uint8x16_t {
        // SAFETY: NEON is part of aarch64.
        unsafe {
            let one = vcgeq_u8(bytes, vdupq_n_u8(86));
            let two = vcgeq_u8(bytes, vdupq_n_u8(171));
            // All ones is −1.
            vsubq_u8(vdupq_n_u8(0), vaddq_u8(one, two))
        }
    }

    #[inline(always)]
    fn triple(self, bytes: uint8x16_t) -> uint8x16_t {
        // SAFETY: NEON is part of aarch64.
        unsafe { vmulq_u8(bytes, vdupq_n_u8(3)) }
    }

    #[inline(always)]
    fn zero(self) -> int32x4_t {
        // SAFETY: NEON is part of aarch64.
        unsafe { vdupq_n_s32(0) }
    }

    #[inline(always)]
    fn open(self, _: int32x4_t) -> [int16x8_t; 2] {
        // SAFETY: NEON is part of aarch64.
        unsafe { [vdupq_n_s16(0), vdupq_n_s16(0)] }
    }

    #[inline(always)]
    fn dot(self, [low, high]: [int16x8_t; 2], codes: uint8x16_t, q: uint8x16_t) -> [int16x8_t; 2] {
        // SAFETY: NEON is part of aarch64.
        unsafe {
            let (codes, q) = (vreinterpretq_s8_u8(codes), vreinterpretq_s8_u8(q));
            [
                vmlal_s8(low, vget_low_s8(codes), vget_low_s8(q)),
                vmlal_high_s8(high, codes, q),
            ]
        }
    }

    #[inline(always)]
    fn close(self, sums: int32x4_t, [low, high]: [int16x8_t; 2]) -> int32x4_t {
        // SAFETY: NEON is part of aarch64.
        unsafe { vaddq_s32(sums, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high))) }
    }

    #[inline(always)]
    fn sum_lanes(self, [a, b, c, d]: [int32x4_t; 4]) -> int32x4_t {
        // SAFETY: NEON is part of aarch64.
        unsafe { vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)) }
    }

    #[inline(always)]
    fn store_sums(self, sums: int32x4_t, out: &mut [i32]) {
        let out = &mut out[..4];
        // SAFETY: there is room for four i32, and NEON is part of aarch64.
        unsafe { vst1q_s32(out.as_mut_ptr(), sums) }
    }

    #[inline(always)]
    fn add_scaled(self, totals: &mut [f32], sums: int32x4_t, q_sum: i32, scales: &[f32]) {
        let (totals, scales) = (&mut totals[..4], &scales[..4]);
        // SAFETY: there are four totals and scales, and NEON is part of aarch64.
        unsafe {
            let sums = vcvtq_f32_s32(vsubq_s32(sums, vdupq_n_s32(q_sum)));
            let scaled = vmulq_f32(sums, vld1q_f32(scales.as_ptr()));
            let total = vaddq_f32(vld1q_f32(totals.as_ptr()), scaled);
            vst1q_f32(totals.as_mut_ptr(), total);
        }
    }
}
