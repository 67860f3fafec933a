//! Sixteen rows side by side, word by word, so that the lanes of a register are rows.
//!
//! Where groups of 64 or 128 columns have scales of their own, adding the lanes of a register together and applying the scale
//! takes longer than the products of the group. With a row in each lane there is nothing to add together, and the scales of
//! a register are applied at once. The bytes are those of the packed rows in another order: for each group the scales of
//! sixteen rows (unless they lie within the words of the codes), then the first four code bytes of each row, then the next.

use super::layout::RowLayout;
use crate::{Error, Result, WeightMatrix};
use std::ops::Range;

/// Rows side by side.
pub(super) const TOGETHER: usize = 16;

/// Bytes of a row that stay together.
const WORD: usize = 4;

/// Bytes of the same word of rows side by side.
pub(super) const WORDS: usize = TOGETHER * WORD;

/// Where the bytes of a group of rows side by side lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interleaving {
    /// That of the packed rows.
    pub(super) layout: RowLayout,
    /// Where the words of codes begin.
    codes_at: usize,
    /// Where the scale of the first row lies, and bytes from one to the next: 2 or 4.
    scales_at: (usize, usize),
}

impl Interleaving {
    /// How rows of that layout are put side by side; nothing if their groups are no whole words, or have no scales.
    pub(super) fn new(layout: &RowLayout) -> Option<Self> {
        let scale_at = layout.scale_at?;
        let within_codes = scale_at.checked_sub(layout.codes_at);
        let within_codes = within_codes.filter(|at| *at < layout.code_bytes);
        let (codes_at, scales_at, bytes) = match within_codes {
            Some(at) => (0, (at / WORD * WORDS + at % WORD, WORD), layout.code_bytes),
            None => (2 * TOGETHER, (0, 2), layout.code_bytes + 2),
        };
        let fits = layout.code_bytes.is_multiple_of(WORD) && bytes == layout.stride;
        fits.then_some(Self {
            layout: *layout,
            codes_at,
            scales_at,
        })
    }

    /// Bytes of a group of rows side by side.
    pub(super) fn group_bytes(&self) -> usize {
        TOGETHER * self.layout.stride
    }

    /// Bytes of rows side by side.
    pub(super) fn block_bytes(&self) -> usize {
        self.layout.groups * self.group_bytes()
    }

    /// The words of codes of a group.
    #[inline(always)]
    pub(super) fn words<'a>(&self, group: &'a [u8]) -> &'a [[u8; WORDS]] {
        let codes = &group[self.codes_at..][..TOGETHER * self.layout.code_bytes];
        codes.as_chunks().0
    }

    /// The binary16 scales of a group.
    #[inline(always)]
    pub(super) fn scales(&self, group: &[u8]) -> [u16; TOGETHER] {
        let mut scales = [0; TOGETHER];
        let (at, step) = self.scales_at;
        if step == WORD {
            // The whole words around the scales; these are in their upper halves.
            let words = group[at - 2..][..WORDS].as_chunks::<WORD>().0;
            for (scale, word) in scales.iter_mut().zip(words) {
                *scale = (u32::from_le_bytes(*word) >> 16) as u16;
            }
        } else {
            let halves = group[at..][..2 * TOGETHER].as_chunks::<2>().0;
            for (scale, half) in scales.iter_mut().zip(halves) {
                *scale = u16::from_le_bytes(*half);
            }
        }
        scales
    }

    /// Puts a packed row to its place among those side by side.
    pub(super) fn put(&self, place: usize, row: &[u8], block: &mut [u8]) {
        let groups = row.chunks_exact(self.layout.stride);
        for (row, group) in groups.zip(block.chunks_exact_mut(self.group_bytes())) {
            self.places(place, |bytes, at| {
                group[at..at + bytes.len()].copy_from_slice(&row[bytes]);
            });
        }
    }

    /// Packs a row again that is one of rows side by side.
    pub(super) fn take(&self, place: usize, block: &[u8], row: &mut [u8]) {
        let groups = block.chunks_exact(self.group_bytes());
        for (row, group) in row.chunks_exact_mut(self.layout.stride).zip(groups) {
            self.places(place, |bytes, at| {
                row[bytes.clone()].copy_from_slice(&group[at..at + bytes.len()]);
            });
        }
    }

    /// Calls `visit` with ranges of bytes in a group of a packed row, and where they lie among rows side by side.
    #[inline(always)]
    fn places(&self, place: usize, mut visit: impl FnMut(Range<usize>, usize)) {
        for word in 0..self.layout.code_bytes / WORD {
            let from = self.layout.codes_at + word * WORD;
            let at = self.codes_at + word * WORDS + place * WORD;
            visit(from..from + WORD, at);
        }
        if let ((at, 2), Some(from)) = (self.scales_at, self.layout.scale_at) {
            visit(from..from + 2, at + 2 * place);
        }
    }
}

/// How the rows of `weights`, which lie side by side, do so.
pub(super) fn interleaving_of(weights: &WeightMatrix) -> Result<Interleaving> {
    let layout = RowLayout::new(weights.format(), weights.stored_cols(), weights.row_bytes());
    let interleaving = layout.as_ref().and_then(Interleaving::new);
    interleaving.ok_or_else(|| Error::Value {
        what: format!("{}: order of rows", weights.name()),
        expected: "a format that the CPU interleaves".into(),
        found: weights.format().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitnet_quant::Format;

    #[test]
    fn rows_come_back_from_among_the_others() {
        for format in Format::ALL {
            let groups = 3;
            let row_bytes = groups * format.block_bytes();
            let cols = groups * format.block_len();
            let layout = RowLayout::new(*format, cols, row_bytes);
            let Some(interleaving) = layout.as_ref().and_then(Interleaving::new) else {
                continue;
            };
            assert_eq!(interleaving.block_bytes(), TOGETHER * row_bytes, "{format}");
            let byte = |row: usize, at: usize| (row * 37 + at * 11 + at / 256) as u8;
            let rows: Vec<Vec<u8>> = (0..TOGETHER)
                .map(|row| (0..row_bytes).map(|at| byte(row, at)).collect())
                .collect();
            let mut block = vec![0; interleaving.block_bytes()];
            for (place, row) in rows.iter().enumerate() {
                interleaving.put(place, row, &mut block);
            }
            let mut found = vec![0; row_bytes];
            let mut scales = vec![0.0; groups];
            for (place, row) in rows.iter().enumerate() {
                interleaving.take(place, &block, &mut found);
                assert_eq!(&found, row, "{format}");
                format.block_scales(row, &mut scales).unwrap();
                let groups = block.chunks(interleaving.group_bytes());
                for (group, scale) in groups.zip(&scales) {
                    let bits = interleaving.scales(group)[place];
                    let found = super::super::f16::widen_f16(bits);
                    assert!(found == *scale || found.is_nan(), "{format}");
                }
            }
        }
    }
}
