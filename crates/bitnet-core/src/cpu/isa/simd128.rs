//! WebAssembly compiled with SIMD128: sixteen bytes at a time.
//!
//! Each product is added in an i16 of its own: at most 3·128, so 85 dots fit a lane.

use super::scalar::Portable;
use crate::cpu::integer::{BASE3_PLANES, IntegerIsa, kernels};
use crate::cpu::kernels::FloatIsa;
use rten_simd::SimdOp;
use rten_simd::isa::Wasm32Isa;
use std::arch::wasm32::*;

kernels!(Simd128, Floats, 2, 4);

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

/// SIMD128, without which this file is not compiled.
#[derive(Clone, Copy)]
pub(super) struct Simd128(());

impl Simd128 {
    pub(super) const fn enabled() -> Self {
        Self(())
    }
}

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
    fn transpose(self, [a, b, c, d]: [v128; 4]) -> [v128; 4] {
        let ab = [
            i32x4_shuffle::<0, 4, 1, 5>(a, b),
            i32x4_shuffle::<2, 6, 3, 7>(a, b),
        ];
        let cd = [
            i32x4_shuffle::<0, 4, 1, 5>(c, d),
            i32x4_shuffle::<2, 6, 3, 7>(c, d),
        ];
        [
            i64x2_shuffle::<0, 2>(ab[0], cd[0]),
            i64x2_shuffle::<1, 3>(ab[0], cd[0]),
            i64x2_shuffle::<0, 2>(ab[1], cd[1]),
            i64x2_shuffle::<1, 3>(ab[1], cd[1]),
        ]
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
        // In pairs of bytes: machines have no shift of single ones, and what comes over from the neighbour is masked.
        v128_and(u16x8_shr(bytes, SHIFT as u32), u8x16_splat(3))
    }

    #[inline(always)]
    fn digit(self, bytes: v128) -> v128 {
        signed_digit(v128_xor(bytes, u8x16_splat(128)))
    }

    #[inline(always)]
    fn triple(self, bytes: v128) -> v128 {
        // Twice the byte by a shift of pairs: bytes added to themselves twice the compiler makes products, for which there is no
        // instruction.
        let twice = v128_and(i16x8_shl(bytes, 1), u8x16_splat(0xfe));
        i8x16_add(twice, bytes)
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
    fn base3_dots(self, sums: v128, bytes: v128, q: [v128; BASE3_PLANES]) -> v128 {
        signed_base3_dots(self, sums, bytes, q)
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

/// `bytes`, of which the compiler knows nothing: the average of each with itself. It would make comparisons of bytes less 128
/// ones of unsigned bytes, which take x86 four instructions instead of one.
#[inline(always)]
fn opaque(bytes: v128) -> v128 {
    u8x16_avgr(bytes, bytes)
}

/// ⌊3·b / 256⌋ of every byte b, which is given less 128.
#[inline(always)]
fn signed_digit(bytes: v128) -> v128 {
    let one = i8x16_gt(bytes, i8x16_splat(-43));
    let two = i8x16_gt(bytes, i8x16_splat(42));
    // All ones is −1.
    i8x16_abs(i8x16_add(one, two))
}

/// [`IntegerIsa::base3_dots`] by fractions less 128: three times that is the next fraction less 128, modulo 256.
#[inline(always)]
pub(super) fn signed_base3_dots<I: IntegerIsa<Bytes = v128>>(
    isa: I,
    sums: I::Sums,
    bytes: v128,
    q: [v128; BASE3_PLANES],
) -> I::Sums {
    let mut open = isa.open(sums);
    let mut fractions = opaque(v128_xor(bytes, u8x16_splat(128)));
    for q in q {
        open = isa.dot(open, signed_digit(fractions), q);
        fractions = isa.triple(fractions);
    }
    isa.close(sums, open)
}

/// The sums of neighbouring i32, of `a` and then of `b`.
#[inline(always)]
fn add_pairs(a: v128, b: v128) -> v128 {
    i32x4_add(
        i32x4_shuffle::<0, 2, 4, 6>(a, b),
        i32x4_shuffle::<1, 3, 5, 7>(a, b),
    )
}
