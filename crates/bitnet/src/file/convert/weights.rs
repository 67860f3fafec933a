//! Tensors on their way from one file to another: a ternary matrix is read as codes and scales, whatever stores it.

use bitnet_quant::hf_packed;
use bitnet_quant::{AbsMean, Format, QuantError, TernaryScale, ternarize};
use rayon::prelude::*;

use crate::file::{Bytes, GgmlType};
use crate::{Error, Result};

/// Elements that share a scale in TQ1_0 and TQ2_0.
pub(super) const BLOCK: usize = 256;
/// About how many bytes are made before they are written.
const PIECE: usize = 8 << 20;

/// A tensor, named as in GGUF.
pub(super) struct Tensor {
    pub(super) name: String,
    /// What the input calls it.
    pub(super) source: String,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Elements along each dimension as GGUF states them, fastest first.
    pub(super) ne: Vec<u64>,
    pub(super) content: Content,
    pub(super) order: RowOrder,
}

/// How a tensor is stored in the input.
pub(super) enum Content {
    /// Numbers that are carried as they are.
    Plain { format: Format, data: Bytes },
    /// Bytes of a type that is not understood, carried as they are.
    Opaque { kind: GgmlType, data: Bytes },
    /// A ternary matrix.
    Ternary(Ternary),
}

/// A ternary matrix of the input.
pub(super) enum Ternary {
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

/// Which row of the input becomes which row of the output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RowOrder {
    /// The same.
    Same,
    /// Rotary pairs that lie half a head apart come to lie side by side, in heads of this many rows.
    Interleave(usize),
    /// The other way round.
    Separate(usize),
}

impl RowOrder {
    /// The row of the input that becomes row `row` of the output.
    pub(super) fn source(self, row: usize) -> usize {
        match self {
            Self::Same => row,
            Self::Interleave(head) => {
                let (start, at) = (row / head * head, row % head);
                start + at % 2 * (head / 2) + at / 2
            }
            Self::Separate(head) => {
                let (start, at) = (row / head * head, row % head);
                start + at % (head / 2) * 2 + at / (head / 2)
            }
        }
    }
}

impl Ternary {
    /// A matrix of floating-point numbers. If they are ternary already their one magnitude is the scale, for absmean
    /// would shrink them; if not, and if `quantize` allows it, the mean magnitude is. `factor` multiplies either.
    ///
    /// Also tells whether the numbers were rounded.
    pub(super) fn of_floats(
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
            mean.add(&values);
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
}

impl Tensor {
    /// An error about this tensor in `file`.
    fn wrong(&self, file: &str, error: QuantError) -> Error {
        Error::tensor(
            file,
            &self.source,
            "ternary weights that can be kept",
            error,
        )
    }

