//! x86-64 with AVX-512 F, BW, DQ and VL: 64 bytes at a time.
//!
//! `vpmaddubsw` adds the products of two neighbours in i16: at most 3·128·2 = 768, so 42 dots fit a lane.

use super::avx512_vbmi;
use crate::cpu::integer::{IntegerIsa, kernels};
use crate::cpu::kernels::FloatIsa;
use crate::simd::{DotPacked, DotTile, ROWS, WIDE_ROWS, WideTile};
use rten_simd::SimdOp;
use rten_simd::isa::{Avx512Isa, GenericIsa};
use std::arch::x86_64::*;

kernels!(
    Avx512,
    Floats,
    2,
    8,
    is_x86_feature_detected("avx512f", "avx512bw", "avx512dq", "avx512vl", "f16c")
);

/// Float kernels on 512-bit registers.
pub(super) struct Floats;

impl FloatIsa for Floats {
    fn run<Op: SimdOp>(op: Op) -> Op::Output {
        match Avx512Isa::new() {
            // SAFETY: `Avx512Isa::new` found AVX-512 F, BW, DQ, VL and F16C.
            Some(isa) => unsafe { enabled::run(isa, op) },
            // The table is not handed out then; the bits would be the same.
            None => op.eval(GenericIsa::new()),
        }
    }

    fn dot_packed(product: DotPacked<'_>) -> [f32; ROWS] {
        avx512_vbmi::dot_packed(product).unwrap_or_else(|| Self::run(product))
    }

    fn dot_tile(product: DotTile<'_>) -> [[f32; ROWS]; ROWS] {
        avx512_vbmi::dot_tile(product).unwrap_or_else(|| Self::run(product))
    }

    fn wide_tile(product: WideTile<'_>) -> [[i64; ROWS]; WIDE_ROWS] {
        match product.count {
            1 => Self::run(product),
            _ => super::avx2::Floats::wide_tile(product),
        }
    }
}

mod enabled {
    use super::*;

    /// 3·b modulo 256 of every byte. Written out, because compilers make products of 9, 27 and 81 of repeated triples,
    /// and there is no product of bytes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn triple(bytes: __m512i) -> __m512i {
        let thrice: __m512i;
        // SAFETY: registers are all that is touched.
        unsafe {
            std::arch::asm!(
                "vpaddb {thrice}, {bytes}, {bytes}",
                "vpaddb {thrice}, {thrice}, {bytes}",
                bytes = in(zmm_reg) bytes,
                thrice = out(zmm_reg) thrice,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        thrice
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
    pub(super) fn run<Op: SimdOp>(isa: Avx512Isa, op: Op) -> Op::Output {
        op.eval(isa)
    }
}

/// Proof that the machine has AVX-512 F, BW, DQ and VL, and F16C.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    /// Where they are enabled, the machine has them.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
    pub(super) fn enabled() -> Self {
        Self(())
    }
}

impl IntegerIsa for Avx512 {
    type Bytes = __m512i;
    type Sums = __m512i;
    type Open = __m512i;

    const WIDTH: usize = 64;
    const RUN: usize = 42;

    #[inline(always)]
    fn load(self, bytes: &[u8]) -> __m512i {
        let bytes = &bytes[..64];
        // SAFETY: 64 bytes are there, and AVX-512 by the type; the load is unaligned.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn prefetch(self, bytes: &[u8]) {
        // SAFETY: it touches no memory that the program could notice, and SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn load_parts(self, parts: [&[u8; 16]; 4]) -> __m512i {
        // SAFETY: each part has 16 bytes, AVX-512 is there by the type; the loads are unaligned.
        unsafe {
            let all = _mm512_castsi128_si512(_mm_loadu_si128(parts[0].as_ptr().cast()));
            let part = _mm_loadu_si128(parts[1].as_ptr().cast());
            let all = _mm512_inserti32x4::<1>(all, part);
            let part = _mm_loadu_si128(parts[2].as_ptr().cast());
            let all = _mm512_inserti32x4::<2>(all, part);
            let part = _mm_loadu_si128(parts[3].as_ptr().cast());
            _mm512_inserti32x4::<3>(all, part)
        }
    }

    #[inline(always)]
    fn transpose(self, [a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
        // SAFETY: AVX-512 is there by the type.
        unsafe {
            let ab = [_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b)];
            let cd = [_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d)];
            [
                _mm512_unpacklo_epi64(ab[0], cd[0]),
                _mm512_unpackhi_epi64(ab[0], cd[0]),
                _mm512_unpacklo_epi64(ab[1], cd[1]),
                _mm512_unpackhi_epi64(ab[1], cd[1]),
            ]
        }
    }

