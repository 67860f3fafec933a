//! Weights in the form in which they are multiplied, made once, at load.
//!
//! Rows whose groups of 64 or 128 columns have scales of their own (Q2_0, PQ2_0, PTQ1_0), and base-3 ones, are put side by
//! side ([`Interleaving`]): with AVX-512 VNNI one core of a Zen 5 multiplies 125 G weights of PQ2_0 a second instead of 60 G,
//! 120 G of PTQ1_0 instead of 50 G, and 130 G of TQ1_0 instead of 83 G. That takes a copy, and the mapped pages are given back;
//! in a browser, which cannot do so, the file's own bytes are multiplied.
//!
//! Base-3 weights (TQ1_0, PTQ1_0) become 2-bit codes (TQ2_0, PQ2_0) on x86-64 without AVX-512 VNNI: the same codes and block
//! scales, so the same bits of every product. Five digits to a byte are a fifth fewer bytes to read than four codes, but
//! taking them apart costs more than that saves: with AVX2 one core multiplies 21 G interleaved base-3 weights a second and 88 G
//! 2-bit ones, with AVX-VNNI 40 and 86. On aarch64 it was not measured.

use super::interleave::{Interleaving, TOGETHER};
use super::layout::RowLayout;
use super::{CpuBackend, columns};
use crate::pool::Movement;
use crate::{Result, Tag, WeightMatrix};
use bitnet_quant::Format;

/// Whether rows are put side by side unless [`CpuBackend::with_interleaving`] says otherwise.
pub(super) const INTERLEAVES: bool = !cfg!(target_arch = "wasm32");

/// Rows that are repacked in one piece of work: whole blocks of rows side by side.
const ROWS_AT_ONCE: usize = 4 * TOGETHER;

impl CpuBackend {
    /// Weights whose every number was looked at, in the form in which they are multiplied.
    pub(super) fn repacked(&self, weights: WeightMatrix) -> Result<WeightMatrix> {
        if weights.is_interleaved() {
            return Ok(weights);
        }
        let from = weights.format();
        let to = match from {
            Format::Tq1_0 if self.repacks_base3() => Format::Tq2_0,
            Format::Ptq1_0 if self.repacks_base3() => Format::Q2_0Group128,
            _ => from,
        };
        let stored = weights.stored_cols();
        let row_bytes = to.row_bytes(stored)?;
        let side_by_side = self.interleaves
            && matches!(
                to,
                Format::Tq1_0 | Format::Ptq1_0 | Format::Q2_0 | Format::Q2_0Group128
            );
        let layout = RowLayout::new(to, stored, row_bytes).filter(|_| side_by_side);
        let interleaving = layout.as_ref().and_then(Interleaving::new);
        if to == from && interleaving.is_none() {
            self.validate(&weights)?;
            return Ok(weights);
        }
        let count = match interleaving {
            Some(_) => weights.rows().next_multiple_of(TOGETHER),
            None => weights.rows(),
        };
        let len = count.saturating_mul(row_bytes);
        let mut rows = self.pool.buffer_uninit::<u8>(len, Tag::Weights)?;
        columns::chunks(
            &self.threads,
            &mut rows,
            ROWS_AT_ONCE * row_bytes,
            |index, out| {
                let first = index * ROWS_AT_ONCE;
                let count = (out.len() / row_bytes).min(weights.rows() - first);
                weights.validate(first..first + count)?;
                let decoded = if from == to { 0 } else { stored };
                let mut codes = self.pool.buffer_uninit(decoded, Tag::Scratch)?;
                let blocks = decoded / from.block_len();
                let mut scales = self.pool.buffer_uninit(blocks, Tag::Scratch)?;
                let mut one = self.pool.buffer_uninit(row_bytes, Tag::Scratch)?;
                if count * row_bytes < out.len() {
                    out.fill(0);
                }
                for (row, packed) in weights.row_range(first, count).enumerate() {
                    if from == to {
                        one.copy_from_slice(packed);
                    } else {
                        from.decode_codes(packed, &mut codes)?;
                        from.block_scales(packed, &mut scales)?;
                        to.encode_codes(&codes, &scales, &mut one)?;
                    }
                    match &interleaving {
                        Some(interleaving) => {
                            let bytes = interleaving.block_bytes();
                            let block = &mut out[row / TOGETHER * bytes..][..bytes];
                            interleaving.put(row % TOGETHER, &one, block);
                        }
                        None => out[row * row_bytes..][..row_bytes].copy_from_slice(&one),
                    }
                }
                Ok(())
            },
        )?;
        // All at once: pages are larger than a few rows.
        weights.give_back(0..weights.rows());
        self.moved(Movement::Copy, rows.len());
        weights.repacked(to, rows.into_bytes(), interleaving.is_some())
    }

    /// Whether base-3 weights become 2-bit codes: if nobody said otherwise, where that is faster.
    fn repacks_base3(&self) -> bool {
        let keeps = self.interleaves && self.kernels.integer.keeps_base3;
        (self.repacks_base3).unwrap_or(cfg!(target_arch = "x86_64") && !keeps)
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
        assert_eq!(
            repacked.data().len(),
            rows * Format::Tq2_0.row_bytes(cols).unwrap()
        );
        assert_eq!(LONGEST.load(Ordering::Relaxed), rows * row_bytes);
    }

    #[test]
    fn rows_side_by_side_are_left_alone() {
        let row_bytes = Format::Ptq1_0.row_bytes(256).unwrap();
        let data = vec![0u8; 5 * row_bytes].into();
        let weights = WeightMatrix::new("w", Format::Ptq1_0, (5, 256, 256), 1.0, data).unwrap();
        let backend = CpuBackend::new(Some(1), None).unwrap();
        let backend = backend.with_base3(false).with_interleaving(true);
        let once = backend.repacked(weights).unwrap();
        assert!(once.is_interleaved() && once.row(0).is_empty());
        assert_eq!(once.data().len(), TOGETHER * row_bytes);
        let twice = backend.repacked(once.clone()).unwrap();
        assert_eq!(twice.data(), once.data());
    }
}
