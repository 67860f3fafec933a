//! Kernels of packed rows on every instruction set against decoding and summing in plain loops.

use crate::cpu::Isa;
use crate::math::tree_sum;
use crate::simd::{DotPacked, DotTile, ROWS};
use bitnet_quant::Format;
use proptest::prelude::*;

const FORMATS: [Format; 7] = [
    Format::F32,
    Format::F16,
    Format::Bf16,
    Format::Q8_0,
    Format::Q4K,
    Format::Q6K,
    Format::Q4_0,
];

/// Bytes for the longest row of any: 69 times four columns of f32.
const ROOM: usize = 4 * 69 * size_of::<f32>();

/// Sixteen lanes, multiply then add, and their tree.
fn naive(x: &[f32], w: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    for (i, (x, w)) in x.iter().zip(w).enumerate() {
        lanes[i % 16] += x * w;
    }
    tree_sum(lanes)
}

/// Any NaN is one NaN.
fn bits(x: f32) -> u32 {
    if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() }
}

fn isas() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available())
}

fn check(format: Format, rows: [&[u8]; ROWS], x: &[f32], columns: usize) {
    let mut decoded = [(); ROWS].map(|()| vec![0.0; columns]);
    for (row, out) in rows.iter().zip(&mut decoded) {
        format.decode_row(row, 1.0, out).unwrap();
    }
    let expected = decoded.each_ref().map(|w| bits(naive(x, w)));
    for isa in isas() {
        let kernels = isa.kernels();
        let found = (kernels.dot_packed)(DotPacked { format, x, rows }).map(bits);
        assert_eq!(found, expected, "{format} on {isa}, {columns} columns");
        let reversed: Vec<f32> = x.iter().rev().copied().collect();
        let other = decoded.each_ref().map(|w| bits(naive(&reversed, w)));
        for tokens in 2..=ROWS {
            let found = (kernels.dot_tile)(DotTile {
                format,
                x: [x, &reversed, x, &reversed],
                tokens,
                rows,
            });
            for (row, found) in found.iter().enumerate() {
                let expected = [expected[row], other[row]].repeat(2);
                let found: Vec<u32> = found[..tokens].iter().map(|x| bits(*x)).collect();
                assert_eq!(
                    found,
                    expected[..tokens],
                    "{format} on {isa}, {columns} columns"
                );
            }
        }
        for (row, decoded) in rows.iter().zip(&decoded) {
            let mut unpacked = vec![f32::NAN; columns];
            (kernels.unpack)(format, row, &mut unpacked);
            let same = unpacked
                .iter()
                .zip(decoded)
                .all(|(a, b)| bits(*a) == bits(*b));
            assert!(same, "{format} on {isa}, {columns} columns");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any bytes: infinite and NaN weights and scales too.
    #[test]
    fn packed_rows_have_the_bits_of_decoded_ones(
        which in 0..FORMATS.len(),
        length in 1usize..70,
        less in 0usize..40,
        bytes in prop::collection::vec(any::<u8>(), 4 * ROOM),
        x in prop::collection::vec(prop_oneof![9 => -4f32..4.0, 1 => any::<f32>()], 1280),
    ) {
        let format = FORMATS[which];
        let blocks = if format.block_len() == 1 { 4 * length } else { length.div_ceil(16) };
        let columns = blocks * format.block_len();
        let row_bytes = format.row_bytes(columns).unwrap();
        let rows = [0, 1, 2, 3].map(|row| &bytes[row * ROOM..][..row_bytes]);
        check(format, rows, &x[..columns.saturating_sub(less).max(1)], columns);
    }

    /// Whole blocks of Q6_K whose factors are finite, but for one now and then.
    #[test]
    fn blocks_of_q6_k_have_the_bits_of_decoded_ones(
        blocks in 1usize..5,
        factors in prop::collection::vec(prop_oneof![30 => 0u16..0x7c00, 1 => 0x7c00u16..0x8000], 4 * ROWS),
        mut bytes in prop::collection::vec(any::<u8>(), 4 * ROWS * 210),
        x in prop::collection::vec(prop_oneof![2000 => -4f32..4.0, 1 => any::<f32>()], 4 * 256),
    ) {
        for (i, (block, factor)) in bytes.chunks_exact_mut(210).zip(factors).enumerate() {
            let sign = (i as u16 % 2) << 15;
            block[208..].copy_from_slice(&(factor | sign).to_le_bytes());
        }
        let rows = [0, 1, 2, 3].map(|row| &bytes[row * 4 * 210..][..blocks * 210]);
        check(Format::Q6K, rows, &x[..blocks * 256], blocks * 256);
    }
}

#[test]
fn odd_widths_and_no_columns() {
    for columns in [1, 2, 15, 16, 17, 31, 33, 47, 63] {
        let values: Vec<f32> = (0..columns).map(|i| (i as f32).sin()).collect();
        for format in [Format::F32, Format::F16, Format::Bf16] {
            let mut row = vec![0; format.row_bytes(columns).unwrap()];
            format.encode_row(&values, 1.0, &mut row).unwrap();
            check(format, [&row; ROWS], &values, columns);
        }
    }
    for (format, isa) in FORMATS
        .into_iter()
        .flat_map(|f| isas().map(move |isa| (f, isa)))
    {
        let none = (isa.kernels().dot_packed)(DotPacked {
            format,
            x: &[],
            rows: [&[]; ROWS],
        });
        assert_eq!(none, [0.0; ROWS]);
    }
}