    #[inline(always)]
    fn store(self, bytes: __m512i, out: &mut [u8]) {
        let out = &mut out[..64];
        // SAFETY: there is room for 64 bytes, and AVX-512 by the type; the store is unaligned.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), bytes) }
    }

    #[inline(always)]
    fn splat(self, four: &[i8; 4]) -> __m512i {
        // SAFETY: AVX-512 is there by the type.
        unsafe { _mm512_set1_epi32(i32::from_le_bytes(bytemuck::cast(*four))) }
    }

    #[inline(always)]
    fn pair<const SHIFT: i32>(self, bytes: __m512i) -> __m512i {
        // SAFETY: AVX-512 is there by the type.
        unsafe {
            let bytes = match SHIFT {
                0 => bytes,
                2 => _mm512_srli_epi16::<2>(bytes),
                4 => _mm512_srli_epi16::<4>(bytes),
                _ => _mm512_srli_epi16::<6>(bytes),
            };
            _mm512_and_si512(bytes, _mm512_set1_epi8(3))
        }
    }

    #[inline(always)]
    fn digit(self, bytes: __m512i) -> __m512i {
        // SAFETY: AVX-512 is there by the type.
        unsafe {
            let one = _mm512_set1_epi8(1);
            let over_85 = _mm512_cmpge_epu8_mask(bytes, _mm512_set1_epi8(86));
            let over_170 = _mm512_cmpge_epu8_mask(bytes, _mm512_set1_epi8(171u8 as i8));
            let digit = _mm512_maskz_mov_epi8(over_85, one);
            _mm512_mask_add_epi8(digit, over_170, digit, one)
        }
    }

    #[inline(always)]
    fn triple(self, bytes: __m512i) -> __m512i {
        // SAFETY: AVX-512 is there by the type.
        unsafe { enabled::triple(bytes) }
    }

    #[inline(always)]
    fn widen(self, four: [u16; 4]) -> [f32; 4] {
        // SAFETY: F16C is there by the type; four floats fill 128 bits.
        unsafe {
            let halves = _mm_cvtsi64_si128(bytemuck::cast(four));
            std::mem::transmute::<__m128, [f32; 4]>(_mm_cvtph_ps(halves))
        }
    }

    #[inline(always)]
    fn zero(self) -> __m512i {
        // SAFETY: AVX-512 is there by the type.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    fn open(self, _: __m512i) -> __m512i {
        self.zero()
    }

    #[inline(always)]
    fn dot(self, open: __m512i, codes: __m512i, q: __m512i) -> __m512i {
        // SAFETY: AVX-512 is there by the type.
        unsafe { _mm512_add_epi16(open, _mm512_maddubs_epi16(codes, q)) }
    }

    #[inline(always)]
    fn close(self, sums: __m512i, open: __m512i) -> __m512i {
        // SAFETY: AVX-512 is there by the type.
        unsafe { _mm512_add_epi32(sums, _mm512_madd_epi16(open, _mm512_set1_epi16(1))) }
    }

    #[inline(always)]
    fn sum_lanes(self, [a, b, c, d]: [__m512i; 4]) -> __m512i {
        // SAFETY: AVX-512 is there by the type.
        unsafe {
            let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
        }
    }

    #[inline(always)]
    fn store_sums(self, sums: __m512i, out: &mut [i32]) {
        let out = &mut out[..16];
        // SAFETY: there is room for sixteen i32, and AVX-512 by the type; the store is unaligned.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), sums) }
    }

    #[inline(always)]
    fn add_scaled(self, totals: &mut [f32], sums: __m512i, q_sum: i32, scales: &[f32]) {
        let (totals, scales) = (&mut totals[..16], &scales[..16]);
        // SAFETY: there are sixteen totals and scales, and AVX-512 by the type; loads and stores are unaligned.
        unsafe {
            let sums = _mm512_cvtepi32_ps(_mm512_sub_epi32(sums, _mm512_set1_epi32(q_sum)));
            let scaled = _mm512_mul_ps(sums, _mm512_loadu_ps(scales.as_ptr()));
            let total = _mm512_add_ps(_mm512_loadu_ps(totals.as_ptr()), scaled);
            _mm512_storeu_ps(totals.as_mut_ptr(), total);
        }
    }
}
