//! Bytes and values that other programs wrote or read: the formats mean here what they mean there.

#![allow(clippy::unwrap_used)]

use bitnet_quant::{
    Format, I2sLayout, WeightScale, hf_packed, quantize_absmax_i8, quantize_absmean,
};

const TQ1_0: &str = "465dd11874465dd11874465dd11874465dd11874465dd11874465dd11874465d\
    3192b622663192b622663192b6226631235fcb430038";
const TQ2_0: &str = "5881166005588116600558811660055881166005588116600558811660055881\
    6005588116600558811660055881166005588116600558811660055881166005\
    0038";
/// Two blocks, the second with a scale of −0.25.
const PTQ1_0: &str = "3192b622663192b622663192b62266310f85af2d900f85af465c0038\
    22663192b622663192b622663192b6222d900f85af2d900f177200b4";
const Q2_0: &str = "003824914412492491441249249144124924003891441249249144124924914412492491";
const PQ2_0: &str = "00382491441249249144124924914412492491441249249144124924914412492491";
const I2_S_A: &str = "2542940950254294095025429409502542940950254294095025429409502542\
    0950254294095025429409502542940950254294095025429409502542940950\
    0000003f";
const I2_S_B: &str = "1861841146186184114618618411461846186184114618618411461861841146\
    1146186184114618618411461861841184114618618411461861841146186184\
    0000003f";
const Q8_0: &str = "8928a4abb2b9c0c8cfd6dde4ebf2f900070e151c232a313840474e555c636a71787f";
const Q4_0: &str = "80b87e6d6d5c5c4c4b4b3a3a292918180807";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// The codes of pattern P.
fn pattern(len: i32) -> Vec<i8> {
    (0..len).map(|i| ((7 * i + i / 5) % 3) as i8 - 1).collect()
}

fn halves(codes: &[i8]) -> Vec<f32> {
    codes.iter().map(|&t| 0.5 * f32::from(t)).collect()
}

/// Checks every way in and out of a ternary format against `packed`, which has as much of pattern P as fits.
fn check_ternary(format: Format, packed: &[u8]) {
    let blocks = packed.len() / format.block_bytes();
    let codes = pattern((blocks * format.block_len()) as i32);
    let values = halves(&codes);
    let mut out = vec![0xaa; packed.len()];
    format
        .encode_codes(&codes, &vec![0.5; blocks], &mut out)
        .unwrap();
    assert_eq!(out, packed, "{format} from codes");
    out.fill(0xaa);
    format.encode_row(&values, 0.5, &mut out).unwrap();
    assert_eq!(out, packed, "{format} from values");
    let mut found_codes = vec![0; codes.len()];
    format.decode_codes(packed, &mut found_codes).unwrap();
    assert_eq!(found_codes, codes, "{format}");
    let mut found = vec![0.0; codes.len()];
    format.decode_row(packed, 0.5, &mut found).unwrap();
    assert_eq!(found, values, "{format}");
    format.validate_row(packed).unwrap();
}

#[test]
fn pattern_is_the_published_one() {
    let codes = pattern(256);
    assert_eq!(
        codes[..16],
        [-1, 0, 1, -1, 0, -1, 0, 1, -1, 0, -1, 0, 1, -1, 0, -1]
    );
    let count = |code| codes.iter().filter(|&&t| t == code).count();
    assert_eq!([count(-1), count(0), count(1)], [103, 102, 51]);
    let weighted: i32 = (0..).zip(&codes).map(|(i, &t)| i * i32::from(t)).sum();
    assert_eq!(weighted, -6681);
}

#[test]
fn tq1_0() {
    check_ternary(Format::Tq1_0, &bytes(TQ1_0));
}

#[test]
fn tq2_0() {
    check_ternary(Format::Tq2_0, &bytes(TQ2_0));
}

#[test]
fn i2_s_layout_a() {
    let packed = bytes(I2_S_A);
    assert_eq!(packed[64..], 0.5f32.to_le_bytes());
    check_ternary(Format::I2s(I2sLayout::A), &packed[..64]);
}

#[test]
fn i2_s_layout_b() {
    let packed = bytes(I2_S_B);
    assert_eq!(packed[64..], 0.5f32.to_le_bytes());
    check_ternary(Format::I2s(I2sLayout::B), &packed[..64]);
}

