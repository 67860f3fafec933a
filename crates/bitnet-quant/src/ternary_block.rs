//! What the ternary codecs share: a row is a run of blocks of `LEN` codes in `BYTES` bytes.
//!
//! A codec says where a code lies in its block ([`TernaryBlock`]); reading rows, scaling, checking and writing
//! are the same for all of them and stand here. Codes are −1, 0 and +1, and +2 for a 2-bit field of 3.

use crate::float::{f16_at, f16_is_finite, f16_scale, finite_absmax, value_error};
use crate::{Format, QuantError};

/// One block of a ternary format.
pub(crate) trait TernaryBlock<const LEN: usize, const BYTES: usize> {
    const FORMAT: Format;

    /// Byte offset of the f16 scale inside a block, if the format keeps one there.
    const SCALE: Option<usize>;

    /// Reads the codes.
    fn unpack(block: &[u8; BYTES], codes: &mut [i8; LEN]);

    /// Writes the codes (each −1, 0 or +1), leaving the scale alone.
    fn pack(codes: &[i8; LEN], block: &mut [u8; BYTES]);

    /// Whether the block has no code that the format forbids.
    fn is_ternary(block: &[u8; BYTES]) -> bool;
}

/// Whether none of the four 2-bit fields of any byte is 3.
pub(crate) fn no_code_3(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |seen, b| seen | (b & (b >> 1))) & 0x55 == 0
}

fn scale_bytes<const BYTES: usize>(block: &[u8; BYTES], at: usize) -> [u8; 2] {
    [block[at], block[at + 1]]
}

pub(crate) fn decode_codes<C, const LEN: usize, const BYTES: usize>(row: &[u8], out: &mut [i8])
where
    C: TernaryBlock<LEN, BYTES>,
{
    for (block, codes) in row.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        C::unpack(block, codes);
    }
}

/// Values of a row: each code times its block's scale, or times `scale` where the format keeps none.
pub(crate) fn decode<C, const LEN: usize, const BYTES: usize>(
    row: &[u8],
    scale: f32,
    out: &mut [f32],
) where
    C: TernaryBlock<LEN, BYTES>,
{
    let mut codes = [0; LEN];
    for (block, values) in row.as_chunks().0.iter().zip(out.as_chunks_mut::<LEN>().0) {
        C::unpack(block, &mut codes);
        let d = match C::SCALE {
            Some(at) => f16_at(scale_bytes(block, at)),
            None => scale,
        };
        for (value, &code) in values.iter_mut().zip(&codes) {
            *value = f32::from(code) * d;
        }
    }
}

pub(crate) fn block_scales<C, const LEN: usize, const BYTES: usize>(
    row: &[u8],
    out: &mut [f32],
) -> Result<(), QuantError>
where
    C: TernaryBlock<LEN, BYTES>,
{
    let at = C::SCALE.ok_or(QuantError::Unsupported {
        what: "has no block scales, but one for the tensor",
        format: C::FORMAT,
    })?;
    for (block, d) in row.as_chunks::<BYTES>().0.iter().zip(out) {
        *d = f16_at(scale_bytes(block, at));
    }
    Ok(())
}

pub(crate) fn validate<C, const LEN: usize, const BYTES: usize>(
    row: &[u8],
) -> Result<(), QuantError>
where
    C: TernaryBlock<LEN, BYTES>,
{
    for (index, block) in row.as_chunks::<BYTES>().0.iter().enumerate() {
        if !C::is_ternary(block) {
            let mut codes = [0; LEN];
            C::unpack(block, &mut codes);
            let within = codes.iter().position(|&c| c == 2).unwrap_or(0);
            return Err(QuantError::NotTernary {
                format: C::FORMAT,
                index: index * LEN + within,
            });
        }
        if let Some(at) = C::SCALE
            && !f16_is_finite(scale_bytes(block, at))
        {
            let d = f16_at(scale_bytes(block, at));
            return Err(value_error(C::FORMAT, "block scale", d));
        }
    }
    Ok(())
}

/// Writes codes and, where the format keeps them, one scale per block.
pub(crate) fn encode_codes<C, const LEN: usize, const BYTES: usize>(
    codes: &[i8],
    scales: &[f32],
    out: &mut [u8],
) -> Result<(), QuantError>
where
    C: TernaryBlock<LEN, BYTES>,
{
    let blocks = out.as_chunks_mut::<BYTES>().0;
    if C::SCALE.is_some() && scales.len() != blocks.len() {
        return Err(QuantError::Length {
            what: "block scales",
            format: C::FORMAT,
            expected: blocks.len(),
            found: scales.len(),
        });
    }
    if let Some(&code) = codes.iter().find(|c| !(-1..=1).contains(*c)) {
        return Err(value_error(C::FORMAT, "code", f32::from(code)));
    }
    for (index, (block, codes)) in blocks.iter_mut().zip(codes.as_chunks().0).enumerate() {
        C::pack(codes, block);
        if let Some(at) = C::SCALE {
            let bytes = f16_scale(C::FORMAT, scales[index])?;
            if f16_at(bytes) == 0.0 && scales[index] != 0.0 {
                return Err(value_error(C::FORMAT, "scale", scales[index]));
            }
            block[at..at + 2].copy_from_slice(&bytes);
        }
    }
    Ok(())
}

/// Quantizes values to codes: per block, the scale is the largest magnitude, and each value becomes the nearest
/// of −1, 0 and +1 times it (halves away from zero). Exact up to the f16 rounding of the scale if the block is
/// ternary already.
pub(crate) fn encode<C, const LEN: usize, const BYTES: usize>(
    values: &[f32],
    out: &mut [u8],
) -> Result<(), QuantError>
where
    C: TernaryBlock<LEN, BYTES>,
{
    let mut codes = [0; LEN];
    for (block, values) in out
        .as_chunks_mut()
        .0
        .iter_mut()
        .zip(values.as_chunks::<LEN>().0)
    {
        let d = finite_absmax(C::FORMAT, values)?;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        for (code, value) in codes.iter_mut().zip(values) {
            *code = (value * inverse).round().clamp(-1.0, 1.0) as i8;
        }
        C::pack(&codes, block);
        if let Some(at) = C::SCALE {
            block[at..at + 2].copy_from_slice(&f16_scale(C::FORMAT, d)?);
        }
    }
    Ok(())
}
