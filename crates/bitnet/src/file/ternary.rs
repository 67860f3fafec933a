//! Ternary matrices as files hold them: codes and scales of a row, whatever stores them.

use bitnet_quant::{
    AbsMean, ErrorSums, Format, I2sLayout, LeastSquares, QuantError, TernaryScale, hf_packed,
    quantize_absmean, quantize_least_squares, ternarize,
};
use std::sync::Arc;

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
        rows: FloatRows,
        threshold: f32,
        scale: f32,
    },
    /// Floating-point rows that become ternary block by block as they are read, each block with the scale that fits it.
    Fitted { rows: FloatRows, fit: GroupFit },
}

named! {
    /// How floating-point weights that no training made ternary get codes and scales.
    ScaleRule, "scale rule" {
        /// The scale is the mean magnitude, and weights beyond half of it have a code other than 0: as BitNet training rounds.
        #[default]
        AbsMean = "absmean",
        /// Codes and scale have the least squared error.
        LeastSquares = "least-squares",
    }
}

impl ScaleRule {
    fn of_group(self) -> GroupFit {
        match self {
            Self::AbsMean => quantize_absmean,
            Self::LeastSquares => quantize_least_squares,
        }
    }
}

/// Makes codes of a group of numbers and returns their scale. A pointer, so that programs which convert nothing need not have it.
pub(crate) type GroupFit = fn(&[f32], &mut [i8]) -> Result<f32, QuantError>;

/// Changes a row before it is quantized; behind a pointer for the same reason.
pub(crate) type RowChange = Arc<dyn Fn(&mut [f32]) -> Result<(), QuantError> + Send + Sync>;

/// Rows of floating-point numbers.
pub(crate) struct FloatRows {
    pub(crate) format: Format,
    pub(crate) data: Bytes,
    pub(crate) change: Option<RowChange>,
}

impl FloatRows {
    /// Row `row` of a matrix of `rows × cols`.
    fn read(
        &self,
        shape: (usize, usize),
        row: usize,
        values: &mut [f32],
    ) -> Result<(), QuantError> {
        let bytes = row_of(self.format, &self.data, shape, row)?;
        self.format.decode_row(bytes, 1.0, values)?;
        match &self.change {
            Some(change) => change(values),
            None => Ok(()),
        }
    }
}

impl Ternary {
    /// A matrix of `rows × cols` floating-point numbers that no training made ternary: with a scale for each block if the output has
    /// them (`by_block`), else with one.
    pub(crate) fn fitted(
        rows: FloatRows,
        shape: (usize, usize),
        rule: ScaleRule,
        by_block: bool,
    ) -> Result<Self, QuantError> {
        if by_block {
            let fit = rule.of_group();
            return Ok(Self::Fitted { rows, fit });
        }
        let mut values = vec![0.0; shape.1];
        let mut each = |visit: &mut dyn FnMut(&[f32])| {
            (0..shape.0).try_for_each(|row| {
                rows.read(shape, row, &mut values)?;
                visit(&values);
                Ok(())
            })
        };
        let (threshold, scale) = match rule {
            ScaleRule::AbsMean => {
                let mut mean = AbsMean::new();
                each(&mut |values| mean.add(values))?;
                let scale = mean.scale()?;
                (scale, scale)
            }
            ScaleRule::LeastSquares => {
                let mut squares = LeastSquares::new();
                each(&mut |values| squares.add(values))?;
                let threshold = squares.scale()?;
                // The best scale of these codes is the mean magnitude of what they stand for.
                let (mut count, mut sum) = (0u64, 0.0f64);
                each(&mut |values| {
                    for value in values.iter().filter(|value| value.abs() > threshold / 2.0) {
                        count += 1;
                        sum += f64::from(value.abs());
                    }
                })?;
                (threshold, (sum / count.max(1) as f64) as f32)
            }
        };
        Ok(Self::Floats {
            rows,
            threshold,
            scale,
        })
    }

    /// How far the `codes` and `scales` of a row, one for every `block`, are from the numbers that were rounded to them; nothing for a
    /// matrix that was ternary before.
    pub(crate) fn errors(
        &self,
        shape: (usize, usize),
        row: usize,
        block: usize,
        codes: &[i8],
        scales: &[f32],
    ) -> Result<Option<ErrorSums>, QuantError> {
        let (Self::Floats { rows, .. } | Self::Fitted { rows, .. }) = self else {
            return Ok(None);
        };
        let mut values = vec![0.0; shape.1];
        rows.read(shape, row, &mut values)?;
        let mut sums = ErrorSums::default();
        let mut decoded = Vec::with_capacity(block);
        let blocks = values.chunks(block).zip(codes.chunks(block));
        for ((values, codes), scale) in blocks.zip(scales) {
            decoded.clear();
            decoded.extend(codes.iter().map(|code| f32::from(*code) * scale));
            sums.add(values, &decoded)?;
        }
        Ok(Some(sums))
    }

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
            rows: FloatRows {
                format,
                data,
                change: None,
            },
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
                rows,
                threshold,
                scale,
            } => {
                if *threshold == 0.0 {
                    codes.fill(0);
                } else {
                    let mut values = vec![0.0; cols];
                    rows.read(shape, row, &mut values)?;
                    ternarize(&values, *threshold, codes)?;
                }
                scales.fill(*scale);
            }
            Self::Fitted { rows, fit } => {
                let mut values = vec![0.0; cols];
                rows.read(shape, row, &mut values)?;
                let blocks = values.chunks(block).zip(codes.chunks_mut(block));
                for ((values, codes), scale) in blocks.zip(scales.iter_mut()) {
                    *scale = fit(values, codes)?;
                }
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
            Self::Blocks { .. } | Self::Fitted { .. } => None,
        }
    }

    fn format(&self) -> Format {
        match self {
            Self::Scaled { format, .. } | Self::Blocks { format, .. } => *format,
            Self::Floats { rows, .. } | Self::Fitted { rows, .. } => rows.format,
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
