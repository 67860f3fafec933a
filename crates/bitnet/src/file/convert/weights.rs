//! Tensors on their way from one file to another.

use bitnet_quant::{ErrorSums, Format, QuantError, hf_packed};
use rayon::prelude::*;

use crate::file::ternary::{BLOCK, Ternary, row_of};
use crate::file::{Bytes, GgmlType};
use crate::{Error, Result};

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
    /// Whether its content is ternary now and was not before.
    pub(super) rounded: bool,
}

/// The errors that rounding made.
#[derive(Default)]
pub(super) struct Loss {
    /// The largest relative error that rounding a scale to f16 made.
    pub(super) scale: f64,
    /// Of a matrix that was rounded.
    pub(super) sums: ErrorSums,
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

    /// The codes and scales of output row `row`, as [`Ternary::codes`] has them.
    fn codes(
        &self,
        ternary: &Ternary,
        row: usize,
        block: usize,
        codes: &mut [i8],
        scales: &mut [f32],
    ) -> Result<(), QuantError> {
        let row = self.order.source(row);
        ternary.codes((self.rows, self.cols), row, block, codes, scales)
    }

    /// The one scale of a matrix, 0 if every element is.
    ///
    /// # Errors
    /// [`Error::Tensor`] if blocks have different scales, or the codes are none.
    pub(super) fn one_scale(&self, file: &str, ternary: &Ternary) -> Result<f32> {
        if let Some(scale) = ternary.whole_scale() {
            return Ok(scale);
        }
        let (least, most) = self
            .scale_range(ternary)
            .map_err(|error| self.wrong(file, error))?;
        if least < most {
            return Err(Error::tensor(
                file,
                &self.source,
                "one scale for the whole matrix, as the output type has",
                format_args!(
                    "blocks of scale {least} to {most}; tq1_0, tq2_0, ptq1_0 and pq2_0 can keep them"
                ),
            ));
        }
        Ok(if most.is_finite() { most } else { 0.0 })
    }

    /// The least and the greatest scale of a block that is not all 0; infinities the wrong way round if all are.
    fn scale_range(&self, ternary: &Ternary) -> Result<(f32, f32), QuantError> {
        const NONE: (f32, f32) = (f32::INFINITY, f32::NEG_INFINITY);
        (0..self.rows)
            .into_par_iter()
            .map_init(
                || (vec![0i8; self.cols], vec![0f32; self.cols.div_ceil(BLOCK)]),
                |(codes, scales), row| {
                    self.codes(ternary, row, BLOCK, codes, scales)?;
                    let scales = scales.iter().filter(|scale| **scale != 0.0);
                    Ok(scales.fold(NONE, |(least, most), scale| {
                        (least.min(*scale), most.max(*scale))
                    }))
                },
            )
            .try_reduce(|| NONE, |a, b| Ok((a.0.min(b.0), a.1.max(b.1))))
    }

    /// Encodes the matrix as rows of `format`, in pieces that `write` gets in order.
    pub(super) fn encode(
        &self,
        file: &str,
        ternary: &Ternary,
        format: Format,
        mut write: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Loss> {
        let row_bytes = format.row_bytes(self.cols)?;
        let at_once = (PIECE / row_bytes).max(1);
        let single = matches!(format, Format::I2s(_));
        let block = if single { BLOCK } else { format.block_len() };
        let mut piece = Vec::new();
        let mut loss = Loss::default();
        for first in (0..self.rows).step_by(at_once) {
            piece.resize(at_once.min(self.rows - first) * row_bytes, 0);
            let losses: Vec<Loss> = piece
                .par_chunks_mut(row_bytes)
                .enumerate()
                .map_init(
                    || (vec![0i8; self.cols], vec![0f32; self.cols.div_ceil(block)]),
                    |(codes, scales), (row, out)| {
                        self.codes(ternary, first + row, block, codes, scales)?;
                        if single {
                            format.encode_codes(codes, &[], out)?;
                            return self.loss(ternary, first + row, block, codes, scales);
                        }
                        format.encode_codes(codes, scales, out)?;
                        let errors = scales.iter().map(|scale| f16_error(*scale));
                        let scale = errors.fold(0.0, f64::max);
                        // The error is that of the scales that the file has.
                        for scale in scales.iter_mut() {
                            *scale = half::f16::from_f32(*scale).to_f32();
                        }
                        let loss = self.loss(ternary, first + row, block, codes, scales)?;
                        Ok(Loss { scale, ..loss })
                    },
                )
                .collect::<Result<_, QuantError>>()
                .map_err(|error| self.wrong(file, error))?;
            losses.iter().for_each(|row| loss.add(row));
            write(&piece)?;
        }
        Ok(loss)
    }

    /// How far output row `row` is from the numbers that were rounded to it, if it was.
    fn loss(
        &self,
        ternary: &Ternary,
        row: usize,
        block: usize,
        codes: &[i8],
        scales: &[f32],
    ) -> Result<Loss, QuantError> {
        if !self.rounded {
            return Ok(Loss::default());
        }
        let shape = (self.rows, self.cols);
        let row = self.order.source(row);
        let sums = ternary.errors(shape, row, block, codes, scales)?;
        Ok(Loss {
            scale: 0.0,
            sums: sums.unwrap_or_default(),
        })
    }

    /// The codes of the whole matrix, packed four rows to a byte row.
    pub(super) fn pack(&self, file: &str, ternary: &Ternary) -> Result<(Vec<u8>, Loss)> {
        let mut codes = vec![0i8; self.rows * self.cols];
        let losses: Result<Vec<Loss>, QuantError> = codes
            .par_chunks_mut(self.cols)
            .enumerate()
            .map_init(
                || vec![0f32; self.cols.div_ceil(BLOCK)],
                |scales, (row, codes)| {
                    self.codes(ternary, row, BLOCK, codes, scales)?;
                    self.loss(ternary, row, BLOCK, codes, scales)
                },
            )
            .collect();
        let packed = losses.and_then(|losses| {
            let mut loss = Loss::default();
            losses.iter().for_each(|row| loss.add(row));
            Ok((hf_packed::pack(&codes, self.rows, self.cols)?, loss))
        });
        packed.map_err(|error| self.wrong(file, error))
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
            let row = self.order.source(row);
            write(row_of(format, data, (self.rows, self.cols), row)?)?;
        }
        Ok(())
    }
}

impl Loss {
    /// Adds that of further rows.
    fn add(&mut self, other: &Self) {
        self.scale = self.scale.max(other.scale);
        self.sums.merge(&other.sums);
    }
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
}
