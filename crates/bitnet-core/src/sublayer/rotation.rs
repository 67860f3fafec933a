//! Hadamard rotations of activations, which spread outliers over all columns before rows are rounded.

use crate::{Error, Result};

/// What happens to a row before a matrix multiplies it whose weights were rotated likewise: columns are put into another order,
/// multiplied by signs, and each block of them goes through the Hadamard transform, normalized and in Sylvester's order. The
/// product is that of the plain row with the plain matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotation {
    /// Columns of a block: a power of two.
    pub block: usize,
    /// ±1 for each column; empty for none.
    pub signs: Vec<f32>,
    /// The order of the columns before the signs, if it is another.
    pub regroup: Option<Regroup>,
}

/// Heads in another order: head `k + groups·r` of a row becomes head `repeats·k + r`, for `repeats = heads / groups`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Regroup {
    /// Heads of a row.
    pub heads: usize,
    /// Divides `heads`.
    pub groups: usize,
}

impl Rotation {
    /// Refuses a rotation that does not fit rows of `width` columns.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Value`], which name `matrix`.
    pub fn check(&self, matrix: &str, width: usize) -> Result<()> {
        if !self.block.is_power_of_two() || !width.is_multiple_of(self.block) {
            return Err(Error::Shape {
                what: format!("{matrix}: block of the rotation"),
                expected: format!("a power of two that divides {width}"),
                found: self.block.to_string(),
            });
        }
        if !self.signs.is_empty() && self.signs.len() != width {
            return Err(Error::Shape {
                what: format!("{matrix}: signs of the rotation"),
                expected: format!("{width}, or none"),
                found: self.signs.len().to_string(),
            });
        }
        if let Some(sign) = self.signs.iter().find(|sign| sign.abs() != 1.0) {
            return Err(Error::Value {
                what: format!("{matrix}: sign of the rotation"),
                expected: "1 or -1".into(),
                found: sign.to_string(),
            });
        }
        let fits = |regroup: Regroup| {
            regroup.heads > 0
                && width.is_multiple_of(regroup.heads)
                && regroup.groups > 0
                && regroup.heads.is_multiple_of(regroup.groups)
        };
        match self.regroup {
            Some(regroup) if !fits(regroup) => Err(Error::Shape {
                what: format!("{matrix}: heads of the rotation"),
                expected: format!("whole groups of heads, which divide {width}"),
                found: format!("{} heads in {} groups", regroup.heads, regroup.groups),
            }),
            _ => Ok(()),
        }
    }
}
