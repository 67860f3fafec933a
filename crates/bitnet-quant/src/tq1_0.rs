//! TQ1_0: 256 ternary elements in 54 bytes, five base-3 digits to a byte.
//!
//! `qs[48]`, `qh[4]`, then the f16 scale. A digit is the code plus 1, and digit 0 of a byte is the most significant:
//!
//! | bytes | digits | digit `n` of byte `m` is element |
//! |---|---|---|
//! | `qs[0..32]` | 5 | `32·n + m` |
//! | `qs[32..48]` | 5 | `160 + 16·n + m` |
//! | `qh[0..4]` | 4 | `240 + 4·n + m` |
//!
//! The byte is the five-digit number `v` as a fraction of 243, scaled to 256 and rounded up, so that multiplying by
//! 3ⁿ modulo 256 brings digit `n` to the front, where `·3 >> 8` reads it without a division.

use crate::Format;
use crate::ternary_block::TernaryBlock;

/// 3ⁿ modulo 256.
const POWER: [u8; 5] = [1, 3, 9, 27, 81];

pub(crate) struct Tq1_0;

impl TernaryBlock<256, 54> for Tq1_0 {
    const FORMAT: Format = Format::Tq1_0;
    const SCALE: Option<usize> = Some(52);

    fn unpack(block: &[u8; 54], codes: &mut [i8; 256]) {
        unpack_run(&block[..32], &mut codes[..160]);
        unpack_run(&block[32..48], &mut codes[160..240]);
        unpack_run(&block[48..52], &mut codes[240..]);
    }

    fn pack(codes: &[i8; 256], block: &mut [u8; 54]) {
        pack_run(&codes[..160], &mut block[..32]);
        pack_run(&codes[160..240], &mut block[32..48]);
        pack_run(&codes[240..], &mut block[48..52]);
    }

    fn is_ternary(_: &[u8; 54]) -> bool {
        true // every byte reads as five digits of 0, 1 or 2
    }
}

/// Reads digit `n` of byte `m` into code `n·bytes + m`, for all bytes of a run.
pub(crate) fn unpack_run(bytes: &[u8], codes: &mut [i8]) {
    for (run, power) in codes.chunks_exact_mut(bytes.len()).zip(POWER) {
        for (code, byte) in run.iter_mut().zip(bytes) {
            let fraction = byte.wrapping_mul(power);
            *code = ((u16::from(fraction) * 3) >> 8) as i8 - 1;
        }
    }
}

/// The inverse of [`unpack_run`]; digits without a code are 0.
pub(crate) fn pack_run(codes: &[i8], bytes: &mut [u8]) {
    let width = bytes.len();
    for (m, byte) in bytes.iter_mut().enumerate() {
        let number = (0..POWER.len()).fold(0, |number, n| {
            let digit = codes.get(n * width + m).map_or(0, |code| (code + 1) as u16);
            3 * number + digit
        });
        *byte = (256 * number).div_ceil(243) as u8;
    }
}