    /// The bytes of row `row` of `data`.
    fn row<'a>(&self, format: Format, data: &'a Bytes, row: usize) -> Result<&'a [u8], QuantError> {
        let bytes = format.row_bytes(self.cols)?;
        data.get(row * bytes..(row + 1) * bytes)
            .ok_or(QuantError::Length {
                what: "matrix",
                format,
                expected: self.rows * bytes,
                found: data.len(),
            })
    }

    /// The codes of output row `row`, and a scale for every block of [`BLOCK`] of them (the last may be shorter); 0 for
    /// blocks without a code other than 0.
    fn codes(
        &self,
        ternary: &Ternary,
        row: usize,
        codes: &mut [i8],
        scales: &mut [f32],
    ) -> Result<(), QuantError> {
        let row = self.order.source(row);
        match ternary {
            Ternary::Scaled {
                format,
                data,
                scale,
            } => {
                format.decode_codes(self.row(*format, data, row)?, codes)?;
                scales.fill(*scale);
            }
            Ternary::Packed { data, scale } => {
                hf_packed::unpack_row(data, self.rows, self.cols, row, codes)?;
                scales.fill(*scale);
            }
            Ternary::Floats {
                format,
                data,
                threshold,
                scale,
            } => {
                if *threshold == 0.0 {
                    codes.fill(0);
                } else {
                    let mut values = vec![0.0; self.cols];
                    format.decode_row(self.row(*format, data, row)?, 1.0, &mut values)?;
                    ternarize(&values, *threshold, codes)?;
                }
                scales.fill(*scale);
            }
            Ternary::Blocks { format, data } => {
                let bytes = self.row(*format, data, row)?;
                format.decode_codes(bytes, codes)?;
                let mut of_blocks = vec![0.0; self.cols / format.block_len()];
                format.block_scales(bytes, &mut of_blocks)?;
                join_scales(*format, codes, &of_blocks, scales)?;
            }
        }
        if let Some(scale) = scales.iter().find(|scale| !scale.is_finite()) {
            return Err(QuantError::Value {
                what: "scale",
                format: ternary.format(),
                value: f64::from(*scale),
            });
        }
        if let Some(index) = codes.iter().position(|code| !(-1..=1).contains(code)) {
            return Err(QuantError::NotTernary {
                format: ternary.format(),
                index: row * self.cols + index,
            });
        }
        for (scale, codes) in scales.iter_mut().zip(codes.chunks(BLOCK)) {
            if codes.iter().all(|code| *code == 0) {
                *scale = 0.0;
            }
        }
        Ok(())
    }

    /// The one scale of a matrix, 0 if every element is.
    ///
    /// # Errors
    /// [`Error::Tensor`] if blocks have different scales, or the codes are none.
    pub(super) fn one_scale(&self, file: &str, ternary: &Ternary) -> Result<f32> {
        match ternary {
            Ternary::Scaled { scale, .. }
            | Ternary::Packed { scale, .. }
            | Ternary::Floats { scale, .. } => Ok(*scale),
            Ternary::Blocks { .. } => {
                let (least, most) = self
                    .scale_range(ternary)
                    .map_err(|error| self.wrong(file, error))?;
                if least < most {
                    return Err(Error::tensor(
                        file,
                        &self.source,
                        "one scale for the whole matrix, as the output type has",
                        format_args!(
                            "blocks of scale {least} to {most}; tq1_0 and tq2_0 can keep them"
                        ),
                    ));
                }
                Ok(if most.is_finite() { most } else { 0.0 })
            }
        }
    }

    /// The least and the greatest scale of a block that is not all 0; infinities the wrong way round if all are.
    fn scale_range(&self, ternary: &Ternary) -> Result<(f32, f32), QuantError> {
        const NONE: (f32, f32) = (f32::INFINITY, f32::NEG_INFINITY);
        (0..self.rows)
            .into_par_iter()
            .map_init(
                || (vec![0i8; self.cols], vec![0f32; self.cols.div_ceil(BLOCK)]),
                |(codes, scales), row| {
                    self.codes(ternary, row, codes, scales)?;
                    let scales = scales.iter().filter(|scale| **scale != 0.0);
                    Ok(scales.fold(NONE, |(least, most), scale| {
                        (least.min(*scale), most.max(*scale))
                    }))
                },
            )
            .try_reduce(|| NONE, |a, b| Ok((a.0.min(b.0), a.1.max(b.1))))
    }

    /// Encodes the matrix as rows of `format`, in pieces that `write` gets in order. Returns the largest relative error
    /// that rounding a scale to f16 made.
    pub(super) fn encode(
        &self,
        file: &str,
        ternary: &Ternary,
        format: Format,
        mut write: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<f64> {
        let row_bytes = format.row_bytes(self.cols)?;
        let at_once = (PIECE / row_bytes).max(1);
        let mut piece = Vec::new();
        let mut error = 0.0f64;
        for first in (0..self.rows).step_by(at_once) {
            piece.resize(at_once.min(self.rows - first) * row_bytes, 0);
            let worst = piece
                .par_chunks_mut(row_bytes)
                .enumerate()
                .map_init(
                    || (vec![0i8; self.cols], vec![0f32; self.cols.div_ceil(BLOCK)]),
                    |(codes, scales), (row, out)| {
                        self.codes(ternary, first + row, codes, scales)?;
                        format.encode_codes(
                            codes,
                            if format.block_len() == BLOCK {
                                scales
                            } else {
                                &[]
                            },
                            out,
                        )?;
                        Ok(scales
                            .iter()
                            .map(|scale| f16_error(*scale))
                            .fold(0.0, f64::max))
                    },
                )
                .try_reduce(|| 0.0, |a, b| Ok(f64::max(a, b)))
                .map_err(|error| self.wrong(file, error))?;
            error = error.max(worst);
            write(&piece)?;
        }
        Ok(if matches!(format, Format::I2s(_)) {
            0.0
        } else {
            error
        })
    }

    /// The codes of the whole matrix, packed four rows to a byte row.
    pub(super) fn pack(&self, file: &str, ternary: &Ternary) -> Result<Vec<u8>> {
        let mut codes = vec![0i8; self.rows * self.cols];
        codes
            .par_chunks_mut(self.cols)
            .enumerate()
            .try_for_each_init(
                || vec![0f32; self.cols.div_ceil(BLOCK)],
                |scales, (row, codes)| self.codes(ternary, row, codes, scales),
            )
            .and_then(|()| hf_packed::pack(&codes, self.rows, self.cols))
            .map_err(|error| self.wrong(file, error))
    }

    /// The rows of a matrix that is carried as it is, in the output's order.
    pub(super) fn plain(
        &self,
        format: Format,
        data: &Bytes,
        mut write: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        if self.order == RowOrder::Same {
            return write(data);
        }
        self.plain_rows(format, data, write)
    }

    /// As [`Tensor::plain`], row by row.
    pub(super) fn plain_rows(
        &self,
        format: Format,
        data: &Bytes,
        mut write: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        for row in 0..self.rows {
            write(self.row(format, data, self.order.source(row))?)?;
        }
        Ok(())
    }
}

