//! WebAssembly compiled with SIMD128: sixteen bytes at a time.
//!
//! Each product is added in an i16 of its own: at most 3·128, so 85 dots fit a lane.

use super::scalar::Portable;
use crate::cpu::integer::{IntegerIsa, integer_kernels};
use crate::cpu::kernels::{FloatIsa, Kernels};
use rten_simd::SimdOp;
use rten_simd::isa::Wasm32Isa;
use std::arch::wasm32::*;

pub(in crate::cpu) static KERNELS: Kernels =
    Kernels::new::<Floats>(integer_kernels!(Simd128, Simd128, 2, 4));

/// Float kernels on 128-bit registers.
pub(super) struct Floats;

impl FloatIsa for Floats {
    fn run<Op: SimdOp>(op: Op) -> Op::Output {
        match Wasm32Isa::new() {
            Some(isa) => op.eval(isa),
            // This file is compiled only where they are; the bits would be the same.
            None => Portable::run(op),
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Simd128;

impl IntegerIsa for Simd128 {
    type Bytes = v128;
    type Sums = v128;
    /// The products of the first eight bytes and of the last.
    type Open = [v128; 2];

    const WIDTH: usize = 16;
    const RUN: usize = 85;

    #[inline(always)]
    fn load(self, bytes: &[u8]) -> v128 {
        let bytes = &bytes[..16];
        // SAFETY: 16 bytes are there; the load is unaligned.
        unsafe { v128_load(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn load_parts(self, parts: [&[u8; 16]; 4]) -> v128 {
        self.load(parts[0])
    }

    #[inline(always)]
    fn store(self, bytes: v128, out: &mut [u8]) {
        let out = &mut out[..16];
        // SAFETY: there is room for 16 bytes; the store is unaligned.
        unsafe { v128_store(out.as_mut_ptr().cast(), bytes) }
    }

    #[inline(always)]
    fn splat(self, four: &[i8; 4]) -> v128 {
        i32x4_splat(i32::from_le_bytes(bytemuck::cast(*four)))
    }

    #[inline(always)]
    fn pair<const SHIFT: i32>(self, bytes: v128) -> v128 {
        v128_and(u8x16_shr(bytes, SHIFT as u32), u8x16_splat(3))
    }

    #[inline(always)]
    fn digit(self, bytes: v128) -> v128 {
        let one = u8x16_ge(bytes, u8x16_splat(86));
        let two = u8x16_ge(bytes, u8x16_splat(171));
        // All ones is −1.
        i8x16_neg(i8x16_add(one, two))
    }

    #[inline(always)]
    fn triple(self, bytes: v128) -> v128 {
        i8x16_add(i8x16_add(bytes, bytes), bytes)
    }

    #[inline(always)]
    fn zero(self) -> v128 {
        i32x4_splat(0)
    }

    #[inline(always)]
    fn open(self, _: v128) -> [v128; 2] {
        [i32x4_splat(0); 2]
    }

    #[inline(always)]
    fn dot(self, [low, high]: [v128; 2], codes: v128, q: v128) -> [v128; 2] {
        [
            i16x8_add(low, i16x8_extmul_low_i8x16(codes, q)),
            i16x8_add(high, i16x8_extmul_high_i8x16(codes, q)),
        ]
    }

    #[inline(always)]
    fn close(self, sums: v128, [low, high]: [v128; 2]) -> v128 {
        let low = i32x4_extadd_pairwise_i16x8(low);
        let high = i32x4_extadd_pairwise_i16x8(high);
        i32x4_add(sums, add_pairs(low, high))
    }

    #[inline(always)]
    fn sum_lanes(self, [a, b, c, d]: [v128; 4]) -> v128 {
        add_pairs(add_pairs(a, b), add_pairs(c, d))
    }

    #[inline(always)]
    fn store_sums(self, sums: v128, out: &mut [i32]) {
        let out = &mut out[..4];
        // SAFETY: there is room for four i32; the store is unaligned.
        unsafe { v128_store(out.as_mut_ptr().cast(), sums) }
    }

    #[inline(always)]
    fn add_scaled(self, totals: &mut [f32], sums: v128, q_sum: i32, scales: &[f32]) {
        let (totals, scales) = (&mut totals[..4], &scales[..4]);
        let sums = f32x4_convert_i32x4(i32x4_sub(sums, i32x4_splat(q_sum)));
        // SAFETY: there are four totals and scales; loads and stores are unaligned.
        unsafe {
            let scaled = f32x4_mul(sums, v128_load(scales.as_ptr().cast()));
            let total = f32x4_add(v128_load(totals.as_ptr().cast()), scaled);
            v128_store(totals.as_mut_ptr().cast(), total);
        }
    }
}

/// The sums of neighbouring i32, of `a` and then of `b`.
#[inline(always)]
fn add_pairs(a: v128, b: v128) -> v128 {
    i32x4_add(
        i32x4_shuffle::<0, 2, 4, 6>(a, b),
        i32x4_shuffle::<1, 3, 5, 7>(a, b),
    )
}
