//! Every format reads back what it wrote, in the precision it has, and refuses what it cannot read.

#![allow(clippy::unwrap_used)]

use bitnet_quant::{Format, I2sLayout, QuantError};
use half::{bf16, f16};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const I2_S: Format = Format::I2s(I2sLayout::A);
const I2_S_B: Format = Format::I2s(I2sLayout::B);

const FLOAT: [Format; 3] = [Format::F32, Format::F16, Format::Bf16];
const SCALED: [Format; 4] = [Format::Q4_0, Format::Q8_0, Format::Q4K, Format::Q6K];

fn all() -> impl Iterator<Item = Format> {
    Format::ALL.iter().copied()
}

fn ternary() -> impl Iterator<Item = Format> {
    all().filter(|format| format.is_ternary())
}

fn decode(format: Format, row: &[u8], scale: f32, cols: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; cols];
    format.decode_row(row, scale, &mut out).unwrap();
    out
}

fn encode(format: Format, values: &[f32], scale: f32) -> Result<Vec<u8>, QuantError> {
    let mut out = vec![0x55; format.row_bytes(values.len()).unwrap()];
    format.encode_row(values, scale, &mut out).map(|()| out)
}

/// Offset of the f16 scale in a block.
fn scale_at(format: Format) -> usize {
    match format {
        Format::Tq1_0 | Format::Ptq1_0 | Format::Tq2_0 | Format::Q6K => format.block_bytes() - 2,
        _ => 0,
    }
}

fn ternary_rows() -> impl Strategy<Value = (Format, Vec<i8>, Vec<f32>)> {
    (select(ternary().collect::<Vec<_>>()), 0usize..4).prop_flat_map(|(format, blocks)| {
        (
            Just(format),
            vec(-1i8..=1, blocks * format.block_len()),
            vec(select(&[0.5f32, 1.0, 0.0117, 1e-5, 65504.0]), blocks),
        )
    })
}

