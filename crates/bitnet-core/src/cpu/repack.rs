//! Base-3 weights (TQ1_0, PTQ1_0) as 2-bit codes (TQ2_0, PQ2_0): the same codes and block scales, so the same bits of every product.
//!
//! Five digits to a byte are a fifth fewer bytes to read than four codes, but taking them apart costs more than that
//! saves where one core reads memory faster than it divides: with AVX-512 VNNI one core multiplies 47 G base-3 weights
//! a second and 78 G 2-bit ones, with AVX2 27 and 63. So x86-64 repacks once, at load, and gives the mapped pages back. Elsewhere it was
//! not measured (aarch64), or memory is what is short (a browser), and the file's own bytes are multiplied.

use super::{CpuBackend, columns};
use crate::pool::Movement;
use crate::{Result, Tag, WeightMatrix};
use bitnet_quant::Format;

/// Whether base-3 weights are repacked unless [`CpuBackend::with_base3`] says otherwise.
pub(super) const REPACKS_BASE3: bool = cfg!(target_arch = "x86_64");

/// Rows that are repacked in one piece of work.
const ROWS_AT_ONCE: usize = 64;

impl CpuBackend {
    /// Weights whose every number was looked at, in the format in which they are multiplied.
    pub(super) fn repacked(&self, weights: WeightMatrix) -> Result<WeightMatrix> {
        let from = weights.format();
        let to = match from {
            Format::Tq1_0 if self.repacks_base3 => Format::Tq2_0,
            Format::Ptq1_0 if self.repacks_base3 => Format::Q2_0Group128,
            _ => {
                self.validate(&weights)?;
                return Ok(weights);
            }
        };
        let stored = weights.stored_cols();
        let row_bytes = to.row_bytes(stored)?;
        let len = weights.rows().saturating_mul(row_bytes);
        let mut rows = self.pool.buffer_uninit::<u8>(len, Tag::Weights)?;
        columns::chunks(
            &self.threads,
            &mut rows,
            ROWS_AT_ONCE * row_bytes,
            |index, out| {
                let first = index * ROWS_AT_ONCE;
                let range = first..first + out.len() / row_bytes;
                weights.validate(range.clone())?;
                let mut codes = self.pool.buffer_uninit(stored, Tag::Scratch)?;
                let blocks = stored / from.block_len();
                let mut scales = self.pool.buffer_uninit(blocks, Tag::Scratch)?;
                let packed = weights.row_range(range.start, range.len());
                for (packed, out) in packed.zip(out.chunks_exact_mut(row_bytes)) {
                    from.decode_codes(packed, &mut codes)?;
                    from.block_scales(packed, &mut scales)?;
                    to.encode_codes(&codes, &scales, out)?;
                }
                Ok(())
            },
        )?;
        // All at once: pages are larger than a few rows.
        weights.give_back(0..weights.rows());
        self.moved(Movement::Copy, rows.len());
        let shape = (weights.rows(), weights.cols(), stored);
        WeightMatrix::new(
            weights.name(),
            to,
            shape,
            weights.scale(),
            rows.into_bytes(),
        )?
        .with_output_scale(weights.output_scale())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn all_of_the_packed_rows_are_given_back_at_once() {
        static LONGEST: AtomicUsize = AtomicUsize::new(0);
        let (rows, cols) = (3 * ROWS_AT_ONCE, 256);
        let row_bytes = Format::Tq1_0.row_bytes(cols).unwrap();
        let data = vec![0u8; rows * row_bytes].into();
        let shape = (rows, cols, cols);
        let weights = WeightMatrix::new("w", Format::Tq1_0, shape, 1.0, data)
            .unwrap()
            .with_reclaim(|bytes| {
                LONGEST.fetch_max(bytes.len(), Ordering::Relaxed);
            });
        let backend = CpuBackend::new(Some(2), None).unwrap().with_base3(true);
        let repacked = backend.repacked(weights).unwrap();
        assert_eq!(repacked.format(), Format::Tq2_0);
        assert_eq!(LONGEST.load(Ordering::Relaxed), rows * row_bytes);
    }
}
