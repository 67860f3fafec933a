//! Ternary matrices as files hold them: codes and scales of a row, whatever stores them.

use bitnet_quant::{AbsMean, Format, I2sLayout, QuantError, TernaryScale, hf_packed, ternarize};

use super::Bytes;

/// Elements of a block where whoever asks does not mind.
pub(crate) const BLOCK: usize = 256;

/// A ternary matrix in a file; its shape is known elsewhere.
pub(crate) enum Ternary {
    /// Rows of a format without scales of its own: I2_S.
    Scaled {
        format: Format,
        data: Bytes,
        scale: f32,
    },
    /// Rows whose blocks carry scales.
    Blocks { format: Format, data: Bytes },
    /// Four rows to a byte row.
    Packed { data: Bytes, scale: f32 },
    /// Floating-point rows that are `code · threshold` once rounded; `scale` is what the codes then stand for.
    Floats {
        format: Format,
        data: Bytes,
        threshold: f32,
        scale: f32,
    },
}

impl Ternary {
    /// A matrix of floating-point numbers. If they are ternary already their one magnitude is the scale, for absmean
    /// would shrink them; if not, and if `quantize` allows it, the mean magnitude is. `factor` multiplies either.
    ///
    /// Also tells whether the numbers were rounded.
    pub(crate) fn of_floats(
        format: Format,
        data: Bytes,
        cols: usize,
        factor: f32,
        quantize: bool,
    ) -> Result<Option<(Self, bool)>, QuantError> {
        let row_bytes = format.row_bytes(cols)?;
        let mut values = vec![0.0; cols];
        let mut ternary = TernaryScale::new();
        let mut mean = AbsMean::new();
        for row in data.chunks_exact(row_bytes) {
            format.decode_row(row, 1.0, &mut values)?;
            ternary.add(&values);
            if quantize {
                mean.add(&values);
            } else if ternary.scale().is_none() {
                return Ok(None);
            }
        }
        let (threshold, rounded) = match ternary.scale() {
            Some(scale) => (scale, false),
            None if quantize => (mean.scale()?, true),
            None => return Ok(None),
        };
        let floats = Self::Floats {
            format,
            data,
            threshold,
            scale: threshold * factor,
        };
        Ok(Some((floats, rounded)))
    }

    /// The codes of row `row` of a matrix of `rows × cols`, and a scale for every `block` of them, a power of two (the last
    /// block may be shorter); 0 for blocks without a code other than 0.
    pub(crate) fn codes(
        &self,
        (rows, cols): (usize, usize),
        row: usize,
        block: usize,
        codes: &mut [i8],
        scales: &mut [f32],
    ) -> Result<(), QuantError> {
        let shape = (rows, cols);
        match self {
            Self::Scaled {
                format,
                data,
                scale,
            } => {
                format.decode_codes(row_of(*format, data, shape, row)?, codes)?;
                scales.fill(*scale);
            }
            Self::Packed { data, scale } => {
                hf_packed::unpack_row(data, rows, cols, row, codes)?;
                scales.fill(*scale);
            }
            Self::Floats {
                format,
                data,
                threshold,
                scale,
            } => {
                if *threshold == 0.0 {
                    codes.fill(0);
                } else {
                    let mut values = vec![0.0; cols];
                    format.decode_row(row_of(*format, data, shape, row)?, 1.0, &mut values)?;
                    ternarize(&values, *threshold, codes)?;
                }
                scales.fill(*scale);
            }
            Self::Blocks { format, data } => {
                let bytes = row_of(*format, data, shape, row)?;
                format.decode_codes(bytes, codes)?;
                let mut of_blocks = vec![0.0; cols / format.block_len()];
                format.block_scales(bytes, &mut of_blocks)?;
                join_scales(*format, block, codes, &of_blocks, scales)?;
            }
        }
        if let Some(scale) = scales.iter().find(|scale| !scale.is_finite()) {
            return Err(QuantError::Value {
                what: "scale",
                format: self.format(),
                value: f64::from(*scale),
            });
        }
        if let Some(index) = codes.iter().position(|code| !(-1..=1).contains(code)) {
            return Err(QuantError::NotTernary {
                format: self.format(),
                index: row * cols + index,
            });
        }
        for (scale, codes) in scales.iter_mut().zip(codes.chunks(block)) {
            if codes.iter().all(|code| *code == 0) {
                *scale = 0.0;
            }
        }
        Ok(())
    }