#[test]
fn q2_0() {
    check_ternary(Format::Q2_0, &bytes(Q2_0));
}

#[test]
fn pq2_0() {
    check_ternary(Format::Q2_0Group128, &bytes(PQ2_0));
}

/// The bytes that hold every residue: (37·i + 11) mod 256.
fn residues(len: i32) -> impl Iterator<Item = u8> {
    (0..len).map(|i| (37 * i + 11) as u8)
}

/// Σ c and Σ i·c.
fn moments(codes: &[i8]) -> (i32, i32) {
    let codes = codes.iter().map(|&c| i32::from(c));
    (
        codes.clone().sum(),
        (0..).zip(codes).map(|(i, c)| i * c).sum(),
    )
}

#[test]
fn pq2_0_decodes_code_3() {
    let packed: Vec<u8> = [0x00, 0x2c].into_iter().chain(residues(32)).collect();
    let mut codes = [0; 128];
    Format::Q2_0Group128
        .decode_codes(&packed, &mut codes)
        .unwrap();
    assert_eq!(
        codes[..16],
        [2, 1, -1, -1, -1, -1, 2, -1, 0, 0, 0, 0, 1, 1, 2, 0]
    );
    assert_eq!(moments(&codes), (59, 3783));
    assert_eq!(codes.iter().filter(|&&c| c == 2).count(), 32);
    let mut values = [0.0; 128];
    Format::Q2_0Group128
        .decode_row(&packed, 0.0, &mut values)
        .unwrap();
    assert_eq!(values, codes.map(|c| 0.0625 * f32::from(c)));
}

#[test]
fn ptq1_0() {
    let packed = bytes(PTQ1_0);
    check_ternary(Format::Ptq1_0, &packed[..28]);
    let codes = pattern(256);
    let mut out = [0xaa; 56];
    Format::Ptq1_0
        .encode_codes(&codes, &[0.5, -0.25], &mut out)
        .unwrap();
    assert_eq!(out, packed[..]);
    let mut found = [0; 256];
    Format::Ptq1_0.decode_codes(&packed, &mut found).unwrap();
    assert_eq!(found, codes[..]);
}

#[test]
fn ptq1_0_decodes_any_byte() {
    let packed: Vec<u8> = residues(26).chain([0x00, 0x2c]).collect();
    let mut codes = [0; 128];
    Format::Ptq1_0.decode_codes(&packed, &mut codes).unwrap();
    let signs: String = codes
        .map(|c| ['-', '0', '+'][(c + 1) as usize])
        .iter()
        .collect();
    assert_eq!(
        signs,
        "---00++--000++---0+0+-+-0-0+-+-00++-0+-0+-0++-0+--++++000---++++\
         0-+0--+0-+0-++0-000++--0-0+0+-+--0+-0+--000----++0-+0--+000+0+++"
    );
    assert_eq!(moments(&codes), (0, 166));
    let mut scale = [0.0];
    Format::Ptq1_0.block_scales(&packed, &mut scale).unwrap();
    assert_eq!(scale, [0.0625]);
}

fn ramp() -> Vec<f32> {
    (0..32).map(|j| (j - 13) as f32 / 4.0).collect()
}

#[test]
fn q8_0() {
    let packed = bytes(Q8_0);
    let mut out = [0; 34];
    Format::Q8_0.encode_row(&ramp(), 0.0, &mut out).unwrap();
    assert_eq!(out, packed[..]);
    let mut values = [0.0; 32];
    Format::Q8_0.decode_row(&packed, 0.0, &mut values).unwrap();
    assert_eq!((values[0], values[31]), (-3.259_643_6, 4.499_725_3));
}

#[test]
fn q4_0() {
    let packed = bytes(Q4_0);
    let mut out = [0; 18];
    Format::Q4_0.encode_row(&ramp(), 0.0, &mut out).unwrap();
    assert_eq!(out, packed[..]);
    let mut values = [0.0; 32];
    Format::Q4_0.decode_row(&packed, 0.0, &mut values).unwrap();
    assert_eq!(values[..4], [-3.375, -2.8125, -2.8125, -2.25]);
    assert_eq!(values[28..], [3.9375, 3.9375, 4.5, 4.5]);
}

