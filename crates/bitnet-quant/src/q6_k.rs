//! Q6_K: 256 elements in 210 bytes, 6-bit codes with an i8 scale per 16 elements and an f16 scale over those.
//!
//! `ql[128]` holds the low 4 bits, `qh[64]` the high 2, then `scales[16]` and the f16 `d`. Each half of 128 elements
//! has its 64 bytes of `ql`, 32 of `qh` and 8 of `scales`; with `l` < 32:
//!
//! | element | low bits | high bits |
//! |---|---|---|
//! | `l` | `ql[l]` low nibble | `qh[l]` bits 1:0 |
//! | `l + 32` | `ql[l + 32]` low nibble | `qh[l]` bits 3:2 |
//! | `l + 64` | `ql[l]` high nibble | `qh[l]` bits 5:4 |
//! | `l + 96` | `ql[l + 32]` high nibble | `qh[l]` bits 7:6 |
//!
//! The scale of element `e` is `scales[e div 16]`, and the value `d·scale·(code − 32)`.

use crate::float::{f16_at, f16_scale, finite_absmax};
use crate::{Format, QuantError};

const LEN: usize = 256;
const BYTES: usize = 210;
const HIGH: usize = 128;
const SCALES: usize = 192;
pub(crate) const SUPER_SCALE: usize = 208;
/// Elements that share an i8 scale.
const GROUP: usize = 16;

pub(crate) fn decode(row: &[u8], out: &mut [f32]) {
    for (block, values) in row
        .as_chunks::<BYTES>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<LEN>().0)
    {
        let d = f16_at([block[SUPER_SCALE], block[SUPER_SCALE + 1]]);
        let mut codes = [0i8; LEN];
        unpack(block, &mut codes);
        let groups = values
            .chunks_exact_mut(GROUP)
            .zip(codes.chunks_exact(GROUP));
        for ((values, codes), &scale) in groups.zip(&block[SCALES..SUPER_SCALE]) {
            let scale = d * f32::from(scale as i8);
            for (value, &code) in values.iter_mut().zip(codes) {
                *value = scale * f32::from(code);
            }
        }
    }
}

/// Reads the codes less 32, so −32 to 31.
fn unpack(block: &[u8; BYTES], codes: &mut [i8; LEN]) {
    let halves = block[..HIGH]
        .chunks_exact(64)
        .zip(block[HIGH..SCALES].chunks_exact(32));
    for (codes, (low, high)) in codes.chunks_exact_mut(128).zip(halves) {
        for (quarter, run) in codes.chunks_exact_mut(32).enumerate() {
            let low = &low[32 * (quarter % 2)..][..32];
            let nibble = 4 * (quarter / 2);
            for ((code, low), high) in run.iter_mut().zip(low).zip(high) {
                *code = ((low >> nibble & 15) | (high >> (2 * quarter) & 3) << 4) as i8 - 32;
            }
        }
    }
}

/// Writes codes of −32 to 31.
fn pack(codes: &[i8; LEN], block: &mut [u8; BYTES]) {
    block[..SCALES].fill(0);
    let (low, high) = block[..SCALES].split_at_mut(HIGH);
    let halves = low.chunks_exact_mut(64).zip(high.chunks_exact_mut(32));
    for (codes, (low, high)) in codes.chunks_exact(128).zip(halves) {
        for (quarter, run) in codes.chunks_exact(32).enumerate() {
            let low = &mut low[32 * (quarter % 2)..][..32];
            let nibble = 4 * (quarter / 2);
            for ((code, low), high) in run.iter().zip(low).zip(high.iter_mut()) {
                let code = (code + 32) as u8;
                *low |= (code & 15) << nibble;
                *high |= (code >> 4) << (2 * quarter);
            }
        }
    }
}

/// Quantizes by searching, for every 16 values, the scale of least squared error; then rounds those scales to
/// 8 bits of the largest, and the codes again to what that left of them.
pub(crate) fn encode(values: &[f32], out: &mut [u8]) -> Result<(), QuantError> {
    for (block, values) in out
        .as_chunks_mut::<BYTES>()
        .0
        .iter_mut()
        .zip(values.as_chunks::<LEN>().0)
    {
        finite_absmax(Format::Q6K, values)?;
        let mut scales = [0.0f32; LEN / GROUP];
        for (scale, group) in scales.iter_mut().zip(values.chunks_exact(GROUP)) {
            *scale = best_scale(group);
        }
        let most = scales.iter().fold(
            0.0f32,
            |most, s| if s.abs() > most.abs() { *s } else { most },
        );
        // −128 has no positive counterpart, so the largest scale takes it, with a d of opposite sign.
        let bytes = f16_scale(Format::Q6K, most / -128.0)?;
        let d = f16_at(bytes);
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        let mut codes = [0; LEN];
        for (group, &scale) in scales.iter().enumerate() {
            let scale = (scale * inverse).round_ties_even().clamp(-128.0, 127.0);
            block[SCALES + group] = scale as i8 as u8;
            let step = d * scale;
            let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
            let span = group * GROUP..(group + 1) * GROUP;
            for (code, value) in codes[span.clone()].iter_mut().zip(&values[span]) {
                *code = code_of(value * inverse) as i8;
            }
        }
        pack(&codes, block);
        block[SUPER_SCALE..].copy_from_slice(&bytes);
    }
    Ok(())
}

fn code_of(ratio: f32) -> f32 {
    ratio.round_ties_even().clamp(-32.0, 31.0)
}

/// The scale whose codes of −32 to 31 come closest to `group` in squared error.
///
/// Tries steps that map the largest value to between −31 and −33 and, for the codes of each, the scale that fits them
/// best: `Σxq / Σq²`, which leaves an error of `Σx² − (Σxq)² / Σq²`.
fn best_scale(group: &[f32]) -> f32 {
    let most = group.iter().fold(
        0.0f32,
        |most, v| if v.abs() > most.abs() { *v } else { most },
    );
    let mut best = (0.0, 0.0);
    for step in -10..=10 {
        let inverse = -(32.0 + 0.1 * step as f32) / most;
        if !inverse.is_finite() {
            continue;
        }
        let (mut xq, mut qq) = (0.0f64, 0.0f64);
        for &value in group {
            let q = f64::from(code_of(value * inverse));
            xq += f64::from(value) * q;
            qq += q * q;
        }
        let gain = xq * xq / qq;
        if gain > best.0 {
            best = (gain, xq / qq);
        }
    }
    best.1 as f32
}
