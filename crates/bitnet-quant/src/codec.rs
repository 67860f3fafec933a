//! Rows in and out of every [`Format`]: checks the lengths once, then hands over to the format's codec.

use crate::i2_s::{LayoutA, LayoutB};
use crate::ptq1_0::Ptq1_0;
use crate::q2_0::{Q2_0, Q2_0Group128};
use crate::tq1_0::Tq1_0;
use crate::tq2_0::Tq2_0;
use crate::{Format, I2sLayout, QuantError};
use crate::{float, i2_s, q4_0, q4_k, q6_k, q8_0, ternary_block};

/// Calls a function of `ternary_block` with the codec of a format.
macro_rules! with_ternary {
    ($format:expr, $function:ident($($argument:expr),*), else $other:expr) => {
        match $format {
            Format::I2s(I2sLayout::A) => ternary_block::$function::<LayoutA, 128, 32>($($argument),*),
            Format::I2s(I2sLayout::B) => ternary_block::$function::<LayoutB, 64, 16>($($argument),*),
            Format::Tq1_0 => ternary_block::$function::<Tq1_0, 256, 54>($($argument),*),
            Format::Ptq1_0 => ternary_block::$function::<Ptq1_0, 128, 28>($($argument),*),
            Format::Tq2_0 => ternary_block::$function::<Tq2_0, 256, 66>($($argument),*),
            Format::Q2_0 => ternary_block::$function::<Q2_0, 64, 18>($($argument),*),
            Format::Q2_0Group128 => ternary_block::$function::<Q2_0Group128, 128, 34>($($argument),*),
            Format::F32 | Format::F16 | Format::Bf16 | Format::Q4_0 | Format::Q8_0 | Format::Q4K
            | Format::Q6K => $other,
        }
    };
}

impl Format {
    /// Decodes one row to its values. `row` has [`row_bytes`](Self::row_bytes)`(out.len())` bytes, aligned or not.
    ///
    /// `scale` is the tensor's scale and used by I2_S alone; the other formats carry theirs. A code 3 is
    /// `+2·d` in TQ2_0 and Q2_0. Scales that are not finite give values that are not finite:
    /// [`validate_row`](Self::validate_row) finds them.
    ///
    /// # Errors
    /// [`QuantError::Length`] if the lengths do not fit; [`QuantError::NotTernary`] at a code 3 of I2_S.
    pub fn decode_row(self, row: &[u8], scale: f32, out: &mut [f32]) -> Result<(), QuantError> {
        self.check_row("row bytes", row.len(), out.len())?;
        match self {
            Self::F32 => float::decode_f32(row, out),
            Self::F16 => float::decode_f16(row, out),
            Self::Bf16 => float::decode_bf16(row, out),
            Self::Q4_0 => q4_0::decode(row, out),
            Self::Q8_0 => q8_0::decode(row, out),
            Self::Q4K => q4_k::decode(row, out),
            Self::Q6K => q6_k::decode(row, out),
            ternary => {
                if let Self::I2s(layout) = self {
                    i2_s::validate_rows(layout, row)?;
                }
                with_ternary!(ternary, decode(row, scale, out), else ());
            }
        }
        Ok(())
    }

    /// Decodes one row of a ternary format to its codes: −1, 0, +1, and +2 for a code 3 of TQ2_0 or Q2_0.
    ///
    /// # Errors
    /// As [`decode_row`](Self::decode_row), and [`QuantError::Unsupported`] for a format that is not ternary.
    pub fn decode_codes(self, row: &[u8], out: &mut [i8]) -> Result<(), QuantError> {
        self.check_row("row bytes", row.len(), out.len())?;
        if let Self::I2s(layout) = self {
            i2_s::validate_rows(layout, row)?;
        }
        with_ternary!(self, decode_codes(row, out), else return Err(self.not_ternary()));
        Ok(())
    }

    /// Reads the scale of every block of a ternary row, widened from f16. `out` has one element per block.
    ///
    /// # Errors
    /// [`QuantError::Length`] if the lengths do not fit; [`QuantError::Unsupported`] for I2_S, whose scale belongs to
    /// the tensor, and for a format that is not ternary.
    pub fn block_scales(self, row: &[u8], out: &mut [f32]) -> Result<(), QuantError> {
        let blocks = self.check_blocks(row)?;
        if self.is_ternary() && !matches!(self, Self::I2s(_)) && out.len() != blocks {
            return Err(self.length("block scales", blocks, out.len()));
        }
        with_ternary!(self, block_scales(row, out), else Err(self.not_ternary()))
    }

