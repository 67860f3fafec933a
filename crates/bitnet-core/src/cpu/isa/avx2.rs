//! x86-64 with AVX2, FMA and F16C: 32 bytes at a time.
//!
//! Float kernels are those of `simd` on 256-bit registers (which use no FMA: it would change bits). `vpmaddubsw` adds
//! the products of two neighbours in i16: at most 3·128·2 = 768, so 42 dots fit a lane.

use crate::cpu::integer::{IntegerIsa, kernels};
use crate::cpu::kernels::FloatIsa;
use crate::simd::{ROWS, WIDE_ROWS, WideTile};
use rten_simd::SimdOp;
use rten_simd::isa::{Avx2Isa, GenericIsa};
use std::arch::x86_64::*;

kernels!(
    Avx2,
    Floats,
    2,
    4,
    is_x86_feature_detected("avx2", "fma", "f16c")
);

/// Float kernels on 256-bit registers.
pub(super) struct Floats;

impl FloatIsa for Floats {
    fn run<Op: SimdOp>(op: Op) -> Op::Output {
        match Avx2Isa::new() {
            // SAFETY: `Avx2Isa::new` found AVX2, FMA and F16C.
            Some(isa) => unsafe { enabled::run(isa, op) },
            // The table is not handed out then; the bits would be the same.
            None => op.eval(GenericIsa::new()),
        }
    }

    fn wide_tile(product: WideTile<'_>) -> [[i64; ROWS]; WIDE_ROWS] {
        match Avx2Isa::new() {
            // SAFETY: `Avx2Isa::new` found AVX2.
            Some(_) => unsafe {
                match product.count {
                    // One row after the other: what is read for one x alone is read at the memory's pace, which is that of one
                    // stream and not of two.
                    1 => Self::run(product),
                    2 => wide_tile::<2>(product),
                    _ => wide_tile::<ROWS>(product),
                }
            },
            // As above.
            None => Self::run(product),
        }
    }
}

/// [`WideTile`] by `vpmaddwd`: a row is widened to i16 once for all x, and two neighbours' products are added in i32.
#[target_feature(enable = "avx2")]
fn wide_tile<const TOKENS: usize>(tile: WideTile<'_>) -> [[i64; ROWS]; WIDE_ROWS] {
    /// Products in a lane of i32, which has room for 128·16319 a thousand times.
    const PRODUCTS: usize = 512;
    const STEP: usize = 16;
    let WideTile { q, x, .. } = tile;
    let lengths = q.iter().map(|q| q.len()).chain(x.iter().map(|x| x.len()));
    let columns = lengths.min().unwrap_or(0);
    let steps = columns / STEP;
    // From a row to the one that comes two later.
    let ahead = 2 * (q[1].as_ptr().addr().wrapping_sub(q[0].as_ptr().addr()));
    let mut totals = [[0i64; ROWS]; WIDE_ROWS];
    for first in (0..steps).step_by(2 * PRODUCTS) {
        let mut sums = [[_mm256_setzero_si256(); TOKENS]; WIDE_ROWS];
        for step in first..steps.min(first + 2 * PRODUCTS) {
            // SAFETY: `steps` whole steps of sixteen numbers are in every row and every x; the loads are unaligned.
            unsafe {
                let row = |row: usize| q[row].as_ptr().add(STEP * step).cast();
                if step % 4 == 0 {
                    // The same places of the next two rows. Whatever is there, nothing is read.
                    for row in q {
                        let next = row.as_ptr().wrapping_add(ahead + STEP * step);
                        _mm_prefetch::<_MM_HINT_T0>(next);
                    }
                }
                let rows = [_mm_loadu_si128(row(0)), _mm_loadu_si128(row(1))];
                let rows = [_mm256_cvtepi8_epi16(rows[0]), _mm256_cvtepi8_epi16(rows[1])];
                for token in 0..TOKENS {
                    let x = _mm256_loadu_si256(x[token].as_ptr().add(STEP * step).cast());
                    for row in 0..WIDE_ROWS {
                        let products = _mm256_madd_epi16(rows[row], x);
                        sums[row][token] = _mm256_add_epi32(sums[row][token], products);
                    }
                }
            }
        }
        for (totals, sums) in totals.iter_mut().zip(sums) {
            for (total, sums) in totals.iter_mut().zip(sums) {
                let mut lanes = [0i32; 8];
                // SAFETY: there is room for eight i32; the store is unaligned.
                unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sums) };
                *total += lanes.iter().copied().map(i64::from).sum::<i64>();
            }
        }
    }
    for (totals, q) in totals.iter_mut().zip(q) {
        for (total, x) in totals.iter_mut().zip(x) {
            let rest = q[STEP * steps..columns]
                .iter()
                .zip(&x[STEP * steps..columns]);
            *total += rest
                .map(|(q, x)| i64::from(*q) * i64::from(*x))
                .sum::<i64>();
        }
    }
    totals
}

mod enabled {
    use super::*;

    /// 3·b modulo 256 of every byte. Written out, because compilers make products of 9, 27 and 81 of repeated triples,
    /// and there is no product of bytes.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn triple(bytes: __m256i) -> __m256i {
        let thrice: __m256i;
        // SAFETY: registers are all that is touched.
        unsafe {
            std::arch::asm!(
                "vpaddb {thrice}, {bytes}, {bytes}",
                "vpaddb {thrice}, {thrice}, {bytes}",
                bytes = in(ymm_reg) bytes,
                thrice = out(ymm_reg) thrice,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        thrice
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn run<Op: SimdOp>(isa: Avx2Isa, op: Op) -> Op::Output {
        op.eval(isa)
    }
}

/// Proof that the machine has AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    /// Where they are enabled, the machine has them.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn enabled() -> Self {
        Self(())
    }