proptest! {
    #[test]
    fn codes_come_back_exactly((format, codes, scales) in ternary_rows()) {
        let mut row = vec![0x55; format.row_bytes(codes.len()).unwrap()];
        format.encode_codes(&codes, &scales, &mut row).unwrap();
        format.validate_row(&row).unwrap();
        let mut found = vec![9; codes.len()];
        format.decode_codes(&row, &mut found).unwrap();
        prop_assert_eq!(&found, &codes);

        let tensor_scale = 0.75;
        let rounded: Vec<f32> = if matches!(format, Format::I2s(_)) {
            vec![tensor_scale; scales.len()]
        } else {
            let rounded: Vec<f32> = scales.iter().map(|&d| f16::from_f32(d).to_f32()).collect();
            let mut found = vec![f32::NAN; scales.len()];
            format.block_scales(&row, &mut found).unwrap();
            prop_assert_eq!(&found, &rounded);
            rounded
        };
        let values = decode(format, &row, tensor_scale, codes.len());
        for (i, value) in values.iter().enumerate() {
            let expected = f32::from(codes[i]) * rounded[i / format.block_len()];
            prop_assert_eq!(*value, expected);
        }
        // Values that are ternary go back to the same codes; blocks of zeros forget their scale.
        let again = encode(format, &values, tensor_scale).unwrap();
        prop_assert_eq!(decode(format, &again, tensor_scale, codes.len()), values);
    }

    #[test]
    fn any_base_3_bytes_decode(bytes in vec(any::<u8>(), 54)) {
        for format in [Format::Tq1_0, Format::Ptq1_0] {
            let row = &bytes[..format.block_bytes()];
            let mut codes = vec![9; format.block_len()];
            format.decode_codes(row, &mut codes).unwrap();
            prop_assert!(codes.iter().all(|c| (-1..=1).contains(c)));
        }
    }

    #[test]
    fn any_2_bit_codes_decode(format in select(ternary().collect::<Vec<_>>()), seed in vec(any::<u8>(), 1..66)) {
        let row: Vec<u8> = seed.iter().copied().cycle().take(format.block_bytes()).collect();
        let mut codes = vec![9; format.block_len()];
        match format.decode_codes(&row, &mut codes) {
            Ok(()) => prop_assert!(codes.iter().all(|c| (-1..=2).contains(c))),
            Err(e) => {
                prop_assert!(matches!(format, Format::I2s(_)));
                prop_assert_eq!(Err(e), format.validate_row(&row));
            }
        }
    }

    #[test]
    fn floats_are_what_half_says(bits in vec(any::<u32>(), 0..200)) {
        let values: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
        let row = encode(Format::F32, &values, 0.0).unwrap();
        let found: Vec<u32> = decode(Format::F32, &row, 0.0, values.len()).iter().map(|v| v.to_bits()).collect();
        prop_assert_eq!(found, bits.clone());

        for format in [Format::F16, Format::Bf16] {
            let narrow: Vec<u16> = bits.iter().map(|&b| b as u16).collect();
            let row: Vec<u8> = narrow.iter().flat_map(|b| b.to_le_bytes()).collect();
            for (value, &bits) in decode(format, &row, 0.0, narrow.len()).iter().zip(&narrow) {
                let expected = if format == Format::F16 {
                    f16::from_bits(bits).to_f32()
                } else {
                    bf16::from_bits(bits).to_f32()
                };
                prop_assert!(value.to_bits() == expected.to_bits() || value.is_nan() && expected.is_nan());
            }
        }
    }

    #[test]
    fn floats_round_to_nearest(values in vec(-60000.0f32..60000.0, 0..100)) {
        for (format, relative) in [(Format::F16, 2f32.powi(-11)), (Format::Bf16, 2f32.powi(-8))] {
            let row = encode(format, &values, 0.0).unwrap();
            let found = decode(format, &row, 0.0, values.len());
            for (x, y) in values.iter().zip(&found) {
                prop_assert!((x - y).abs() <= x.abs() * relative + 2f32.powi(-25), "{format}: {x} {y}");
            }
            prop_assert_eq!(encode(format, &found, 0.0).unwrap(), row);
        }
    }

    #[test]
    fn errors_stay_within_a_step(values in vec(-8.0f32..8.0, 512), spread in 1e-3f32..1e3) {
        let values: Vec<f32> = values.iter().map(|v| v * spread).collect();
        for (format, steps) in [(Format::Q8_0, 127.0), (Format::Q4_0, 8.0), (Format::Q4K, 7.5), (Format::Q6K, 32.0)] {
            let row = encode(format, &values, 0.0).unwrap();
            format.validate_row(&row).unwrap();
            let found = decode(format, &row, 0.0, values.len());
            let block = format.block_len();
            for (x, y) in values.chunks(block).zip(found.chunks(block)) {
                let most = x.iter().fold(0f32, |m, v| m.max(v.abs()));
                for (x, y) in x.iter().zip(y) {
                    // Half a step, or a whole one at the far end of Q4_0 and Q6_K, or where Q4_K has a minimum; and the rounding of the scales.
                    let slack = if format == Format::Q8_0 { 0.58 } else { 1.1 };
                    prop_assert!((x - y).abs() <= slack * most / steps, "{format}: {x} {y} of {most}");
                }
            }
        }
    }

    #[test]
    fn scales_of_any_size_are_held_or_refused(
        values in vec(-1.0f32..1.0, 256),
        power in -149i32..129,
        spoil in select(&[0.0, f32::NAN, f32::INFINITY]),
    ) {
        let mut values: Vec<f32> = values.iter().map(|v| (f64::from(*v) * 2f64.powi(power)) as f32).collect();
        values[255] += spoil;
        let finite = values.iter().all(|v| v.is_finite());
        for format in ternary().chain(SCALED) {
            match encode(format, &values, 1.0) {
                Ok(row) => {
                    prop_assert!(finite);
                    format.validate_row(&row).unwrap();
                    let found = decode(format, &row, 1.0, 256);
                    prop_assert!(found.iter().all(|v| v.is_finite()));
                }
                Err(e) => {
                    prop_assert!(matches!(e, QuantError::Value { .. }), "{e}");
                    prop_assert!(!finite || power > 14 || matches!(format, Format::I2s(_)), "{format}: {e}");
                }
            }
        }
    }
}