    /// The scale of the whole matrix; `None` where every block has its own.
    pub(crate) fn whole_scale(&self) -> Option<f32> {
        match self {
            Self::Scaled { scale, .. }
            | Self::Packed { scale, .. }
            | Self::Floats { scale, .. } => Some(*scale),
            Self::Blocks { .. } => None,
        }
    }

    fn format(&self) -> Format {
        match self {
            Self::Scaled { format, .. }
            | Self::Blocks { format, .. }
            | Self::Floats { format, .. } => *format,
            Self::Packed { .. } => Format::I2s(I2sLayout::A),
        }
    }
}

/// The bytes of row `row` of `data`, a matrix of `rows × cols`.
pub(crate) fn row_of(
    format: Format,
    data: &Bytes,
    (rows, cols): (usize, usize),
    row: usize,
) -> Result<&[u8], QuantError> {
    let bytes = format.row_bytes(cols)?;
    data.get(row * bytes..(row + 1) * bytes)
        .ok_or(QuantError::Length {
            what: "matrix",
            format,
            expected: rows * bytes,
            found: data.len(),
        })
}

/// One scale for every `block` elements, from the scales of blocks of any power of two. Blocks of nothing but 0 have no say.
fn join_scales(
    format: Format,
    block: usize,
    codes: &[i8],
    of_blocks: &[f32],
    scales: &mut [f32],
) -> Result<(), QuantError> {
    let len = format.block_len();
    for (index, (scale, codes)) in scales.iter_mut().zip(codes.chunks(block)).enumerate() {
        *scale = 0.0;
        let first = index * block / len;
        for (part, codes) in codes.chunks(len).enumerate() {
            let of_block = of_blocks.get(first + part).copied().unwrap_or_default();
            if codes.iter().all(|code| *code == 0) || of_block == 0.0 {
                continue;
            }
            if *scale != 0.0 && *scale != of_block {
                return Err(QuantError::Value {
                    what: "second scale within a block of the output",
                    format,
                    value: f64::from(of_block),
                });
            }
            *scale = of_block;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ternary_floats_are_not_quantized_again() {
        let values = [0.5f32, -0.5, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0];
        let data: Bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let of = |data: &Bytes, quantize| {
            Ternary::of_floats(Format::F32, data.clone(), 4, 1.0, quantize).unwrap()
        };
        for quantize in [false, true] {
            let Some((Ternary::Floats { scale, .. }, false)) = of(&data, quantize) else {
                panic!("not taken as ternary")
            };
            assert_eq!(scale, 0.5);
        }
        let master: Bytes = [2.0f32, -1.0, 0.5, -0.5, 0.0, 0.25, -1.5, 2.25]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        assert!(of(&master, false).is_none());
        let Some((ternary, true)) = of(&master, true) else {
            panic!("not quantized")
        };
        let (mut codes, mut scales) = ([0; 4], [0.0]);
        ternary
            .codes((2, 4), 0, BLOCK, &mut codes, &mut scales)
            .unwrap();
        assert_eq!((codes, scales), ([1, -1, 0, 0], [1.0]));
        ternary
            .codes((2, 4), 1, BLOCK, &mut codes, &mut scales)
            .unwrap();
        assert_eq!(codes, [0, 0, -1, 1]);
    }

    #[test]
    fn smaller_blocks_must_agree() {
        let mut codes = [0i8; 256];
        codes[3] = 1;
        codes[200] = -1;
        let mut scale = [9.0];
        let join = |of_blocks: &[f32], block, scales: &mut [f32]| {
            join_scales(Format::Q2_0, block, &codes, of_blocks, scales)
        };
        join(&[0.5, 0.25, 0.125, 0.5], 256, &mut scale).unwrap();
        assert_eq!(scale, [0.5]);
        assert!(join(&[0.5, 0.0, 0.0, 0.25], 256, &mut scale).is_err());
        let mut two = [9.0; 2];
        join(&[0.5, 0.0, 0.0, 0.25], 128, &mut two).unwrap();
        assert_eq!(two, [0.5, 0.25]);
    }

    #[test]
    fn larger_blocks_are_divided() {
        let mut scales = [9.0; 4];
        let of_blocks = [0.5, 0.25];
        join_scales(Format::Tq1_0, 128, &[1; 512], &of_blocks, &mut scales).unwrap();
        assert_eq!(scales, [0.5, 0.5, 0.25, 0.25]);
    }
}