    #[inline(always)]
    fn byte(self, byte: u8) -> __m256i {
        // SAFETY: AVX2 is there by the type.
        unsafe { _mm256_set1_epi8(byte as i8) }
    }
}

impl IntegerIsa for Avx2 {
    type Bytes = __m256i;
    type Sums = __m256i;
    type Open = __m256i;

    const WIDTH: usize = 32;
    const RUN: usize = 42;

    #[inline(always)]
    fn load(self, bytes: &[u8]) -> __m256i {
        let bytes = &bytes[..32];
        // SAFETY: 32 bytes are there, and AVX2 by the type; the load is unaligned.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn prefetch(self, bytes: &[u8]) {
        // SAFETY: it touches no memory that the program could notice, and SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn load_parts(self, parts: [&[u8; 16]; 4]) -> __m256i {
        // SAFETY: each part has 16 bytes, AVX2 is there by the type; the loads are unaligned.
        unsafe { _mm256_loadu2_m128i(parts[1].as_ptr().cast(), parts[0].as_ptr().cast()) }
    }

    #[inline(always)]
    fn transpose(self, [a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
        // SAFETY: AVX2 is there by the type.
        unsafe {
            let ab = [_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b)];
            let cd = [_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d)];
            [
                _mm256_unpacklo_epi64(ab[0], cd[0]),
                _mm256_unpackhi_epi64(ab[0], cd[0]),
                _mm256_unpacklo_epi64(ab[1], cd[1]),
                _mm256_unpackhi_epi64(ab[1], cd[1]),
            ]
        }
    }

    #[inline(always)]
    fn store(self, bytes: __m256i, out: &mut [u8]) {
        let out = &mut out[..32];
        // SAFETY: there is room for 32 bytes, and AVX2 by the type; the store is unaligned.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), bytes) }
    }

    #[inline(always)]
    fn splat(self, four: &[i8; 4]) -> __m256i {
        // SAFETY: AVX2 is there by the type.
        unsafe { _mm256_set1_epi32(i32::from_le_bytes(bytemuck::cast(*four))) }
    }

    #[inline(always)]
    fn pair<const SHIFT: i32>(self, bytes: __m256i) -> __m256i {
        // SAFETY: AVX2 is there by the type.
        unsafe { _mm256_and_si256(_mm256_srli_epi16::<SHIFT>(bytes), _mm256_set1_epi8(3)) }
    }

    #[inline(always)]
    fn digit(self, bytes: __m256i) -> __m256i {
        // SAFETY: AVX2 is there by the type. A byte is at least t where it is the larger of itself and t.
        unsafe {
            let one = _mm256_cmpeq_epi8(_mm256_max_epu8(bytes, self.byte(86)), bytes);
            let two = _mm256_cmpeq_epi8(_mm256_max_epu8(bytes, self.byte(171)), bytes);
            let negative = _mm256_add_epi8(one, two);
            _mm256_sub_epi8(_mm256_setzero_si256(), negative)
        }
    }

    #[inline(always)]
    fn triple(self, bytes: __m256i) -> __m256i {
        // SAFETY: AVX2 is there by the type.
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
    fn zero(self) -> __m256i {
        // SAFETY: AVX2 is there by the type.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    fn open(self, _: __m256i) -> __m256i {
        self.zero()
    }

    #[inline(always)]
    fn dot(self, open: __m256i, codes: __m256i, q: __m256i) -> __m256i {
        // SAFETY: AVX2 is there by the type.
        unsafe { _mm256_add_epi16(open, _mm256_maddubs_epi16(codes, q)) }
    }

    #[inline(always)]
    fn close(self, sums: __m256i, open: __m256i) -> __m256i {
        // SAFETY: AVX2 is there by the type.
        unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(open, _mm256_set1_epi16(1))) }
    }

    #[inline(always)]
    fn sum_lanes(self, [a, b, c, d]: [__m256i; 4]) -> __m256i {
        // SAFETY: AVX2 is there by the type.
        unsafe { _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d)) }
    }

    #[inline(always)]
    fn store_sums(self, sums: __m256i, out: &mut [i32]) {
        let out = &mut out[..8];
        // SAFETY: there is room for eight i32, and AVX2 by the type; the store is unaligned.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), sums) }
    }

    #[inline(always)]
    fn add_scaled(self, totals: &mut [f32], sums: __m256i, q_sum: i32, scales: &[f32]) {
        let (totals, scales) = (&mut totals[..8], &scales[..8]);
        // SAFETY: there are eight totals and scales, and AVX2 by the type; loads and stores are unaligned.
        unsafe {
            let sums = _mm256_cvtepi32_ps(_mm256_sub_epi32(sums, _mm256_set1_epi32(q_sum)));
            let scaled = _mm256_mul_ps(sums, _mm256_loadu_ps(scales.as_ptr()));
            let total = _mm256_add_ps(_mm256_loadu_ps(totals.as_ptr()), scaled);
            _mm256_storeu_ps(totals.as_mut_ptr(), total);
        }
    }
}
