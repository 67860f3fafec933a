//! AVX-512 kernels with VNNI: `vpdpbusd` multiplies 64 unsigned codes by 64 signed activations and adds them in
//! fours to i32 lanes, so nothing has to be widened on the way.
//!
//! Formats whose blocks do not fill a 64-byte register keep their AVX2 kernels.

use super::avx2;
use super::kernels::{FloatIsa, Kernels, TILE};
use crate::Result;
use bitnet_quant::{Format, I2sLayout};
use rten_simd::SimdOp;
use rten_simd::isa::{Avx512Isa, GenericIsa};
use std::arch::x86_64::*;

/// Wraps a function of the same name in `enabled` so that it can stand in the table.
macro_rules! entry {
    ($name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?) => {
        fn $name($($arg: $type),*) $(-> $result)? {
            // SAFETY: `kernels::of` hands this table out only where AVX-512 F, BW, VL and VNNI were detected.
            unsafe { enabled::$name($($arg),*) }
        }
    };
}

entry!(packed_sums(format: Format, row: &[u8], q: &[i8], out: &mut [i32]) -> Result<()>);
entry!(tile_sums(codes: [&[u8]; TILE], q: [&[i8]; TILE], group: usize, out: &mut [i32]));

struct Avx512;

impl FloatIsa for Avx512 {
    fn run<Op: SimdOp>(op: Op) -> Op::Output {
        match Avx512Isa::new() {
            // SAFETY: `Avx512Isa::new` found AVX-512 F, BW, DQ, VL and F16C.
            Some(isa) => unsafe { enabled::run(isa, op) },
            // The table is not handed out then; the bits would be the same.
            None => op.eval(GenericIsa::new()),
        }
    }
}

pub(super) static KERNELS: Kernels = Kernels::new::<Avx512>(packed_sums, tile_sums);

mod enabled {
    use super::*;

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
    pub(super) fn run<Op: SimdOp>(isa: Avx512Isa, op: Op) -> Op::Output {
        op.eval(isa)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub(super) fn packed_sums(format: Format, row: &[u8], q: &[i8], out: &mut [i32]) -> Result<()> {
        match format {
            Format::I2s(I2sLayout::A) if out.len() == 1 => out[0] = i2_s_a(row, q),
            Format::Tq2_0 => {
                let blocks = row.as_chunks::<66>().0.iter().zip(q.as_chunks::<256>().0);
                for (out, (block, q)) in out.iter_mut().zip(blocks) {
                    let Some((codes, _)) = block.split_first_chunk::<64>() else {
                        continue;
                    };
                    let sums = two_bit_sums::<0, 2, 4, 6>(load(codes), q);
                    *out = _mm512_reduce_add_epi32(sums);
                }
            }
            _ => (avx2::KERNELS.packed_sums)(format, row, q, out)?,
        }
        Ok(())
    }

    /// 64 bytes.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(bytes: &[u8; 64]) -> __m512i {
        // SAFETY: 64 bytes are there; the load is unaligned.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }

    /// 32 activations from `low` and 32 from `low + 128`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load_halves(q: &[i8; 256], low: usize) -> __m512i {
        let halves = [low, low + 128].map(|start| {
            let bytes: &[i8] = &q[start..start + 32];
            // SAFETY: 32 bytes are there; the load is unaligned.
            unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
        });
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(halves[0]), halves[1])
    }

    /// Σ code·q of 256 elements as sixteen partial sums. Each half of `codes` holds 128 elements, the first 32 of them in
    /// the two bits at `A`, the next at `B`, `C` and `D`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn two_bit_sums<const A: u32, const B: u32, const C: u32, const D: u32>(
        codes: __m512i,
        q: &[i8; 256],
    ) -> __m512i {
        let mask = _mm512_set1_epi8(3);
        let a = _mm512_and_si512(_mm512_srli_epi16::<A>(codes), mask);
        let b = _mm512_and_si512(_mm512_srli_epi16::<B>(codes), mask);
        let c = _mm512_and_si512(_mm512_srli_epi16::<C>(codes), mask);
        let d = _mm512_and_si512(_mm512_srli_epi16::<D>(codes), mask);
        let first = _mm512_dpbusd_epi32(_mm512_setzero_si512(), a, load_halves(q, 0));
        let second = _mm512_dpbusd_epi32(_mm512_setzero_si512(), b, load_halves(q, 32));
        let first = _mm512_dpbusd_epi32(first, c, load_halves(q, 64));
        let second = _mm512_dpbusd_epi32(second, d, load_halves(q, 96));
        _mm512_add_epi32(first, second)
    }

    /// Blocks of 32 bytes, 128 elements, the first 32 in bits 7:6; two blocks to a register.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    fn i2_s_a(row: &[u8], q: &[i8]) -> i32 {
        let (pairs, last) = row.as_chunks::<64>();
        let mut total = _mm512_setzero_si512();
        for (codes, q) in pairs.iter().zip(q.as_chunks::<256>().0) {
            total = _mm512_add_epi32(total, two_bit_sums::<6, 4, 2, 0>(load(codes), q));
        }
        let sum = _mm512_reduce_add_epi32(total);
        match q.get(256 * pairs.len()..) {
            Some(q) if !last.is_empty() => sum + avx2::i2_s_a_sum(last, q),
            _ => sum,
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    pub(super) fn tile_sums(codes: [&[u8]; TILE], q: [&[i8]; TILE], group: usize, out: &mut [i32]) {
        let rows = codes.map(|row| row.as_chunks::<64>().0);
        let q = q.map(|q| bytemuck::cast_slice::<i8, u8>(q).as_chunks::<64>().0);
        let steps = group / 64;
        for (index, out) in out
            .as_chunks_mut::<{ TILE * TILE }>()
            .0
            .iter_mut()
            .enumerate()
        {
            let rows = rows.map(|row| &row[index * steps..][..steps]);
            let q = q.map(|q| &q[index * steps..][..steps]);
            let mut sums = [_mm512_setzero_si512(); TILE * TILE];
            for i in 0..steps {
                let q = [
                    load(&q[0][i]),
                    load(&q[1][i]),
                    load(&q[2][i]),
                    load(&q[3][i]),
                ];
                for row in 0..TILE {
                    let codes = load(&rows[row][i]);
                    for token in 0..TILE {
                        let sum = &mut sums[TILE * row + token];
                        *sum = _mm512_dpbusd_epi32(*sum, codes, q[token]);
                    }
                }
            }
            // SAFETY: the array holds sixteen i32.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), sum_each(sums)) };
        }
    }

    /// The sums of sixteen registers, by adding while transposing.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn sum_each(v: [__m512i; 16]) -> __m512i {
        // In each 128-bit lane: the lane sums of four registers, side by side.
        let fours = [0, 4, 8, 12].map(|i: usize| {
            let pair =
                |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let (ab, cd) = (pair(v[i], v[i + 1]), pair(v[i + 2], v[i + 3]));
            _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
        });
        // Then the four lanes of each are added, two registers at a time.
        let halves = |a, b| {
            let low = _mm512_shuffle_i32x4::<0b01_00_01_00>(a, b);
            _mm512_add_epi32(low, _mm512_shuffle_i32x4::<0b11_10_11_10>(a, b))
        };
        let (low, high) = (halves(fours[0], fours[1]), halves(fours[2], fours[3]));
        let even = _mm512_shuffle_i32x4::<0b10_00_10_00>(low, high);
        _mm512_add_epi32(even, _mm512_shuffle_i32x4::<0b11_01_11_01>(low, high))
    }
}