#[test]
fn empty_rows_are_rows() {
    for format in all() {
        format.decode_row(&[], 1.0, &mut []).unwrap();
        format.encode_row(&[], 1.0, &mut []).unwrap();
        format.validate_row(&[]).unwrap();
    }
    for format in ternary() {
        format.decode_codes(&[], &mut []).unwrap();
        format.encode_codes(&[], &[], &mut []).unwrap();
    }
}

#[test]
fn wrong_lengths_are_refused() {
    for format in all() {
        let (len, bytes) = (format.block_len(), format.block_bytes());
        let length = |result: Result<(), QuantError>| {
            assert!(
                matches!(result, Err(QuantError::Length { .. })),
                "{format}: {result:?}"
            );
        };
        for bad in [0, bytes - 1, bytes + 1, 2 * bytes] {
            length(format.decode_row(&vec![0; bad], 1.0, &mut vec![0.0; len]));
            length(format.encode_row(&vec![0.0; len], 1.0, &mut vec![0; bad]));
            if format.is_ternary() {
                length(format.decode_codes(&vec![0; bad], &mut vec![0; len]));
                length(format.encode_codes(&vec![0; len], &[1.0], &mut vec![0; bad]));
            }
        }
        length(format.validate_row(&vec![0; bytes + 1]));
        if len > 1 {
            length(format.decode_row(&vec![0; bytes], 1.0, &mut vec![0.0; len + 1]));
        }
        if format.is_ternary() && !matches!(format, Format::I2s(_)) {
            length(format.block_scales(&vec![0; bytes], &mut [0.0; 2]));
            length(format.block_scales(&vec![0; bytes - 1], &mut [0.0]));
            length(format.encode_codes(&vec![0; len], &[], &mut vec![0; bytes]));
        }
    }
}

#[test]
fn code_3_is_refused_where_it_means_nothing() {
    for (format, at, element) in [
        (I2_S, 32 + 5, 128 + 5),  // bits 7:6 of byte 5 of block 1
        (I2_S_B, 16 + 5, 64 + 5), // the same for the shorter block
        (Format::Tq2_0, 66 + 5, 256 + 96 + 5),
    ] {
        let cols = 2 * format.block_len();
        let mut row = vec![0; format.row_bytes(cols).unwrap()];
        row[at] = 0b11_00_00_00;
        let refused = Err(QuantError::NotTernary {
            format,
            index: element,
        });
        assert_eq!(format.validate_row(&row), refused);
        let mut codes = vec![0; cols];
        let mut values = vec![0.0; cols];
        if format == Format::Tq2_0 {
            row[64..66].copy_from_slice(&f16::from_f32(0.5).to_le_bytes());
            row[130..132].copy_from_slice(&f16::from_f32(0.5).to_le_bytes());
            format.decode_codes(&row, &mut codes).unwrap();
            format.decode_row(&row, 0.0, &mut values).unwrap();
            assert_eq!((codes[element], values[element]), (2, 1.0));
        } else {
            assert_eq!(format.decode_codes(&row, &mut codes), refused);
            assert_eq!(format.decode_row(&row, 1.0, &mut values), refused);
        }
    }
    for format in [Format::Q2_0, Format::Q2_0Group128] {
        let mut row = vec![0xff; format.block_bytes()];
        row[..2].copy_from_slice(&f16::from_f32(0.25).to_le_bytes());
        format.validate_row(&row).unwrap();
        assert_eq!(
            decode(format, &row, 0.0, format.block_len()),
            vec![0.5; format.block_len()]
        );
    }
}

#[test]
fn code_3_is_found_anywhere_in_many_rows() {
    let mut rows = vec![0b10_01_00_10; 3 * 4096 + 64];
    I2_S.validate_row(&rows).unwrap();
    for at in [0, 4095, 4096, 12_351] {
        rows[at] ^= 0b00_00_11_00; // field 0 becomes 3
        let element = at / 32 * 128 + at % 32 + 64;
        let refused = QuantError::NotTernary {
            format: I2_S,
            index: element,
        };
        assert_eq!(I2_S.validate_row(&rows), Err(refused));
        rows[at] ^= 0b00_00_11_00;
    }
}

