//! AVX2 and F16C kernels.
//!
//! Float kernels are those of `simd` on 256-bit registers (which use no FMA: it would change bits).
//! Ternary codes c = t + 1 ∈ {0, 1, 2} (3 on bad data) are unsigned bytes, activations signed bytes:
//! `maddubs` gives exact i16 pair sums of at most 3·128·2 = 768, so 32 of them fit an i16 lane.

use super::kernels::{FloatIsa, Kernels, TILE};
use crate::Result;
use bitnet_quant::{Format, I2sLayout};
use rten_simd::SimdOp;
use rten_simd::isa::{Avx2Isa, GenericIsa};
use std::arch::x86_64::*;

/// Vectors whose `maddubs` sums may be added in i16 before they are widened.
const I16_STEPS: usize = 32;

/// Wraps a function of the same name in `enabled` so that it can stand in the table.
macro_rules! entry {
    ($visibility:vis $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?) => {
        $visibility fn $name($($arg: $type),*) $(-> $result)? {
            // SAFETY: `kernels::of` hands out this table, and the one of AVX-512 that borrows from it, only where AVX2
            // and F16C were detected.
            unsafe { enabled::$name($($arg),*) }
        }
    };
}

entry!(packed_sums(format: Format, row: &[u8], q: &[i8], out: &mut [i32]) -> Result<()>);
entry!(pub(super) i2_s_a_sum(row: &[u8], q: &[i8]) -> i32);
entry!(tile_sums(codes: [&[u8]; TILE], q: [&[i8]; TILE], group: usize, out: &mut [i32]));

struct Avx2;

impl FloatIsa for Avx2 {
    fn run<Op: SimdOp>(op: Op) -> Op::Output {
        match Avx2Isa::new() {
            // SAFETY: `Avx2Isa::new` found AVX2, FMA and F16C.
            Some(isa) => unsafe { enabled::run(isa, op) },
            // The table is not handed out then; the bits would be the same.
            None => op.eval(GenericIsa::new()),
        }
    }
}

pub(super) static KERNELS: Kernels = Kernels::new::<Avx2>(packed_sums, tile_sums);

mod enabled {
    use super::*;

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn run<Op: SimdOp>(isa: Avx2Isa, op: Op) -> Op::Output {
        op.eval(isa)
    }

    #[target_feature(enable = "avx2,f16c")]
    pub(super) fn packed_sums(format: Format, row: &[u8], q: &[i8], out: &mut [i32]) -> Result<()> {
        match format {
            Format::I2s(I2sLayout::A) if out.len() == 1 => out[0] = i2_s_a_sum(row, q),
            Format::I2s(I2sLayout::B) if out.len() == 1 => out[0] = i2_s_b(row, q),
            Format::Tq2_0 => blocks::<66, 256>(row, q, out, |block, q| tq2_0(block, q)),
            Format::Tq1_0 => blocks::<54, 256>(row, q, out, |block, q| tq1_0(block, q)),
            Format::Q2_0 => blocks::<18, 64>(row, q, out, |block, q| q2_0(&block[2..], q)),
            Format::Q2_0Group128 => {
                blocks::<34, 128>(row, q, out, |block, q| q2_0(&block[2..], q));
            }
            _ => (super::super::scalar::KERNELS.packed_sums)(format, row, q, out)?,
        }
        Ok(())
    }

