//! Q2_0: ternary elements of 2 bits in groups of 64, or of 128 in files that predate the smaller group.
//!
//! The f16 scale comes first, then the codes: element `j` is bits `2(j mod 4)+1:2(j mod 4)` of code byte `j div 4`,
//! and its value is `(code − 1)·d`. Code 3 stands for `+2·d` and is legal.

use crate::Format;
use crate::ternary_block::TernaryBlock;

/// Where the codes begin, after the scale.
const CODES: usize = 2;

pub(crate) struct Q2_0;
pub(crate) struct Q2_0Group128;

impl TernaryBlock<64, 18> for Q2_0 {
    const FORMAT: Format = Format::Q2_0;
    const SCALE: Option<usize> = Some(0);

    fn unpack(block: &[u8; 18], codes: &mut [i8; 64]) {
        unpack(&block[CODES..], codes);
    }

    fn pack(codes: &[i8; 64], block: &mut [u8; 18]) {
        pack(codes, &mut block[CODES..]);
    }

    fn is_ternary(_: &[u8; 18]) -> bool {
        true
    }
}

impl TernaryBlock<128, 34> for Q2_0Group128 {
    const FORMAT: Format = Format::Q2_0Group128;
    const SCALE: Option<usize> = Some(0);

    fn unpack(block: &[u8; 34], codes: &mut [i8; 128]) {
        unpack(&block[CODES..], codes);
    }

    fn pack(codes: &[i8; 128], block: &mut [u8; 34]) {
        pack(codes, &mut block[CODES..]);
    }

    fn is_ternary(_: &[u8; 34]) -> bool {
        true
    }
}

fn unpack(bytes: &[u8], codes: &mut [i8]) {
    const HIGH: u32 = 0x8080_8080;
    for (codes, &byte) in codes.as_chunks_mut::<4>().0.iter_mut().zip(bytes) {
        // The four fields, each in a byte of its own; 1 is taken from each with its high bit set, so none borrows.
        let byte = u32::from(byte);
        let fields = (byte | byte << 6 | byte << 12 | byte << 18) & 0x0303_0303;
        let less_one = ((fields | HIGH) - 0x0101_0101) ^ HIGH;
        *codes = less_one.to_le_bytes().map(|code| code as i8);
    }
}

fn pack(codes: &[i8], bytes: &mut [u8]) {
    for (codes, byte) in codes.as_chunks::<4>().0.iter().zip(bytes) {
        let [a, b, c, d] = codes.map(|code| (code + 1) as u8);
        *byte = a | b << 2 | c << 4 | d << 6;
    }
}