#[test]
fn scales_that_are_not_finite_are_refused() {
    for format in all().filter(|f| !FLOAT.contains(f) && !matches!(f, Format::I2s(_))) {
        for bad in [f16::NAN, f16::INFINITY, f16::NEG_INFINITY] {
            let mut rows = vec![0; 3 * format.block_bytes()];
            format.validate_row(&rows).unwrap();
            let at = 2 * format.block_bytes() + scale_at(format);
            rows[at..at + 2].copy_from_slice(&bad.to_le_bytes());
            let refused = format.validate_row(&rows);
            assert!(
                matches!(refused, Err(QuantError::Value { .. })),
                "{format}: {refused:?}"
            );
        }
    }
    for format in FLOAT {
        for len in [1, 3, 3000] {
            for bad in [f32::NAN, f32::NEG_INFINITY] {
                let mut values = vec![1.5; len];
                format
                    .validate_row(&encode(format, &values, 0.0).unwrap())
                    .unwrap();
                values[len - 1] = bad;
                let refused = format.validate_row(&encode(format, &values, 0.0).unwrap());
                assert!(
                    matches!(refused, Err(QuantError::Value { .. })),
                    "{format}: {refused:?}"
                );
            }
        }
    }
}

#[test]
fn layouts_of_i2_s_differ() {
    let codes: Vec<i8> = (0..128).map(|i| (i % 3) as i8 - 1).collect();
    let (mut a, mut b) = ([0; 32], [0; 32]);
    I2_S.encode_codes(&codes, &[], &mut a).unwrap();
    I2_S_B.encode_codes(&codes, &[], &mut b).unwrap();
    assert_ne!(a, b);
    let mut misread = vec![0; 128];
    I2_S_B.decode_codes(&a, &mut misread).unwrap();
    assert_ne!(misread, codes);
    // Nothing but the order differs, so no check could tell.
    let count = |codes: &[i8]| [-1, 0, 1].map(|code| codes.iter().filter(|&&c| c == code).count());
    assert_eq!(count(&misread), count(&codes));
}

#[test]
fn i2_s_takes_only_ternary_values() {
    let scale = 0.3f32;
    for fine in [0.0, -0.0, scale, -scale, scale * (1.0 + 5e-7), 1e-8] {
        let mut values = vec![0.0; 256];
        values[200] = fine;
        let row = encode(I2_S, &values, scale).unwrap();
        assert!((decode(I2_S, &row, scale, 256)[200] - fine).abs() < 1e-6);
    }
    for bad in [0.29, -0.6, 1e-4, f32::NAN, f32::INFINITY] {
        let mut values = vec![0.0; 256];
        values[200] = bad;
        let refused = encode(I2_S_B, &values, scale);
        assert!(
            matches!(refused, Err(QuantError::Value { what: "value", .. })),
            "{refused:?}"
        );
    }
    assert!(encode(I2_S, &[0.0; 128], f32::NAN).is_err());
    assert!(encode(I2_S, &[0.0; 128], 0.0).is_ok());
    assert!(encode(I2_S, &[1.0; 128], 0.0).is_err());
    // A negative scale turns the signs, and back.
    let row = encode(I2_S, &[0.5; 128], -0.5).unwrap();
    assert_eq!(decode(I2_S, &row, -0.5, 128), [0.5; 128]);
}

