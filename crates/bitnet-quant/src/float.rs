//! F32, F16 and BF16: plain little-endian numbers, one per element.
//!
//! Bytes come from files and need not be aligned, so they are read number by number (which the compiler turns
//! into wide unaligned loads). BF16 is the upper half of a binary32; narrowing rounds to nearest even and
//! keeps a NaN quiet, as for F16.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::{Format, QuantError};

/// Numbers converted at a time; long enough for wide conversions, short enough for the stack.
const RUN: usize = 64;

/// Reads a little-endian f16 and widens it.
pub(crate) fn f16_at(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

/// Whether a little-endian f16 is neither NaN nor infinite.
pub(crate) fn f16_is_finite(bytes: [u8; 2]) -> bool {
    u16::from_le_bytes(bytes) & 0x7c00 != 0x7c00
}

/// Rounds a block scale to f16.
///
/// # Errors
/// [`QuantError::Value`] if the scale is not finite, or too large for f16.
pub(crate) fn f16_scale(format: Format, scale: f32) -> Result<[u8; 2], QuantError> {
    let bytes = f16::from_f32(scale).to_le_bytes();
    if f16_is_finite(bytes) {
        Ok(bytes)
    } else {
        Err(value_error(format, "scale", scale))
    }
}

pub(crate) fn value_error(format: Format, what: &'static str, value: f32) -> QuantError {
    QuantError::Value {
        what,
        format,
        value: f64::from(value),
    }
}

/// Largest magnitude of `values`.
///
/// # Errors
/// [`QuantError::Value`] at the first value that is NaN or infinite.
pub(crate) fn finite_absmax(format: Format, values: &[f32]) -> Result<f32, QuantError> {
    let largest = absmax(values);
    if largest.is_finite() {
        return Ok(largest);
    }
    let found = values.iter().copied().find(|v| !v.is_finite());
    Err(value_error(format, "value", found.unwrap_or(f32::NAN)))
}

/// Largest magnitude of `values`, NaN if there is one, 0 if there is none.
pub(crate) fn absmax(values: &[f32]) -> f32 {
    // Without their sign, binary32 numbers are ordered as their bits are, with NaN above infinity.
    let bits = values
        .iter()
        .fold(0, |most, v| most.max(v.to_bits() & 0x7fff_ffff));
    f32::from_bits(bits)
}

/// Rounds a number of magnitude below 2²² to the nearest integer, ties to even.
///
/// Equal to `round_ties_even`, which without a CPU instruction for it is a call per element. At 1.5·2²³ the spacing of binary32
/// is 1, so the addition does the rounding.
pub(crate) fn round_small(x: f32) -> f32 {
    const ONES: f32 = 12_582_912.0;
    (x + ONES) - ONES
}

pub(crate) fn decode_f32(row: &[u8], out: &mut [f32]) {
    for (out, bytes) in out.iter_mut().zip(row.as_chunks().0) {
        *out = f32::from_le_bytes(*bytes);
    }
}

pub(crate) fn decode_f16(row: &[u8], out: &mut [f32]) {
    for (out, bytes) in out.chunks_mut(RUN).zip(row.chunks(2 * RUN)) {
        let mut run = [f16::ZERO; RUN];
        for (half, bytes) in run.iter_mut().zip(bytes.as_chunks().0) {
            *half = f16::from_le_bytes(*bytes);
        }
        run[..out.len()].convert_to_f32_slice(out);
    }
}

pub(crate) fn decode_bf16(row: &[u8], out: &mut [f32]) {
    for (out, bytes) in out.iter_mut().zip(row.as_chunks().0) {
        *out = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
    }
}

pub(crate) fn encode_f32(values: &[f32], out: &mut [u8]) {
    for (bytes, value) in out.as_chunks_mut().0.iter_mut().zip(values) {
        *bytes = value.to_le_bytes();
    }
}

pub(crate) fn encode_f16(values: &[f32], out: &mut [u8]) -> Result<(), QuantError> {
    for (bytes, &value) in out.as_chunks_mut().0.iter_mut().zip(values) {
        let half = f16::from_f32(value);
        if half.is_infinite() && value.is_finite() {
            return Err(value_error(Format::F16, "value", value));
        }
        *bytes = half.to_le_bytes();
    }
    Ok(())
}

pub(crate) fn encode_bf16(values: &[f32], out: &mut [u8]) -> Result<(), QuantError> {
    for (bytes, &value) in out.as_chunks_mut().0.iter_mut().zip(values) {
        let half = bf16::from_f32(value);
        if half.is_infinite() && value.is_finite() {
            return Err(value_error(Format::Bf16, "value", value));
        }
        *bytes = half.to_le_bytes();
    }
    Ok(())
}

/// Checks that every number of `row` is finite.
pub(crate) fn validate(format: Format, row: &[u8]) -> Result<(), QuantError> {
    const CHUNK: usize = 4096;
    for chunk in row.chunks(CHUNK) {
        let finite = match format {
            Format::F32 => all(chunk, |b| {
                u32::from_le_bytes(b) & 0x7f80_0000 != 0x7f80_0000
            }),
            Format::F16 => all(chunk, f16_is_finite),
            _ => all(chunk, |b| u16::from_le_bytes(b) & 0x7f80 != 0x7f80),
        };
        if !finite {
            let mut values = [0.0; CHUNK];
            let values = &mut values[..chunk.len() / format.block_bytes()];
            match format {
                Format::F32 => decode_f32(chunk, values),
                Format::F16 => decode_f16(chunk, values),
                _ => decode_bf16(chunk, values),
            }
            finite_absmax(format, values)?;
        }
    }
    Ok(())
}

/// Whether `test` holds for every number of `bytes`; looks at all of them, so that it vectorises.
fn all<const N: usize>(bytes: &[u8], test: impl Fn([u8; N]) -> bool) -> bool {
    let numbers = bytes.as_chunks().0;
    numbers
        .iter()
        .fold(true, |fine, &number| fine & test(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_numbers_round_to_even() {
        for quarters in -2000..2000 {
            let x = quarters as f32 / 4.0;
            assert_eq!(round_small(x), x.round_ties_even(), "{x}");
            for x in [x.next_down(), x.next_up()] {
                assert_eq!(round_small(x), x.round_ties_even(), "{x}");
            }
        }
    }
}
