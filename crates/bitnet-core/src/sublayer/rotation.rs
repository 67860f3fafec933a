//! Hadamard rotations of activations, which spread outliers over all columns before rows are rounded.

use crate::simd::Hadamard;
use crate::{Error, Result};
use rten_simd::SimdOp;

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

impl Regroup {
    /// Puts the heads of `row` into their other order.
    pub(crate) fn apply(self, row: &[f32], out: &mut [f32]) {
        let (dim, repeats) = (row.len() / self.heads, self.heads / self.groups);
        for (place, out) in out.chunks_exact_mut(dim).enumerate() {
            let (group, repeat) = (place / repeats, place % repeats);
            out.copy_from_slice(&row[(group + self.groups * repeat) * dim..][..dim]);
        }
    }
}

impl Rotation {
    /// Rotates one row in place: one of activations, or one of the matrix that they will be multiplied by. The bits are those of
    /// every CPU.
    ///
    /// # Errors
    /// As [`Rotation::check`], with the length of `row` as the width.
    pub fn rotate(&self, row: &mut [f32]) -> Result<()> {
        self.check("a row", row.len())?;
        if let Some(order) = self.regroup {
            let plain = row.to_vec();
            order.apply(&plain, row);
        }
        let hadamard = Hadamard {
            row,
            block: self.block,
            signs: &self.signs,
            inverse: false,
        };
        hadamard.dispatch();
        Ok(())
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_regrouped_as_published() {
        let row: Vec<f32> = (0..12u8).map(f32::from).collect();
        let mut out = vec![0.0; 12];
        let order = Regroup {
            heads: 6,
            groups: 2,
        };
        order.apply(&row, &mut out);
        let expected = [0, 1, 4, 5, 8, 9, 2, 3, 6, 7, 10, 11].map(|x: u8| f32::from(x));
        assert_eq!(out, expected);
    }

    #[test]
    fn a_product_of_rotated_rows_is_that_of_plain_ones() -> Result<()> {
        let rotation = Rotation {
            block: 4,
            signs: vec![1.0, -1.0, -1.0, 1.0, 1.0, 1.0, -1.0, 1.0],
            regroup: Some(Regroup {
                heads: 4,
                groups: 2,
            }),
        };
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let mut a: Vec<f32> = (1..9u8).map(f32::from).collect();
        let mut b: Vec<f32> = a.iter().map(|a| a * a - 20.0).collect();
        let expected = dot(&a, &b);
        rotation.rotate(&mut a)?;
        rotation.rotate(&mut b)?;
        let found = dot(&a, &b);
        assert!((found - expected).abs() < 1e-3, "{found} {expected}");
        assert!(rotation.rotate(&mut a[..6]).is_err());
        Ok(())
    }
}
