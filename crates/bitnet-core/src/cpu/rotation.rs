//! Hadamard rotations of rows.

use super::tuning::Operation;
use super::{CpuBackend, Rows, columns};
use crate::Result;
use crate::pool::Tag;
use crate::sublayer::{Regroup, Rotation};

impl CpuBackend {
    /// Rotates every row, in place.
    ///
    /// # Errors
    /// If memory is short.
    pub(super) fn rotate_rows(&self, rows: &mut Rows, rotation: &Rotation) -> Result<()> {
        let (width, work) = (rows.width, rows.values.len());
        let chunk = self.chunk(Operation::Elementwise, rows.tokens, 1, work) * width;
        columns::chunks(&self.threads, &mut rows.values, chunk, |_, piece| {
            let mut plain = match rotation.regroup {
                Some(_) => self.pool.buffer_uninit(width, Tag::Scratch)?,
                None => self.pool.buffer_uninit(0, Tag::Scratch)?,
            };
            for row in piece.chunks_exact_mut(width) {
                if let Some(order) = rotation.regroup {
                    plain.copy_from_slice(row);
                    regroup(order, &plain, row);
                }
                (self.kernels.hadamard)(row, rotation.block, &rotation.signs, false);
            }
            Ok(())
        })
    }

    /// Undoes a rotation without another order of columns, of one row.
    pub(super) fn unrotate(&self, row: &mut [f32], rotation: &Rotation) {
        (self.kernels.hadamard)(row, rotation.block, &rotation.signs, true);
    }
}

/// The heads of `row` in their other order.
fn regroup(order: Regroup, row: &[f32], out: &mut [f32]) {
    let (dim, repeats) = (row.len() / order.heads, order.heads / order.groups);
    for (place, out) in out.chunks_exact_mut(dim).enumerate() {
        let (group, repeat) = (place / repeats, place % repeats);
        out.copy_from_slice(&row[(group + order.groups * repeat) * dim..][..dim]);
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
        regroup(order, &row, &mut out);
        let expected = [0, 1, 4, 5, 8, 9, 2, 3, 6, 7, 10, 11].map(|x: u8| f32::from(x));
        assert_eq!(out, expected);
    }
}
