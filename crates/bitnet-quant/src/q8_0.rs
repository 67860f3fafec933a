//! Q8_0: 32 elements in 34 bytes, an f16 scale and 32 signed bytes. The value is `q·d`.
//!
//! The quantizer takes `d` = largest magnitude / 127 and rounds halves away from zero, computing with `d` before its
//! rounding to f16.

use crate::float::{f16_at, f16_scale, finite_absmax};
use crate::{Format, QuantError};

const LEN: usize = 32;
const BYTES: usize = 34;

pub(crate) fn decode(row: &[u8], out: &mut [f32]) {
    for (block, values) in row
        .as_chunks::<BYTES>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<LEN>().0)
    {
        let d = f16_at([block[0], block[1]]);
        for (value, &q) in values.iter_mut().zip(&block[2..]) {
            *value = f32::from(q as i8) * d;
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
        let d = finite_absmax(Format::Q8_0, values)? / 127.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        block[..2].copy_from_slice(&f16_scale(Format::Q8_0, d)?);
        for (q, value) in block[2..].iter_mut().zip(values) {
            *q = (value * inverse).round().clamp(-127.0, 127.0) as i8 as u8;
        }
    }
    Ok(())
}
