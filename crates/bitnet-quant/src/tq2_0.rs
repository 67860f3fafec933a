//! TQ2_0: 256 ternary elements in 66 bytes, four 2-bit codes to a byte.
//!
//! `qs[64]`, then the f16 scale. Element `128·g + 32·l + m` is bits `2l+1:2l` of `qs[32g + m]` (`g` < 2, `l` < 4,
//! `m` < 32), and its value is `(code − 1)·d`. Code 3 would be `+2·d`; no quantizer writes it.

use crate::Format;
use crate::ternary_block::{TernaryBlock, no_code_3};

pub(crate) struct Tq2_0;

impl TernaryBlock<256, 66> for Tq2_0 {
    const FORMAT: Format = Format::Tq2_0;
    const SCALE: Option<usize> = Some(64);

    fn unpack(block: &[u8; 66], codes: &mut [i8; 256]) {
        for (codes, bytes) in codes.chunks_exact_mut(128).zip(block.chunks_exact(32)) {
            for (l, run) in codes.chunks_exact_mut(32).enumerate() {
                for (code, byte) in run.iter_mut().zip(bytes) {
                    *code = (byte >> (2 * l) & 3) as i8 - 1;
                }
            }
        }
    }

    fn pack(codes: &[i8; 256], block: &mut [u8; 66]) {
        block[..64].fill(0);
        for (codes, bytes) in codes.chunks_exact(128).zip(block.chunks_exact_mut(32)) {
            for (l, run) in codes.chunks_exact(32).enumerate() {
                for (code, byte) in run.iter().zip(bytes.iter_mut()) {
                    *byte |= ((code + 1) as u8) << (2 * l);
                }
            }
        }
    }

    fn is_ternary(block: &[u8; 66]) -> bool {
        no_code_3(&block[..64])
    }
}