    /// Checks that a slice of one or more whole rows decodes to finite values: no code 3 (I2_S and TQ2_0; Q2_0 allows
    /// it) and every scale finite, or every number for F32, F16 and BF16.
    ///
    /// Fast enough to run over a whole file when it is opened.
    ///
    /// # Errors
    /// [`QuantError::Length`] if `row` is not a whole number of blocks; [`QuantError::NotTernary`] with the index of
    /// the element in the slice; [`QuantError::Value`] for a scale or number that is NaN or infinite.
    pub fn validate_row(self, row: &[u8]) -> Result<(), QuantError> {
        self.check_blocks(row)?;
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => float::validate(self, row),
            Self::Q4_0 | Self::Q8_0 => self.validate_scales(row, 0),
            Self::Q4K => {
                (q4_k::FACTORS.into_iter()).try_for_each(|at| self.validate_scales(row, at))
            }
            Self::Q6K => self.validate_scales(row, q6_k::SUPER_SCALE),
            Self::I2s(layout) => i2_s::validate_rows(layout, row),
            ternary => with_ternary!(ternary, validate(row), else Ok(())),
        }
    }

    /// Encodes one row of values. `out` has [`row_bytes`](Self::row_bytes)`(values.len())` bytes.
    ///
    /// F32 copies bits. F16 and BF16 round to nearest even and keep NaN (quiet) and infinities. Q8_0, Q4_0, Q4_K and Q6_K
    /// quantize. TQ1_0, PTQ1_0, TQ2_0 and Q2_0 take each block's largest magnitude for its scale and round to the nearest of
    /// −1, 0 and +1 times it: exact, up to the f16 rounding of the scale, for values that are ternary already, and poor
    /// for others (quantize those with [`quantize_absmean`](crate::quantize_absmean) first). I2_S takes only values that
    /// are −1, 0 or +1 times `scale` within 10⁻⁶ of it; the other formats do not look at `scale`.
    ///
    /// # Errors
    /// [`QuantError::Length`] if the lengths do not fit; [`QuantError::Value`] for a value or scale the format cannot
    /// hold: not finite (but in F32, F16, BF16), too large, or not ternary (I2_S).
    pub fn encode_row(self, values: &[f32], scale: f32, out: &mut [u8]) -> Result<(), QuantError> {
        self.check_row("output bytes", out.len(), values.len())?;
        match self {
            Self::F32 => float::encode_f32(values, out),
            Self::F16 => float::encode_f16(values, out)?,
            Self::Bf16 => float::encode_bf16(values, out)?,
            Self::Q4_0 => q4_0::encode(values, out)?,
            Self::Q8_0 => q8_0::encode(values, out)?,
            Self::Q4K => q4_k::encode(values, out)?,
            Self::Q6K => q6_k::encode(values, out)?,
            Self::I2s(layout) => i2_s::encode(layout, values, scale, out)?,
            ternary => with_ternary!(ternary, encode(values, out), else Ok(()))?,
        }
        Ok(())
    }

    /// Encodes one row of a ternary format from its codes, each −1, 0 or +1, without any rounding of them.
    ///
    /// `scales` has one element per block, rounded to f16; I2_S ignores it, its scale being stored outside the rows.
    ///
    /// # Errors
    /// [`QuantError::Length`] if the lengths do not fit; [`QuantError::Value`] for another code, or a scale that is not
    /// finite, too large for f16, or so small that f16 would make it 0; [`QuantError::Unsupported`] for a format that
    /// is not ternary.
    pub fn encode_codes(
        self,
        codes: &[i8],
        scales: &[f32],
        out: &mut [u8],
    ) -> Result<(), QuantError> {
        self.check_row("output bytes", out.len(), codes.len())?;
        with_ternary!(self, encode_codes(codes, scales, out), else Err(self.not_ternary()))
    }

    fn validate_scales(self, row: &[u8], at: usize) -> Result<(), QuantError> {
        for block in row.chunks_exact(self.block_bytes()) {
            let d = [block[at], block[at + 1]];
            if !float::f16_is_finite(d) {
                return Err(float::value_error(self, "block scale", float::f16_at(d)));
            }
        }
        Ok(())
    }

    fn check_row(self, what: &'static str, bytes: usize, cols: usize) -> Result<(), QuantError> {
        let expected = self.row_bytes(cols)?;
        if bytes == expected {
            Ok(())
        } else {
            Err(self.length(what, expected, bytes))
        }
    }

    fn check_blocks(self, row: &[u8]) -> Result<usize, QuantError> {
        if row.len().is_multiple_of(self.block_bytes()) {
            Ok(row.len() / self.block_bytes())
        } else {
            Err(self.length("row bytes", self.block_bytes(), row.len()))
        }
    }

    fn length(self, what: &'static str, expected: usize, found: usize) -> QuantError {
        QuantError::Length {
            what,
            format: self,
            expected,
            found,
        }
    }

    fn not_ternary(self) -> QuantError {
        QuantError::Unsupported {
            what: "is not a ternary format",
            format: self,
        }
    }
}
