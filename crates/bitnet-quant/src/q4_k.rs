//! Q4_K: 256 elements in 144 bytes, 4-bit codes with a 6-bit scale and a 6-bit minimum per 32 elements, and f16 factors of
//! those.
//!
//! The f16 `d` and `dmin` come first, then 12 bytes of scales and minimums, then 128 of codes. With `s` the 12 bytes:
//!
//! | group | scale | minimum |
//! |---|---|---|
//! | `j` < 4 | `s[j]` bits 5:0 | `s[j + 4]` bits 5:0 |
//! | `j` ≥ 4 | `s[j + 4]` low nibble, `s[j − 4]` bits 7:6 above it | `s[j + 4]` high nibble, `s[j]` bits 7:6 above it |
//!
//! Each 32 bytes of codes hold two groups, the first in the low nibbles. The value is `d·scale·code − dmin·minimum`.

use crate::float::{f16_at, f16_scale, finite_absmax};
use crate::{Format, QuantError};

const LEN: usize = 256;
const BYTES: usize = 144;
const SCALES: usize = 4;
const CODES: usize = 16;
/// Elements that share a scale.
const GROUP: usize = 32;
/// Groups of a block.
const GROUPS: usize = LEN / GROUP;
/// The largest scale and minimum.
const MOST: f32 = 63.0;

/// Bytes of `d` and of `dmin` in a block.
pub(crate) const FACTORS: [usize; 2] = [0, 2];

pub(crate) fn decode(row: &[u8], out: &mut [f32]) {
    let blocks = row.as_chunks::<BYTES>().0.iter();
    for (block, values) in blocks.zip(out.as_chunks_mut::<LEN>().0) {
        let [d, dmin] = FACTORS.map(|at| f16_at([block[at], block[at + 1]]));
        let groups = values.chunks_exact_mut(GROUP).enumerate();
        for (group, values) in groups {
            let [scale, minimum] = scale_and_minimum(block, group);
            let (scale, minimum) = (d * f32::from(scale), dmin * f32::from(minimum));
            let codes = &block[CODES + GROUP * (group / 2)..][..GROUP];
            for (value, code) in values.iter_mut().zip(codes) {
                let code = code >> (4 * (group % 2)) & 15;
                *value = scale * f32::from(code) - minimum;
            }
        }
    }
}

/// The 6-bit scale and minimum of a group.
fn scale_and_minimum(block: &[u8; BYTES], group: usize) -> [u8; 2] {
    let s = &block[SCALES..CODES];
    match group.checked_sub(4) {
        None => [s[group] & 63, s[group + 4] & 63],
        Some(j) => [
            (s[group + 4] & 15) | (s[j] >> 6) << 4,
            (s[group + 4] >> 4) | (s[group] >> 6) << 4,
        ],
    }
}

/// Writes the 6-bit scales and minimums of all groups.
fn put_scales(block: &mut [u8; BYTES], pairs: &[[u8; 2]; GROUPS]) {
    let s = &mut block[SCALES..CODES];
    for (j, [scale, minimum]) in pairs[..4].iter().enumerate() {
        let [high_scale, high_minimum] = pairs[j + 4];
        s[j] = scale | (high_scale >> 4) << 6;
        s[j + 4] = minimum | (high_minimum >> 4) << 6;
        s[j + 8] = (high_scale & 15) | (high_minimum & 15) << 4;
    }
}

/// Quantizes each group by the codes that reach from its smallest value, or 0, to its largest.
pub(crate) fn encode(values: &[f32], out: &mut [u8]) -> Result<(), QuantError> {
    let blocks = out.as_chunks_mut::<BYTES>().0.iter_mut();
    for (block, values) in blocks.zip(values.as_chunks::<LEN>().0) {
        finite_absmax(Format::Q4K, values)?;
        let mut spans = [[0.0f32; 2]; GROUPS];
        for ([scale, minimum], group) in spans.iter_mut().zip(values.chunks_exact(GROUP)) {
            *minimum = -group.iter().copied().fold(0.0, f32::min);
            let largest = group.iter().copied().fold(0.0, f32::max);
            *scale = largest / 15.0 + *minimum / 15.0;
        }
        let most = |which: usize| {
            spans
                .iter()
                .fold(0.0f32, |most, span| most.max(span[which]))
        };
        let mut factors = [0.0; 2];
        for (which, at) in FACTORS.into_iter().enumerate() {
            let bytes = f16_scale(Format::Q4K, most(which) / MOST)?;
            block[at..at + 2].copy_from_slice(&bytes);
            factors[which] = f16_at(bytes);
        }
        let inverse = factors.map(|factor| if factor == 0.0 { 0.0 } else { 1.0 / factor });
        let mut pairs = [[0u8; 2]; GROUPS];
        block[CODES..].fill(0);
        for (group, values) in values.chunks_exact(GROUP).enumerate() {
            for which in 0..2 {
                let code = spans[group][which] * inverse[which];
                pairs[group][which] = code.round_ties_even().clamp(0.0, MOST) as u8;
            }
            let step = factors[0] * f32::from(pairs[group][0]);
            let minimum = factors[1] * f32::from(pairs[group][1]);
            let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
            let codes = &mut block[CODES + GROUP * (group / 2)..][..GROUP];
            for (byte, value) in codes.iter_mut().zip(values) {
                let code = ((value + minimum) * inverse).round_ties_even();
                *byte |= (code.clamp(0.0, 15.0) as u8) << (4 * (group % 2));
            }
        }
        put_scales(block, &pairs);
    }
    Ok(())
}