#[test]
fn q4_k() {
    let mut packed: Vec<u8> = (0..144).map(|i| (37 * i + 11) as u8).collect();
    packed[..4].copy_from_slice(&[0x00, 0x2c, 0x00, 0x34]);
    let mut values = vec![0.0; 256];
    Format::Q4K.decode_row(&packed, 0.0, &mut values).unwrap();
    for (index, expected) in [
        (0, 8.5625),
        (1, -12.75),
        (31, -1.125),
        (32, -4.75),
        (63, -2.75),
        (64, 12.9375),
        (96, 4.625),
        (127, -2.375),
        (128, 23.8125),
        (129, -3.0),
        (160, 26.25),
        (192, 29.4375),
        (223, 14.125),
        (224, -7.625),
        (255, -4.625),
    ] {
        assert_eq!(values[index], expected, "{index}");
    }
    assert_eq!(values.iter().sum::<f32>(), 1554.5);
    assert_eq!(values.iter().map(|v| v.abs()).sum::<f32>(), 2871.75);
}

#[test]
fn q6_k() {
    let mut packed: Vec<u8> = (0..208).map(|i| (37 * i + 11) as u8).collect();
    packed.extend([0x00, 0x2c]);
    let mut values = vec![0.0; 256];
    Format::Q6K.decode_row(&packed, 0.0, &mut values).unwrap();
    for (index, value) in [
        (0, -89.4375),
        (1, 106.0),
        (15, -19.875),
        (16, -27.0),
        (31, -6.0),
        (32, 14.4375),
        (63, -36.25),
        (64, -190.0),
        (95, 186.0),
        (96, -54.375),
        (127, 93.75),
        (128, -21.9375),
        (160, 41.9375),
        (200, 68.0625),
        (255, -3.75),
    ] {
        assert_eq!(values[index], value, "element {index}");
    }
    assert_eq!(values.iter().sum::<f32>(), 288.25);
    assert_eq!(values.iter().map(|v| v.abs()).sum::<f32>(), 16656.375);
}

#[test]
fn hf_packed_rows() {
    let codes = pattern(32);
    let packed = hf_packed::pack(&codes, 8, 4).unwrap();
    assert_eq!(packed, [80, 37, 66, 148, 9, 80, 37, 66]);
    let mut found = [0; 32];
    hf_packed::unpack(&packed, 8, 4, &mut found).unwrap();
    assert_eq!(found, codes[..]);
}

#[test]
fn absmean_rounds_ties_to_even() {
    let weights = [2.0, -1.0, 0.5, -0.5, 0.0, 0.25, -1.5, 2.25];
    let mut codes = [9; 8];
    assert_eq!(quantize_absmean(&weights, &mut codes), Ok(1.0));
    assert_eq!(codes, [1, -1, 0, 0, 0, 0, -1, 1]);
}

#[test]
fn absmax_rounds_ties_to_even() {
    let x = [127.0, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 10.0];
    let mut q = [0; 8];
    assert_eq!(quantize_absmax_i8(&x, &mut q), Ok(1.0));
    assert_eq!(q, [127, -2, -2, 0, 0, 2, 2, 10]);
}

#[test]
fn product_of_quantized_operands() {
    let x = [0.5, -1.0, 0.25, 0.125, -0.75, 2.0, -2.0, 1.0];
    let mut q = [0; 8];
    let s = quantize_absmax_i8(&x, &mut q).unwrap();
    assert_eq!(s, 63.5);
    assert_eq!(q, [32, -64, 16, 8, -48, 127, -127, 64]);
    let sums: Vec<i32> = pattern(32)
        .chunks(8)
        .map(|row| {
            row.iter()
                .zip(q)
                .map(|(&t, q)| i32::from(t) * i32::from(q))
                .sum()
        })
        .collect();
    assert_eq!(sums, [-87, -287, -223, 247]);
    for (meaning, expected) in [
        (
            WeightScale::Multiply,
            [-2.055_118, -6.779_528, -5.267_716, 5.834_646],
        ),
        (
            WeightScale::Divide,
            [-0.913_386, -3.013_123, -2.341_207, 2.593_176],
        ),
    ] {
        let factor = meaning.factor(1.5).unwrap();
        for (&sum, expected) in sums.iter().zip(expected) {
            let y: f32 = sum as f32 / s * factor;
            assert!((y - expected).abs() < 2e-6, "{y} for {expected}");
        }
    }
}
