//! Integer quantization of real matrices to 2, 4 or 8 bits.
//!
//! Every value `x` of a share of the matrix (all of it, a row, or a group of a row) becomes a code of 0 to 2ᵇ − 1 and
//! stands for `(code − zero)·scale`:
//!
//! | | scale | zero |
//! |---|---|---|
//! | [symmetric](Symmetry::Symmetric) | largest magnitude / (2ᵇ⁻¹ − 1) | 2ᵇ⁻¹, so that codes run from 1 |
//! | [asymmetric](Symmetry::Asymmetric) | (max − min) / (2ᵇ − 1), the range stretched to hold 0 | round(−min / scale) |
//!
//! Either way 0 stays 0. Codes are packed lowest bits first, 4 or 2 to a byte, each row starting with a fresh byte.

use crate::QuantError;

/// Bits of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bits {
    /// Four codes in a byte.
    Two,
    /// Two codes in a byte.
    Four,
    /// One code in a byte.
    Eight,
}

impl Bits {
    /// The number of bits: 2, 4 or 8.
    pub const fn count(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// The largest code, 2ᵇ − 1.
    const fn largest(self) -> u8 {
        u8::MAX >> (8 - self.count())
    }

    /// Codes in a byte.
    const fn per_byte(self) -> usize {
        8 / self.count()
    }
}

impl TryFrom<u32> for Bits {
    type Error = QuantError;

    fn try_from(count: u32) -> Result<Self, QuantError> {
        match count {
            2 => Ok(Self::Two),
            4 => Ok(Self::Four),
            8 => Ok(Self::Eight),
            _ => Err(QuantError::Number {
                what: "number of bits (2, 4 or 8)",
                value: f64::from(count),
            }),
        }
    }
}

/// Whether the codes reach equally far to both sides of zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Symmetry {
    /// As far below zero as above.
    Symmetric,
    /// From the least value to the greatest.
    Asymmetric,
}

/// Which elements share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Granularity {
    /// The whole matrix.
    Tensor,
    /// A row: one output channel.
    Channel,
    /// This many neighbours in a row; the last group of a row may be shorter.
    Group(usize),
}

/// How to quantize a matrix to integers.
///
/// ```
/// use bitnet_quant::{Bits, ErrorMetrics, Granularity, IntQuantizer, Symmetry};
/// # fn main() -> Result<(), bitnet_quant::QuantError> {
/// let quantizer = IntQuantizer {
///     bits: Bits::Four,
///     symmetry: Symmetry::Asymmetric,
///     granularity: Granularity::Channel,
/// };
/// let values = [0.0, 0.5, 1.0, 1.5, -4.0, -2.0, 0.0, 3.5];
/// let quantized = quantizer.quantize(&values, 2, 4)?;
/// assert_eq!(quantized.packed().len(), 4);
/// let error = ErrorMetrics::between(&values, &quantized.dequantize())?;
/// assert!(error.max_error <= 0.25 && error.cosine > 0.99);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IntQuantizer {
    /// Bits of a code.
    pub bits: Bits,
    /// Whether zero is in the middle.
    pub symmetry: Symmetry,
    /// Which elements share a scale.
    pub granularity: Granularity,
}

/// A matrix quantized to integers.
#[derive(Debug, Clone, PartialEq)]
pub struct IntQuantized {
    bits: Bits,
    rows: usize,
    cols: usize,
    /// Elements of a row that share a scale, at least 1.
    group: usize,
    /// Scale and zero of every share, row after row; a single one for the whole matrix.
    shares: Vec<Share>,
    packed: Vec<u8>,
}

/// What a code of one share of the matrix means.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Share {
    scale: f32,
    zero: u8,
}

impl IntQuantizer {
    /// Quantizes a matrix of `rows × cols`, row after row. A share of zeros (or of values too small for a scale) gets
    /// scale 0.
    ///
    /// # Errors
    /// [`QuantError::Shape`] if `values` is not `rows × cols`; [`QuantError::Number`] for a group of 0, a value that is
    /// NaN or infinite, or a range too wide for f32.
    pub fn quantize(
        &self,
        values: &[f32],
        rows: usize,
        cols: usize,
    ) -> Result<IntQuantized, QuantError> {
        if rows.checked_mul(cols) != Some(values.len()) {
            return Err(QuantError::Shape {
                what: "matrix",
                expected: rows.saturating_mul(cols),
                found: values.len(),
            });
        }
        let group = match self.granularity {
            Granularity::Group(0) => {
                return Err(QuantError::Number {
                    what: "group length",
                    value: 0.0,
                });
            }
            Granularity::Group(len) => len.min(cols.max(1)),
            Granularity::Tensor | Granularity::Channel => cols.max(1),
        };
        let mut quantized = IntQuantized {
            bits: self.bits,
            rows,
            cols,
            group,
            shares: Vec::new(),
            packed: Vec::new(),
        };
        let whole = match self.granularity {
            Granularity::Tensor => Some(self.share(values)?),
            Granularity::Channel | Granularity::Group(_) => None,
        };
        quantized.shares.extend(whole);
        let mut codes = Vec::with_capacity(cols);
        for row in values.chunks_exact(cols.max(1)) {
            codes.clear();
            for group in row.chunks(group) {
                let share = match whole {
                    Some(share) => share,
                    None => {
                        let share = self.share(group)?;
                        quantized.shares.push(share);
                        share
                    }
                };
                codes.extend(group.iter().map(|&x| self.code(share, x)));
            }
            quantized.pack_row(&codes);
        }
        Ok(quantized)
    }

