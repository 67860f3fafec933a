//! Q4_0: 32 elements in 18 bytes, an f16 scale and 16 bytes of nibbles. The value is `(nibble − 8)·d`.
//!
//! The low nibble of byte `j` is element `j`, the high one element `j + 16`. The quantizer maps the value of largest
//! magnitude to nibble 0 (so `d` has the opposite sign) and rounds halves up.

use crate::float::{f16_at, f16_scale, finite_absmax};
use crate::{Format, QuantError};

const LEN: usize = 32;
const BYTES: usize = 18;

pub(crate) fn decode(row: &[u8], out: &mut [f32]) {
    for (block, values) in row
        .as_chunks::<BYTES>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<LEN>().0)
    {
        let d = f16_at([block[0], block[1]]);
        let (low, high) = values.split_at_mut(LEN / 2);
        for ((low, high), byte) in low.iter_mut().zip(high).zip(&block[2..]) {
            *low = f32::from((byte & 15) as i8 - 8) * d;
            *high = f32::from((byte >> 4) as i8 - 8) * d;
        }
    }
}

pub(crate) fn encode(values: &[f32], out: &mut [u8]) -> Result<(), QuantError> {
    for (block, values) in out
        .as_chunks_mut::<BYTES>()
        .0
        .iter_mut()
        .zip(values.as_chunks::<LEN>().0)
    {
        let most = finite_absmax(Format::Q4_0, values)?;
        let first = values.iter().find(|v| v.abs() == most);
        let d = first.map_or(0.0, |v| v / -8.0);
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        block[..2].copy_from_slice(&f16_scale(Format::Q4_0, d)?);
        let nibble = |value: f32| ((value * inverse + 8.5) as u8).min(15);
        for (j, byte) in block[2..].iter_mut().enumerate() {
            *byte = nibble(values[j]) | nibble(values[j + LEN / 2]) << 4;
        }
    }
    Ok(())
}