#[test]
fn codes_and_scales_that_do_not_fit_are_refused() {
    for format in ternary() {
        let len = format.block_len();
        let mut out = vec![0; format.block_bytes()];
        for code in [-2, 2, i8::MIN, i8::MAX] {
            let mut codes = vec![0; len];
            codes[len - 1] = code;
            let refused = format.encode_codes(&codes, &[1.0], &mut out);
            assert!(
                matches!(refused, Err(QuantError::Value { what: "code", .. })),
                "{refused:?}"
            );
        }
        if matches!(format, Format::I2s(_)) {
            continue;
        }
        for scale in [f32::NAN, f32::INFINITY, 65520.0, 1e-9] {
            let refused = format.encode_codes(&vec![1; len], &[scale], &mut out);
            assert!(
                matches!(refused, Err(QuantError::Value { what: "scale", .. })),
                "{refused:?}"
            );
        }
        format
            .encode_codes(&vec![1; len], &[0.0], &mut out)
            .unwrap();
    }
}

#[test]
fn operations_without_meaning_are_refused() {
    let refused = |result| assert!(matches!(result, Err(QuantError::Unsupported { .. })));
    for format in FLOAT.into_iter().chain(SCALED) {
        let (len, bytes) = (format.block_len(), format.block_bytes());
        refused(format.decode_codes(&vec![0; bytes], &mut vec![0; len]));
        refused(format.block_scales(&vec![0; bytes], &mut [0.0]));
        refused(format.encode_codes(&vec![0; len], &[1.0], &mut vec![0; bytes]));
    }
    refused(I2_S.block_scales(&[0; 32], &mut [0.0]));
}

#[test]
fn narrow_floats_keep_nan_and_infinity_and_refuse_overflow() {
    for (format, least) in [(Format::F16, 65520.0), (Format::Bf16, f32::MAX)] {
        let row = encode(format, &[f32::NAN, f32::INFINITY, -0.0, 1.0], 0.0).unwrap();
        let found = decode(format, &row, 0.0, 4);
        assert!(found[0].is_nan());
        assert_eq!(found[1..], [f32::INFINITY, 0.0, 1.0]);
        assert!(found[2].is_sign_negative());
        assert!(matches!(
            encode(format, &[-least], 0.0),
            Err(QuantError::Value { .. })
        ));
    }
    // Ties go to the even neighbour: 1 + 2⁻¹¹ and 1 + 3·2⁻¹¹ in F16.
    let row = encode(Format::F16, &[1.000_488_3, 1.001_464_8], 0.0).unwrap();
    assert_eq!(row, [0x00, 0x3c, 0x02, 0x3c]);
    let row = encode(Format::Bf16, &[1.003_906_3, 1.011_718_8], 0.0).unwrap();
    assert_eq!(row, [0x80, 0x3f, 0x82, 0x3f]);
    // A signalling NaN comes out quiet.
    let row = encode(Format::Bf16, &[f32::from_bits(0x7f80_0001)], 0.0).unwrap();
    assert_eq!(row, [0xc0, 0x7f]);
}

#[test]
fn rows_need_no_alignment() {
    let values = [1.0, -2.5, 0.125];
    for format in FLOAT {
        let mut bytes = vec![0xee];
        bytes.extend(encode(format, &values, 0.0).unwrap());
        assert_eq!(decode(format, &bytes[1..], 0.0, 3), values);
    }
}

#[test]
fn zeros_stay_zeros() {
    for format in all() {
        let len = 2 * format.block_len();
        let row = encode(format, &vec![0.0; len], 1.0).unwrap();
        assert_eq!(decode(format, &row, 1.0, len), vec![0.0; len]);
    }
}

#[test]
fn q6_k_is_finer_than_q4_0() {
    let values: Vec<f32> = (0..2560)
        .map(|i| (i as f32 * 0.37).sin() * (i as f32 * 0.011).cos())
        .collect();
    let noise = |format| {
        let row = encode(format, &values, 0.0).unwrap();
        let found = decode(format, &row, 0.0, values.len());
        bitnet_quant::ErrorMetrics::between(&values, &found)
            .unwrap()
            .sqnr_db
    };
    let (q4, q6, q8) = (noise(Format::Q4_0), noise(Format::Q6K), noise(Format::Q8_0));
    assert!(q4 > 18.0 && q6 > 32.0 && q8 > 44.0, "{q4} {q6} {q8}");
    assert!(q4 < q6 && q6 < q8, "{q4} {q6} {q8}");
}
