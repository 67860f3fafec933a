//! Quantizing weights and activations, and the codecs of the packed formats.

use crate::comparison::{Comparison, Contender};
use crate::inputs;
use anyhow::Result;
use bitnet_quant::{
    Bits, Format, Granularity, I2sLayout, IntQuantizer, Symmetry, is_ternary, quantize_absmax_i8,
    quantize_absmean,
};

/// Numbers of one execution: 64 rows of 1024.
const ROWS: usize = 64;
const COLS: usize = 1024;
const LEN: usize = ROWS * COLS;

/// Formats a matrix can be encoded to and decoded from, ternary ones first.
const FORMATS: [Format; 9] = [
    Format::I2s(I2sLayout::A),
    Format::I2s(I2sLayout::B),
    Format::Tq1_0,
    Format::Tq2_0,
    Format::Q2_0,
    Format::F16,
    Format::Q8_0,
    Format::Q4_0,
    Format::Q6K,
];

/// Weights to ternary codes, activations to int8, and integer quantization of other widths.
pub fn quantizers() -> Vec<Comparison> {
    let comparison = |name: &str, contender| Comparison::new(name).elements(LEN).with(contender);
    let mut all = vec![
        comparison(
            "absmean_ternary",
            Contender::new("bitnet", || {
                let (x, mut codes) = (inputs::floats(LEN), vec![0; LEN]);
                Ok(move || quantize_absmean(&x, &mut codes))
            }),
        ),
        comparison(
            "absmax_int8_reference",
            Contender::new("bitnet", || {
                let (x, mut q) = (inputs::floats(LEN), vec![0; LEN]);
                Ok(move || {
                    let rows = x.chunks_exact(COLS).zip(q.chunks_exact_mut(COLS));
                    rows.map(|(x, q)| quantize_absmax_i8(x, q))
                        .collect::<Result<Vec<_>, _>>()
                })
            }),
        ),
        comparison(
            "is_ternary",
            Contender::new("bitnet", || {
                let x = ternary_weights();
                Ok(move || is_ternary(&x))
            }),
        ),
    ];
    for (bits, name) in [
        (Bits::Eight, "integer_8_bits"),
        (Bits::Four, "integer_4_bits"),
        (Bits::Two, "integer_2_bits"),
    ] {
        all.push(comparison(
            name,
            Contender::new("bitnet", move || {
                let x = inputs::floats(LEN);
                let quantizer = IntQuantizer {
                    bits,
                    symmetry: Symmetry::Symmetric,
                    granularity: Granularity::Channel,
                };
                Ok(move || quantizer.quantize(&x, ROWS, COLS))
            }),
        ));
    }
    all
}

/// Encoding and decoding rows of every format.
pub fn codecs() -> Vec<Comparison> {
    let mut all = Vec::new();
    for format in FORMATS {
        all.push(
            Comparison::new(format!("encode_{format}"))
                .elements(LEN)
                .with(Contender::new("bitnet", move || {
                    let (x, mut packed) = (ternary_weights(), vec![0; format.row_bytes(LEN)?]);
                    Ok(move || encode(format, &x, &mut packed))
                })),
        );
        all.push(
            Comparison::new(format!("decode_{format}"))
                .elements(LEN)
                .with(Contender::new("bitnet", move || {
                    let mut x = ternary_weights();
                    let mut packed = vec![0; format.row_bytes(LEN)?];
                    encode(format, &x, &mut packed)?;
                    Ok(move || {
                        let rows = packed.chunks_exact(packed.len() / ROWS);
                        rows.zip(x.chunks_exact_mut(COLS))
                            .try_for_each(|(row, x)| format.decode_row(row, 1.0, x))
                    })
                })),
        );
    }
    all
}

fn ternary_weights() -> Vec<f32> {
    inputs::ternary(LEN).into_iter().map(f32::from).collect()
}

fn encode(format: Format, x: &[f32], packed: &mut [u8]) -> Result<()> {
    let bytes = packed.len() / ROWS;
    for (x, row) in x.chunks_exact(COLS).zip(packed.chunks_exact_mut(bytes)) {
        format.encode_row(x, 1.0, row)?;
    }
    Ok(())
}
