//! x86-64 with AVX-512 VBMI: f32 times rows of Q6_K, decoded in registers.
//!
//! A weight is (u − 32)·s, where u is a code of six bits and s, the block's factor times the scale of sixteen weights,
//! is exact in f32. One byte permutation puts sixteen codes into the bits of the floats 128 + u, and the fused
//! (128 + u)·s − 160·s is the weight. It needs no rounding, because 11, 7 and 5 bits of the factor, the scale and u − 32
//! fit into the 24 of a float, so it equals the product that [`Format::decode_row`] forms. A weight of zero may have
//! another sign, which adds nothing to a lane either way, since no lane is ever −0.
//!
//! A factor that is not finite makes NaN of every weight of its block, and so of the row's sum. Such rows are left to the
//! kernel of all formats, which also has the rows that end within a block.

use crate::math::tree_sum;
use crate::simd::lanes::LANES;
use crate::simd::packed::prefetch_ahead;
use crate::simd::{DotPacked, DotTile, ROWS};
use bitnet_quant::Format;
use rten_simd::isa::Avx512Isa;
use std::arch::x86_64::*;

/// Weights of a block.
const WEIGHTS: usize = 256;
/// Sixteens of them.
const STEPS: usize = WEIGHTS / LANES;
/// Its bytes: 128 of low halves, 64 of high bits, 16 scales, and the factor.
const BYTES: usize = 210;
/// Where the high bits, the scales and the factor begin.
const HIGH: usize = 128;
const SCALES: usize = 192;
const FACTOR: usize = 208;

/// The products, if the machine has the instructions and the rows are of the kind that is computed here.
pub(super) fn dot_packed(product: DotPacked<'_>) -> Option<[f32; ROWS]> {
    let DotPacked { format, x, rows } = product;
    let sums = dot(format, [x], rows)?;
    Some(sums.map(|[sum]| sum))
}

/// [`dot_packed`] of several rows of activations.
pub(super) fn dot_tile(product: DotTile<'_>) -> Option<[[f32; ROWS]; ROWS]> {
    dot(product.format, product.x, product.rows)
}

fn dot<const TOKENS: usize>(
    format: Format,
    x: [&[f32]; TOKENS],
    rows: [&[u8]; ROWS],
) -> Option<[[f32; TOKENS]; ROWS]> {
    if format != Format::Q6K || !is_x86_feature_detected!("avx512vbmi") {
        return None;
    }
    let isa = Avx512Isa::new()?;
    let rows = rows.map(|row| row.as_chunks::<BYTES>().0);
    let blocks = x.first()?.len() / WEIGHTS;
    let whole = x.iter().all(|x| x.len() == blocks * WEIGHTS);
    if !whole || rows.iter().any(|row| row.len() < blocks) {
        return None;
    }
    let x = x.map(|x| x.as_chunks::<LANES>().0);
    // SAFETY: VBMI was just detected, and `Avx512Isa::new` found AVX-512 F and BW.
    let sums = unsafe { dot_rows(isa, blocks, x, rows) };
    let mut all = sums.as_flattened().iter();
    all.all(|sum| !sum.is_nan()).then_some(sums)
}

