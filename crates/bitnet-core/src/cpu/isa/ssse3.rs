//! x86-64 with SSSE3 and SSE4.1: sixteen bytes at a time.
//!
//! `pmaddubsw` adds the products of two neighbours in i16: at most 3·128·2 = 768, so 42 dots fit a lane.

use super::scalar::Portable;
use crate::cpu::integer::{IntegerIsa, kernels};
use std::arch::x86_64::*;

kernels!(
    Ssse3,
    Portable,
    2,
    4,
    is_x86_feature_detected("ssse3", "sse4.1")
);

/// Proof that the machine has SSSE3 and SSE4.1.
#[derive(Clone, Copy)]
struct Ssse3(());

impl Ssse3 {
    /// Where they are enabled, the machine has them.
    #[inline]
    #[target_feature(enable = "ssse3,sse4.1")]
    fn enabled() -> Self {
        Self(())
    }
}

impl IntegerIsa for Ssse3 {
    type Bytes = __m128i;
    type Sums = __m128i;
    type Open = __m128i;

    const WIDTH: usize = 16;
    const RUN: usize = 42;

    #[inline(always)]
    fn load(self, bytes: &[u8]) -> __m128i {
        let bytes = &bytes[..16];
        // SAFETY: 16 bytes are there; the load is unaligned.
        unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn prefetch(self, bytes: &[u8]) {
        // SAFETY: it touches no memory that the program could notice, and SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn load_parts(self, parts: [&[u8; 16]; 4]) -> __m128i {
        self.load(parts[0])
    }

    #[inline(always)]
    fn transpose(self, [a, b, c, d]: [__m128i; 4]) -> [__m128i; 4] {
        // SAFETY: SSE2 is part of x86-64.
        unsafe {
            let ab = [_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b)];
            let cd = [_mm_unpacklo_epi32(c, d), _mm_unpackhi_epi32(c, d)];
            [
                _mm_unpacklo_epi64(ab[0], cd[0]),
                _mm_unpackhi_epi64(ab[0], cd[0]),
                _mm_unpacklo_epi64(ab[1], cd[1]),
                _mm_unpackhi_epi64(ab[1], cd[1]),
            ]
        }
    }

    #[inline(always)]
    fn store(self, bytes: __m128i, out: &mut [u8]) {
        let out = &mut out[..16];
        // SAFETY: there is room for 16 bytes; the store is unaligned.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), bytes) }
    }

    #[inline(always)]
    fn splat(self, four: &[i8; 4]) -> __m128i {
        // SAFETY: SSE2 is part of x86-64.
        unsafe { _mm_set1_epi32(i32::from_le_bytes(bytemuck::cast(*four))) }
    }

    #[inline(always)]
    fn pair<const SHIFT: i32>(self, bytes: __m128i) -> __m128i {
        // SAFETY: SSE2 is part of x86-64.
        unsafe { _mm_and_si128(_mm_srli_epi16::<SHIFT>(bytes), _mm_set1_epi8(3)) }
    }

    #[inline(always)]
    fn digit(self, bytes: __m128i) -> __m128i {
        // SAFETY: SSE2 is part of x86-64. A byte is at least t where it is the larger of itself and t.
        unsafe {
            let one = _mm_cmpeq_epi8(_mm_max_epu8(bytes, _mm_set1_epi8(86)), bytes);
            let two = _mm_cmpeq_epi8(_mm_max_epu8(bytes, _mm_set1_epi8(171u8 as i8)), bytes);
            _mm_sub_epi8(_mm_setzero_si128(), _mm_add_epi8(one, two))
        }
    }

    #[inline(always)]
    fn triple(self, bytes: __m128i) -> __m128i {
        // SAFETY: SSE2 is part of x86-64.
        unsafe { _mm_add_epi8(_mm_add_epi8(bytes, bytes), bytes) }
    }

    #[inline(always)]
    fn zero(self) -> __m128i {
        // SAFETY: SSE2 is part of x86-64.
        unsafe { _mm_setzero_si128() }
    }

    #[inline(always)]
    fn open(self, _: __m128i) -> __m128i {
        self.zero()
    }

    #[inline(always)]
    fn dot(self, open: __m128i, codes: __m128i, q: __m128i) -> __m128i {
        // SAFETY: SSSE3 is there by the type.
        unsafe { _mm_add_epi16(open, _mm_maddubs_epi16(codes, q)) }
    }

    #[inline(always)]
    fn close(self, sums: __m128i, open: __m128i) -> __m128i {
        // SAFETY: SSE2 is part of x86-64.
        unsafe { _mm_add_epi32(sums, _mm_madd_epi16(open, _mm_set1_epi16(1))) }
    }

    #[inline(always)]
    fn sum_lanes(self, [a, b, c, d]: [__m128i; 4]) -> __m128i {
        // SAFETY: SSSE3 is there by the type.
        unsafe { _mm_hadd_epi32(_mm_hadd_epi32(a, b), _mm_hadd_epi32(c, d)) }
    }

    #[inline(always)]
    fn store_sums(self, sums: __m128i, out: &mut [i32]) {
        let out = &mut out[..4];
        // SAFETY: there is room for four i32; the store is unaligned.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), sums) }
    }

    #[inline(always)]
    fn add_scaled(self, totals: &mut [f32], sums: __m128i, q_sum: i32, scales: &[f32]) {
        let (totals, scales) = (&mut totals[..4], &scales[..4]);
        // SAFETY: there are four totals and scales, and SSE2 is part of x86-64; loads and stores are unaligned.
        unsafe {
            let sums = _mm_cvtepi32_ps(_mm_sub_epi32(sums, _mm_set1_epi32(q_sum)));
            let scaled = _mm_mul_ps(sums, _mm_loadu_ps(scales.as_ptr()));
            let total = _mm_add_ps(_mm_loadu_ps(totals.as_ptr()), scaled);
            _mm_storeu_ps(totals.as_mut_ptr(), total);
        }
    }
}