    /// Calls `sum` on each block of a row with its activations.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn blocks<const BYTES: usize, const LEN: usize>(
        row: &[u8],
        q: &[i8],
        out: &mut [i32],
        sum: impl Fn(&[u8; BYTES], &[i8; LEN]) -> i32,
    ) {
        let q = q.as_chunks::<LEN>().0;
        for (out, (block, q)) in out.iter_mut().zip(row.as_chunks::<BYTES>().0.iter().zip(q)) {
            *out = sum(block, q);
        }
    }

    /// 32 bytes.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn load32(bytes: &[u8; 32]) -> __m256i {
        // SAFETY: 32 bytes are there; the load is unaligned.
        unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
    }

    /// 16 bytes.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn load16(bytes: &[u8; 16]) -> __m128i {
        // SAFETY: 16 bytes are there; the load is unaligned.
        unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn bytes_of(q: &[i8]) -> &[u8] {
        bytemuck::cast_slice(q)
    }

    /// Sum of the eight lanes.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn sum_i32(v: __m256i) -> i32 {
        sum_i32_128(_mm_add_epi32(
            _mm256_castsi256_si128(v),
            _mm256_extracti128_si256::<1>(v),
        ))
    }

    /// Sum of the four lanes.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn sum_i32_128(v: __m128i) -> i32 {
        let v = _mm_add_epi32(v, _mm_shuffle_epi32::<0b01_00_11_10>(v));
        let v = _mm_add_epi32(v, _mm_shuffle_epi32::<0b10_11_00_01>(v));
        _mm_cvtsi128_si32(v)
    }

    /// Adds i16 pairs into i32 lanes.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn widen(v: __m256i) -> __m256i {
        _mm256_madd_epi16(v, _mm256_set1_epi16(1))
    }

    /// Blocks of 32 bytes, 128 elements, the first 32 in bits 7:6.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn i2_s_a_sum(row: &[u8], q: &[i8]) -> i32 {
        let mask = _mm256_set1_epi8(3);
        let mut total = _mm256_setzero_si256();
        let rows = row.as_chunks::<32>().0.chunks(I16_STEPS / 4);
        for (row, q) in rows.zip(bytes_of(q).as_chunks::<128>().0.chunks(I16_STEPS / 4)) {
            let (mut even, mut odd) = (_mm256_setzero_si256(), _mm256_setzero_si256());
            for (codes, q) in row.iter().zip(q) {
                let codes = load32(codes);
                let q = q.as_chunks::<32>().0;
                let c0 = _mm256_and_si256(_mm256_srli_epi16::<6>(codes), mask);
                let c1 = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), mask);
                let c2 = _mm256_and_si256(_mm256_srli_epi16::<2>(codes), mask);
                let c3 = _mm256_and_si256(codes, mask);
                even = _mm256_add_epi16(even, _mm256_maddubs_epi16(c0, load32(&q[0])));
                odd = _mm256_add_epi16(odd, _mm256_maddubs_epi16(c1, load32(&q[1])));
                even = _mm256_add_epi16(even, _mm256_maddubs_epi16(c2, load32(&q[2])));
                odd = _mm256_add_epi16(odd, _mm256_maddubs_epi16(c3, load32(&q[3])));
            }
            total = _mm256_add_epi32(total, _mm256_add_epi32(widen(even), widen(odd)));
        }
        sum_i32(total)
    }

    /// Blocks of 16 bytes, 64 elements, the first 16 in bits 7:6.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn i2_s_b(row: &[u8], q: &[i8]) -> i32 {
        let mask = _mm_set1_epi8(3);
        let ones = _mm_set1_epi16(1);
        let mut total = _mm_setzero_si128();
        let rows = row.as_chunks::<16>().0.iter();
        for (codes, q) in rows.zip(bytes_of(q).as_chunks::<64>().0) {
            let codes = load16(codes);
            let q = q.as_chunks::<16>().0;
            let c0 = _mm_and_si128(_mm_srli_epi16::<6>(codes), mask);
            let c1 = _mm_and_si128(_mm_srli_epi16::<4>(codes), mask);
            let c2 = _mm_and_si128(_mm_srli_epi16::<2>(codes), mask);
            let c3 = _mm_and_si128(codes, mask);
            let first = _mm_add_epi16(
                _mm_maddubs_epi16(c0, load16(&q[0])),
                _mm_maddubs_epi16(c1, load16(&q[1])),
            );
            let second = _mm_add_epi16(
                _mm_maddubs_epi16(c2, load16(&q[2])),
                _mm_maddubs_epi16(c3, load16(&q[3])),
            );
            total = _mm_add_epi32(total, _mm_madd_epi16(_mm_add_epi16(first, second), ones));
        }
        sum_i32_128(total)
    }

    /// 64 bytes of codes in two halves of 128 elements, the first 32 in bits 1:0; then the scale.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn tq2_0(block: &[u8; 66], q: &[i8; 256]) -> i32 {
        let mask = _mm256_set1_epi8(3);
        let mut sum = _mm256_setzero_si256();
        let halves = block.as_chunks::<32>().0.iter();
        for (codes, q) in halves.zip(bytes_of(q).as_chunks::<128>().0) {
            let codes = load32(codes);
            let q = q.as_chunks::<32>().0;
            let c0 = _mm256_and_si256(codes, mask);
            let c1 = _mm256_and_si256(_mm256_srli_epi16::<2>(codes), mask);
            let c2 = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), mask);
            let c3 = _mm256_and_si256(_mm256_srli_epi16::<6>(codes), mask);
            sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(c0, load32(&q[0])));
            sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(c1, load32(&q[1])));
            sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(c2, load32(&q[2])));
            sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(c3, load32(&q[3])));
        }
        sum_i32(widen(sum))
    }

    /// The leading base-3 digit of each byte: ⌊3·b / 256⌋, by comparing with 256/3 and 512/3.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn digit(bytes: __m256i) -> __m256i {
        let one = _mm256_cmpeq_epi8(_mm256_max_epu8(bytes, _mm256_set1_epi8(86)), bytes);
        let two = _mm256_cmpeq_epi8(_mm256_max_epu8(bytes, _mm256_set1_epi8(171u8 as i8)), bytes);
        _mm256_sub_epi8(_mm256_setzero_si256(), _mm256_add_epi8(one, two))
    }

    /// Base 3: 32 bytes of five digits, 16 bytes of five, 4 bytes of four; then the scale.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn tq1_0(block: &[u8; 54], q: &[i8; 256]) -> i32 {
        let triple = |v: __m256i| _mm256_add_epi8(_mm256_add_epi8(v, v), v);
        let q = bytes_of(q);
        let (q32, _) = q[..160].as_chunks::<32>();
        let (q16, _) = q[160..].as_chunks::<16>();
        let mut sum = _mm256_setzero_si256();
        let Some((first, rest)) = block.split_first_chunk::<32>() else {
            return 0;
        };
        let Some((second, rest)) = rest.split_first_chunk::<16>() else {
            return 0;
        };
        let mut bytes = load32(first);
        for q in q32 {
            sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(digit(bytes), load32(q)));
            bytes = triple(bytes);
        }
        // Sixteen bytes give 5 × 16 digits; the last four bytes give the final 16 as 4 × 4.
        let mut bytes = _mm256_castsi128_si256(load16(second));
        for q in &q16[..5] {
            let digits = _mm256_castsi256_si128(digit(bytes));
            let products = _mm_maddubs_epi16(digits, load16(q));
            sum = _mm256_add_epi16(sum, _mm256_zextsi128_si256(products));
            bytes = triple(bytes);
        }
        let tail = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]);
        let (t1, t2) = (triple_bytes(tail), triple_bytes(triple_bytes(tail)));
        let tail = [tail, t1, t2, triple_bytes(t2)].map(|v| v as i32);
        let tail = _mm_setr_epi32(tail[0], tail[1], tail[2], tail[3]);
        let digits = _mm256_castsi256_si128(digit(_mm256_castsi128_si256(tail)));
        let products = _mm_maddubs_epi16(digits, load16(&q16[5]));
        sum_i32(widen(_mm256_add_epi16(
            sum,
            _mm256_zextsi128_si256(products),
        )))
    }

    /// Three times each byte, modulo 256.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn triple_bytes(v: u32) -> u32 {
        const EVEN: u32 = 0x00ff_00ff;
        (((v & EVEN) * 3) & EVEN) | (((((v >> 8) & EVEN) * 3) & EVEN) << 8)
    }

    /// Two-bit codes, four consecutive elements in a byte, lowest bits first.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn q2_0(codes: &[u8], q: &[i8]) -> i32 {
        let (low_nibble, low_pair) = (_mm_set1_epi8(15), _mm_set1_epi8(3));
        let ones = _mm_set1_epi16(1);
        let mut total = _mm_setzero_si128();
        let codes = codes.as_chunks::<16>().0.iter();
        for (codes, q) in codes.zip(bytes_of(q).as_chunks::<64>().0) {
            let codes = load16(codes);
            let q = q.as_chunks::<16>().0;
            let low = _mm_and_si128(codes, low_nibble);
            let high = _mm_and_si128(_mm_srli_epi16::<4>(codes), low_nibble);
            let nibbles = [_mm_unpacklo_epi8(low, high), _mm_unpackhi_epi8(low, high)];
            for (half, nibbles) in nibbles.into_iter().enumerate() {
                let even = _mm_and_si128(nibbles, low_pair);
                let odd = _mm_and_si128(_mm_srli_epi16::<2>(nibbles), low_pair);
                let first = _mm_maddubs_epi16(_mm_unpacklo_epi8(even, odd), load16(&q[2 * half]));
                let second =
                    _mm_maddubs_epi16(_mm_unpackhi_epi8(even, odd), load16(&q[2 * half + 1]));
                let sum = _mm_add_epi16(first, second);
                total = _mm_add_epi32(total, _mm_madd_epi16(sum, ones));
            }
        }
        sum_i32_128(total)
    }

    #[target_feature(enable = "avx2,f16c")]
    pub(super) fn tile_sums(codes: [&[u8]; TILE], q: [&[i8]; TILE], group: usize, out: &mut [i32]) {
        let rows = codes.map(|row| row.as_chunks::<32>().0);
        let q = q.map(|q| bytes_of(q).as_chunks::<32>().0);
        let steps = group / 32;
        for (index, out) in out
            .as_chunks_mut::<{ TILE * TILE }>()
            .0
            .iter_mut()
            .enumerate()
        {
            let rows = rows.map(|row| &row[index * steps..][..steps]);
            // Two tokens at a time: eight sums, a row of codes and two activations fit the sixteen registers.
            for pair in [0, 2] {
                let sums = pair_sums(
                    rows,
                    [q[pair], q[pair + 1]].map(|q| &q[index * steps..][..steps]),
                );
                for row in 0..TILE {
                    out[TILE * row + pair] = sums[0][row];
                    out[TILE * row + pair + 1] = sums[1][row];
                }
            }
        }
    }

    /// Four rows of codes against two rows of activations, all of one length: `[token, row]`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn pair_sums(rows: [&[[u8; 32]]; TILE], q: [&[[u8; 32]]; 2]) -> [[i32; TILE]; 2] {
        let steps = q[0].len();
        let (rows, q) = (rows.map(|row| &row[..steps]), q.map(|q| &q[..steps]));
        let mut totals = [[_mm256_setzero_si256(); TILE]; 2];
        let mut start = 0;
        while start < steps {
            let end = (start + I16_STEPS).min(steps);
            let mut sums = [[_mm256_setzero_si256(); TILE]; 2];
            for i in start..end {
                let q = [load32(&q[0][i]), load32(&q[1][i])];
                for row in 0..TILE {
                    let codes = load32(&rows[row][i]);
                    for token in 0..2 {
                        let products = _mm256_maddubs_epi16(codes, q[token]);
                        sums[token][row] = _mm256_add_epi16(sums[token][row], products);
                    }
                }
            }
            for token in 0..2 {
                for row in 0..TILE {
                    totals[token][row] =
                        _mm256_add_epi32(totals[token][row], widen(sums[token][row]));
                }
            }
            start = end;
        }
        totals.map(|totals| sum_each(totals))
    }

    /// The sums of four registers.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn sum_each([a, b, c, d]: [__m256i; 4]) -> [i32; 4] {
        let lanes = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
        let (low, high) = (
            _mm256_castsi256_si128(lanes),
            _mm256_extracti128_si256::<1>(lanes),
        );
        let mut sums = [0; 4];
        // SAFETY: the array holds four i32.
        unsafe { _mm_storeu_si128(sums.as_mut_ptr().cast(), _mm_add_epi32(low, high)) };
        sums
    }
}