/// The products of so many blocks of each row with rows of activations that have as many columns, `[row][token]`.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn dot_rows<const TOKENS: usize>(
    isa: Avx512Isa,
    blocks: usize,
    x: [&[[f32; LANES]]; TOKENS],
    rows: [&[[u8; BYTES]]; ROWS],
) -> [[f32; TOKENS]; ROWS] {
    let mut lanes = [[_mm512_setzero_ps(); TOKENS]; ROWS];
    for i in 0..blocks {
        let blocks = rows.map(|row| &row[i]);
        let x = x.map(|x| &x[STEPS * i..][..STEPS]);
        let mut scales = [[0.0; LANES]; ROWS];
        let mut offsets = [[0.0; LANES]; ROWS];
        for row in 0..ROWS {
            prefetch_ahead::<ROWS, _>(isa, blocks[row]);
            let own = open(blocks[row]);
            store(own, &mut scales[row]);
            store(
                _mm512_mul_ps(own, _mm512_set1_ps(-160.0)),
                &mut offsets[row],
            );
        }
        for half in 0..2 {
            let mut codes = [[_mm512_setzero_si512(); ROWS]; 2];
            for row in 0..ROWS {
                [codes[0][row], codes[1][row]] = codes_of(blocks[row], half);
            }
            for (quarter, codes) in codes.iter().enumerate() {
                for part in 0..4 {
                    let step = 8 * half + 4 * quarter + part;
                    let mut values = [_mm512_setzero_ps(); TOKENS];
                    for token in 0..TOKENS {
                        values[token] = load(&x[token][step]);
                    }
                    for row in 0..ROWS {
                        let raised = raised(codes[row], part);
                        let scale = _mm512_set1_ps(scales[row][step]);
                        let offset = _mm512_set1_ps(offsets[row][step]);
                        let w = _mm512_fmadd_ps(raised, scale, offset);
                        for token in 0..TOKENS {
                            let product = _mm512_mul_ps(values[token], w);
                            lanes[row][token] = _mm512_add_ps(lanes[row][token], product);
                        }
                    }
                }
            }
        }
    }
    let mut sums = [[0.0; TOKENS]; ROWS];
    for row in 0..ROWS {
        for token in 0..TOKENS {
            let mut array = [0.0; LANES];
            store(lanes[row][token], &mut array);
            sums[row][token] = tree_sum(array);
        }
    }
    sums
}

/// The factor times each of sixteen scales.
#[inline]
#[target_feature(enable = "avx512f")]
fn open(block: &[u8; BYTES]) -> __m512 {
    let factor = i16::from_le_bytes([block[FACTOR], block[FACTOR + 1]]);
    let factor = _mm512_cvtph_ps(_mm256_set1_epi16(factor));
    // SAFETY: a block has sixteen scales; the load is unaligned.
    let scales = unsafe { _mm_loadu_si128(block.as_ptr().add(SCALES).cast()) };
    _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(scales)), factor)
}

/// The codes of half a block, 64 and 64 in the order of the weights.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn codes_of(block: &[u8; BYTES], half: usize) -> [__m512i; 2] {
    assert!(half < 2, "a block has two halves");
    // SAFETY: each half has 64 bytes of low halves and 32 of high bits; the loads are unaligned.
    let (low, high) = unsafe {
        let low = _mm512_loadu_si512(block.as_ptr().add(64 * half).cast());
        let high = _mm256_loadu_si256(block.as_ptr().add(HIGH + 32 * half).cast());
        (low, _mm512_broadcast_i64x4(high))
    };
    // 32 weights each have bits 0 and 1 of the high bits, 2 and 3, 4 and 5, 6 and 7: all go to bits 4 and 5.
    let up = _mm512_sllv_epi64(high, _mm512_set_epi64(2, 2, 2, 2, 4, 4, 4, 4));
    let down = _mm512_srlv_epi64(high, _mm512_set_epi64(2, 2, 2, 2, 0, 0, 0, 0));
    [joined(low, up), joined(_mm512_srli_epi16::<4>(low), down)]
}

/// Bits 0 to 3 of `low` and bits 4 and 5 of `high` in every byte.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn joined(low: __m512i, high: __m512i) -> __m512i {
    let high = _mm512_and_si512(high, _mm512_set1_epi8(0x30));
    // (mask & low) | high
    _mm512_ternarylogic_epi32::<0xea>(_mm512_set1_epi8(0x0f), low, high)
}

/// 128 + u of the sixteen codes of a part of `codes`: the third byte of 128 counts ones.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn raised(codes: __m512i, part: usize) -> __m512 {
    let third = 0x4444_4444_4444_4444;
    let order = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    let places = _mm512_add_epi32(order, _mm512_set1_epi32(16 * part as i32));
    let places = _mm512_slli_epi32::<16>(places);
    let base = _mm512_castps_si512(_mm512_set1_ps(128.0));
    _mm512_castsi512_ps(_mm512_mask_permutexvar_epi8(base, third, places, codes))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(x: &[f32; LANES]) -> __m512 {
    // SAFETY: sixteen floats are there; the load is unaligned.
    unsafe { _mm512_loadu_ps(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(x: __m512, out: &mut [f32; LANES]) {
    // SAFETY: there is room for sixteen floats; the store is unaligned.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), x) }
}