    /// Finds scale and zero for values that share them.
    fn share(&self, values: &[f32]) -> Result<Share, QuantError> {
        if let Some(&value) = values.iter().find(|v| !v.is_finite()) {
            return Err(QuantError::Number {
                what: "value to quantize",
                value: f64::from(value),
            });
        }
        let least = f64::from(values.iter().copied().fold(0.0, f32::min));
        let most = f64::from(values.iter().copied().fold(0.0, f32::max));
        let (lowest, highest) = self.code_range();
        let (scale, zero) = match self.symmetry {
            Symmetry::Symmetric => {
                let zero = highest / 2 + 1;
                (most.max(-least) / f64::from(highest - zero), zero)
            }
            Symmetry::Asymmetric => {
                let scale = (most - least) / f64::from(highest);
                let zero = (-least / scale).round_ties_even() as u8; // 0 for 0 / 0
                (scale, zero.min(highest))
            }
        };
        let scale = scale as f32;
        let reach = scale * f32::from((highest - zero).max(zero - lowest));
        if !reach.is_finite() {
            return Err(QuantError::Number {
                what: "range of the values to quantize",
                value: most - least,
            });
        }
        Ok(Share { scale, zero })
    }

    /// The codes a value may get, from the least to the greatest.
    fn code_range(&self) -> (u8, u8) {
        let lowest = match self.symmetry {
            Symmetry::Symmetric => 1,
            Symmetry::Asymmetric => 0,
        };
        (lowest, self.bits.largest())
    }

    fn code(&self, share: Share, value: f32) -> u8 {
        if share.scale == 0.0 {
            return share.zero;
        }
        let (lowest, highest) = self.code_range();
        let steps = (f64::from(value) / f64::from(share.scale)).round_ties_even();
        let code = steps + f64::from(share.zero);
        code.clamp(f64::from(lowest), f64::from(highest)) as u8
    }
}

impl Share {
    fn value(self, code: u8) -> f32 {
        f32::from(i16::from(code) - i16::from(self.zero)) * self.scale
    }
}

impl IntQuantized {
    /// Rows of the matrix.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the matrix.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bits of a code.
    pub fn bits(&self) -> Bits {
        self.bits
    }

    /// The codes, `ceil(cols·bits / 8)` bytes to a row.
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// The scales, row after row and group after group.
    pub fn scales(&self) -> impl ExactSizeIterator<Item = f32> + '_ {
        self.shares.iter().map(|share| share.scale)
    }

    /// The codes that stand for 0, one for each scale.
    pub fn zeros(&self) -> impl ExactSizeIterator<Item = u8> + '_ {
        self.shares.iter().map(|share| share.zero)
    }

    /// The values the codes stand for, `rows × cols`, row after row.
    pub fn dequantize(&self) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.rows * self.cols);
        let row_bytes = self.cols.div_ceil(self.bits.per_byte());
        let groups = self.cols.div_ceil(self.group);
        for (row, bytes) in self.packed.chunks_exact(row_bytes.max(1)).enumerate() {
            let codes = bytes.iter().flat_map(|&byte| {
                (0..self.bits.per_byte())
                    .map(move |i| (byte >> (i * self.bits.count())) & self.bits.largest())
            });
            for (col, code) in codes.take(self.cols).enumerate() {
                let share = match self.shares[..] {
                    [whole] => whole,
                    _ => self.shares[row * groups + col / self.group],
                };
                values.push(share.value(code));
            }
        }
        values
    }

    fn pack_row(&mut self, codes: &[u8]) {
        let bits = self.bits.count();
        let byte = |codes: &[u8]| {
            let fields = codes.iter().enumerate();
            fields.fold(0, |byte, (i, code)| byte | code << (i * bits))
        };
        let row = codes.chunks(self.bits.per_byte()).map(byte);
        self.packed.extend(row);
    }
}
