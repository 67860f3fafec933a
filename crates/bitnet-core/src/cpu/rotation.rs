//! Hadamard rotations of rows.

use super::tuning::Operation;
use super::{CpuBackend, Rows, columns};
use crate::Result;
use crate::pool::Tag;
use crate::sublayer::Rotation;

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
                    order.apply(&plain, row);
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
