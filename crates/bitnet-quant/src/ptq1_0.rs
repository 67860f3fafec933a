//! PTQ1_0: 128 ternary elements in 28 bytes, five base-3 digits to a byte as in [`tq1_0`](crate::tq1_0).
//!
//! `qs[24]`, `qh[2]`, then the f16 scale. A digit is the code plus 1, and digit 0 of a byte is the most significant:
//!
//! | bytes | digits | digit `n` of byte `m` is element |
//! |---|---|---|
//! | `qs[0..16]` | 5 | `16·n + m` |
//! | `qs[16..24]` | 5 | `80 + 8·n + m` |
//! | `qh[0..2]` | 4 | `120 + 2·n + m` |

use crate::Format;
use crate::ternary_block::TernaryBlock;
use crate::tq1_0::{pack_run, unpack_run};

pub(crate) struct Ptq1_0;

impl TernaryBlock<128, 28> for Ptq1_0 {
    const FORMAT: Format = Format::Ptq1_0;
    const SCALE: Option<usize> = Some(26);

    fn unpack(block: &[u8; 28], codes: &mut [i8; 128]) {
        unpack_run(&block[..16], &mut codes[..80]);
        unpack_run(&block[16..24], &mut codes[80..120]);
        unpack_run(&block[24..26], &mut codes[120..]);
    }

    fn pack(codes: &[i8; 128], block: &mut [u8; 28]) {
        pack_run(&codes[..80], &mut block[..16]);
        pack_run(&codes[80..120], &mut block[16..24]);
        pack_run(&codes[120..], &mut block[24..26]);
    }

    fn is_ternary(_: &[u8; 28]) -> bool {
        true // every byte reads as five digits of 0, 1 or 2
    }
}