impl Ternary {
    fn format(&self) -> Format {
        match self {
            Self::Scaled { format, .. }
            | Self::Blocks { format, .. }
            | Self::Floats { format, .. } => *format,
            Self::Packed { .. } => Format::I2s(bitnet_quant::I2sLayout::A),
        }
    }
}

/// One scale for every [`BLOCK`] elements, from the scales of smaller or equal blocks. Blocks of nothing but 0 have no
/// say.
fn join_scales(
    format: Format,
    codes: &[i8],
    of_blocks: &[f32],
    scales: &mut [f32],
) -> Result<(), QuantError> {
    let len = format.block_len();
    for (index, (scale, codes)) in scales.iter_mut().zip(codes.chunks(BLOCK)).enumerate() {
        *scale = 0.0;
        let first = index * BLOCK / len;
        for (block, codes) in codes.chunks(len).enumerate() {
            let of_block = of_blocks.get(first + block).copied().unwrap_or_default();
            if codes.iter().all(|code| *code == 0) || of_block == 0.0 {
                continue;
            }
            if *scale != 0.0 && *scale != of_block {
                return Err(QuantError::Value {
                    what: "second scale within 256 elements",
                    format,
                    value: f64::from(of_block),
                });
            }
            *scale = of_block;
        }
    }
    Ok(())
}

/// The relative error of a scale rounded to f16.
fn f16_error(scale: f32) -> f64 {
    if scale == 0.0 {
        return 0.0;
    }
    let rounded = half::f16::from_f32(scale).to_f64();
    ((rounded - f64::from(scale)) / f64::from(scale)).abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_orders_undo_each_other() {
        let order: Vec<usize> = (0..8)
            .map(|row| RowOrder::Interleave(8).source(row))
            .collect();
        assert_eq!(order, [0, 4, 1, 5, 2, 6, 3, 7]);
        for row in 0..24 {
            let there = RowOrder::Interleave(8).source(row);
            assert_eq!(RowOrder::Separate(8).source(there), row);
            assert_eq!(there / 8, row / 8);
        }
    }

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
        let tensor = Tensor {
            name: "w".into(),
            source: "w".into(),
            rows: 2,
            cols: 4,
            ne: vec![4, 2],
            content: Content::Plain {
                format: Format::F32,
                data: Bytes::new(),
            },
            order: RowOrder::Same,
        };
        let (mut codes, mut scales) = ([0; 4], [0.0]);
        tensor.codes(&ternary, 0, &mut codes, &mut scales).unwrap();
        assert_eq!((codes, scales), ([1, -1, 0, 0], [1.0]));
        tensor.codes(&ternary, 1, &mut codes, &mut scales).unwrap();
        assert_eq!(codes, [0, 0, -1, 1]);
    }

    #[test]
    fn smaller_blocks_must_agree() {
        let mut codes = [0i8; 256];
        codes[3] = 1;
        codes[200] = -1;
        let mut scale = [9.0];
        join_scales(Format::Q2_0, &codes, &[0.5, 0.25, 0.125, 0.5], &mut scale).unwrap();
        assert_eq!(scale, [0.5]);
        assert!(join_scales(Format::Q2_0, &codes, &[0.5, 0.0, 0.0, 0.25], &mut scale).is_err());
    }
}
