//! I2_S: ternary codes of 2 bits, and one f32 scale for the whole tensor kept outside the rows.
//!
//! Field 0 is −1, 1 is 0, 2 is +1; 3 is never written and refused. A block has `4·W` elements in `W` bytes, and
//! element `r` lies in byte `r mod W`, bits `7−2k:6−2k` with `k = r div W` (so the first `W` elements are the
//! highest bits):
//!
//! | layout | `W` | block |
//! |---|---|---|
//! | [A](I2sLayout::A) | 32 | 128 elements |
//! | [B](I2sLayout::B) | 16 | 64 elements |
//!
//! Both fill the same bytes for the same row, so a file read in the wrong layout looks sound and has its columns
//! permuted within every 128.

use crate::float::value_error;
use crate::ternary::{TOLERANCE, same_magnitude};
use crate::ternary_block::{TernaryBlock, encode_codes, no_code_3, validate};
use crate::{Format, I2sLayout, QuantError};

pub(crate) struct LayoutA;
pub(crate) struct LayoutB;

impl TernaryBlock<128, 32> for LayoutA {
    const FORMAT: Format = Format::I2s(I2sLayout::A);
    const SCALE: Option<usize> = None;

    fn unpack(block: &[u8; 32], codes: &mut [i8; 128]) {
        unpack(block, codes);
    }

    fn pack(codes: &[i8; 128], block: &mut [u8; 32]) {
        pack(codes, block);
    }

    fn is_ternary(block: &[u8; 32]) -> bool {
        no_code_3(block)
    }
}

impl TernaryBlock<64, 16> for LayoutB {
    const FORMAT: Format = Format::I2s(I2sLayout::B);
    const SCALE: Option<usize> = None;

    fn unpack(block: &[u8; 16], codes: &mut [i8; 64]) {
        unpack(block, codes);
    }

    fn pack(codes: &[i8; 64], block: &mut [u8; 16]) {
        pack(codes, block);
    }

    fn is_ternary(block: &[u8; 16]) -> bool {
        no_code_3(block)
    }
}

fn unpack<const W: usize>(block: &[u8; W], codes: &mut [i8]) {
    for (k, run) in codes.chunks_exact_mut(W).enumerate() {
        for (code, byte) in run.iter_mut().zip(block) {
            *code = (byte >> (6 - 2 * k) & 3) as i8 - 1;
        }
    }
}

fn pack<const W: usize>(codes: &[i8], block: &mut [u8; W]) {
    block.fill(0);
    for (k, run) in codes.chunks_exact(W).enumerate() {
        for (code, byte) in run.iter().zip(block.iter_mut()) {
            *byte |= ((code + 1) as u8) << (6 - 2 * k);
        }
    }
}

/// Checks a slice of any number of whole rows for code 3.
pub(crate) fn validate_rows(layout: I2sLayout, rows: &[u8]) -> Result<(), QuantError> {
    // Long runs first, at the speed of memory; block by block only to name the place.
    if rows.chunks(4096).all(no_code_3) {
        return Ok(());
    }
    match layout {
        I2sLayout::A => validate::<LayoutA, 128, 32>(rows),
        I2sLayout::B => validate::<LayoutB, 64, 16>(rows),
    }
}

/// Writes values that already are −1, 0 or +1 times `scale`.
pub(crate) fn encode(
    layout: I2sLayout,
    values: &[f32],
    scale: f32,
    out: &mut [u8],
) -> Result<(), QuantError> {
    let format = Format::I2s(layout);
    if !scale.is_finite() {
        return Err(value_error(format, "scale", scale));
    }
    let mut codes = [0; 128];
    let block_bytes = codes.len() / 4;
    for (values, out) in values.chunks(codes.len()).zip(out.chunks_mut(block_bytes)) {
        let codes = &mut codes[..values.len()];
        for (code, &value) in codes.iter_mut().zip(values) {
            *code = exact_code(value, scale).ok_or(value_error(format, "value", value))?;
        }
        match layout {
            I2sLayout::A => encode_codes::<LayoutA, 128, 32>(codes, &[], out)?,
            I2sLayout::B => encode_codes::<LayoutB, 64, 16>(codes, &[], out)?,
        }
    }
    Ok(())
}

/// The code of a value that is −1, 0 or +1 times `scale`, up to rounding.
fn exact_code(value: f32, scale: f32) -> Option<i8> {
    if f64::from(value.abs()) <= TOLERANCE * f64::from(scale.abs()) {
        Some(0)
    } else if same_magnitude(value, scale) {
        Some(if value.signum() == scale.signum() {
            1
        } else {
            -1
        })
    } else {
        None
    }
}
