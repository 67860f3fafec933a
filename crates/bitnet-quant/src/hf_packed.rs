//! The packed U8 weights of Hugging Face checkpoints (`quant_method: bitnet`).
//!
//! A matrix of `rows × cols` is stored as `R × cols` bytes with `R = ceil(rows / 4)`: bits `2i+1:2i` of packed
//! row `p` are logical row `i·R + p`, so the lowest fields are the first quarter of the rows. Field 0 is −1, 1 is 0, 2 is
//! +1, and 3 is invalid. Fields beyond the last row are padding and not looked at.
//!
//! The scale is a tensor of its own, and checkpoints disagree on its meaning: see [`WeightScale`].

use crate::QuantError;

/// What the `weight_scale` tensor beside a packed weight holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightScale {
    /// The scale itself, mean |W| (`linear_class: autobitlinear`).
    Multiply,
    /// Its reciprocal, 1 / mean |W| (`linear_class: bitlinear`, or none given).
    Divide,
}

impl WeightScale {
    /// The number that multiplies the codes.
    ///
    /// # Errors
    /// [`QuantError::Number`] if `stored` is 0, NaN or infinite, or its reciprocal would be.
    pub fn factor(self, stored: f32) -> Result<f32, QuantError> {
        let factor = match self {
            Self::Multiply => stored,
            Self::Divide => 1.0 / stored,
        };
        if stored.is_finite() && factor.is_finite() && factor != 0.0 {
            Ok(factor)
        } else {
            Err(QuantError::Number {
                what: "weight_scale",
                value: f64::from(stored),
            })
        }
    }
}

/// Bytes of a packed matrix of `rows × cols`, or `None` if that overflows.
pub fn packed_len(rows: usize, cols: usize) -> Option<usize> {
    rows.div_ceil(4).checked_mul(cols)
}

/// Unpacks a matrix to codes −1, 0 and +1. `packed` is `ceil(rows / 4) × cols`, `out` is `rows × cols`, row after row.
///
/// # Errors
/// [`QuantError::Shape`] if the lengths do not fit; [`QuantError::Code`] at a field of 3.
pub fn unpack(packed: &[u8], rows: usize, cols: usize, out: &mut [i8]) -> Result<(), QuantError> {
    check_packed(packed.len(), rows, cols)?;
    check_codes(out.len(), rows, cols)?;
    for (row, codes) in out.chunks_exact_mut(cols.max(1)).enumerate() {
        unpack_row(packed, rows, cols, row, codes)?;
    }
    Ok(())
}

/// Unpacks row `row` of a matrix to `cols` codes. `packed` is the whole matrix.
///
/// # Errors
/// [`QuantError::Shape`] if the lengths do not fit; [`QuantError::Number`] if there is no such row;
/// [`QuantError::Code`] at a field of 3.
pub fn unpack_row(
    packed: &[u8],
    rows: usize,
    cols: usize,
    row: usize,
    out: &mut [i8],
) -> Result<(), QuantError> {
    check_packed(packed.len(), rows, cols)?;
    if row >= rows {
        return Err(QuantError::Number {
            what: "row index",
            value: row as f64,
        });
    }
    if out.len() != cols {
        return Err(QuantError::Shape {
            what: "row of codes",
            expected: cols,
            found: out.len(),
        });
    }
    let packed_rows = rows.div_ceil(4);
    let shift = 2 * (row / packed_rows);
    let bytes = &packed[row % packed_rows * cols..][..cols];
    for (code, byte) in out.iter_mut().zip(bytes) {
        *code = ((byte >> shift) & 3) as i8 - 1;
    }
    match out.iter().position(|&code| code == 2) {
        None => Ok(()),
        Some(col) => Err(QuantError::Code {
            what: "packed weight",
            index: row * cols + col,
            code: 3,
        }),
    }
}

/// Packs codes −1, 0 and +1 of a matrix of `rows × cols`; padding fields are 0.
///
/// # Errors
/// [`QuantError::Shape`] if `codes` is not `rows × cols`; [`QuantError::Code`] at another code.
pub fn pack(codes: &[i8], rows: usize, cols: usize) -> Result<Vec<u8>, QuantError> {
    check_codes(codes.len(), rows, cols)?;
    if let Some(index) = codes.iter().position(|code| !(-1..=1).contains(code)) {
        return Err(QuantError::Code {
            what: "matrix to pack",
            index,
            code: i32::from(codes[index]),
        });
    }
    let packed_rows = rows.div_ceil(4);
    let mut packed = vec![0u8; packed_rows * cols];
    if packed.is_empty() {
        return Ok(packed);
    }
    for (field, codes) in codes.chunks(packed_rows * cols).enumerate() {
        for (byte, code) in packed.iter_mut().zip(codes) {
            *byte |= ((code + 1) as u8) << (2 * field);
        }
    }
    Ok(packed)
}

fn check_packed(found: usize, rows: usize, cols: usize) -> Result<(), QuantError> {
    check("packed matrix", packed_len(rows, cols), found)
}

fn check_codes(found: usize, rows: usize, cols: usize) -> Result<(), QuantError> {
    check("matrix of codes", rows.checked_mul(cols), found)
}

fn check(what: &'static str, expected: Option<usize>, found: usize) -> Result<(), QuantError> {
    if expected == Some(found) {
        return Ok(());
    }
    Err(QuantError::Shape {
        what,
        expected: expected.unwrap_or(usize::MAX),
        found,
    })
}
