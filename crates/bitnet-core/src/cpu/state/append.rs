//! New keys and values into the blocks of a state, rounded to its type.

use super::super::kernels::Kernels;
use crate::simd::{HeadBlockMut, POSITIONS, Stored, with_stored};
use crate::{AttentionHeads, KvType};
use half::f16;
use std::ops::Range;

/// Numbers that can be stored.
trait Store: Stored {
    /// Rounds the key or the value of a head and returns its scale.
    fn round(kernels: &Kernels, row: &[f32], out: &mut [Self]) -> f32;
}

impl Store for f32 {
    fn round(_: &Kernels, row: &[f32], out: &mut [f32]) -> f32 {
        out.copy_from_slice(row);
        1.0
    }
}

impl Store for f16 {
    fn round(kernels: &Kernels, row: &[f32], out: &mut [f16]) -> f32 {
        (kernels.narrow)(row, out);
        1.0
    }
}

impl Store for i8 {
    fn round(kernels: &Kernels, row: &[f32], out: &mut [i8]) -> f32 {
        (kernels.round_head)(row, out)
    }
}

/// What new rows add to a head of a block.
pub(super) struct Part<'a> {
    /// The head's bytes in the block.
    pub(super) block: &'a mut [u8],
    pub(super) head: usize,
    /// Where in the block they begin.
    pub(super) place: usize,
    pub(super) rows: Range<usize>,
}

/// New rows of a layer, `[position][head][dim]` of keys and of values.
pub(super) struct Append<'a> {
    pub(super) kernels: &'a Kernels,
    pub(super) heads: AttentionHeads,
    pub(super) keys: &'a [f32],
    pub(super) values: &'a [f32],
}

impl Append<'_> {
    /// Writes the part's rows.
    pub(super) fn write(&self, kv: KvType, part: Part<'_>) {
        with_stored!(kv, T => self.write_as::<T>(part));
    }

    fn write_as<T: Store>(&self, part: Part<'_>) {
        let (dim, stride) = (self.heads.dim, self.heads.kv_width());
        let block = HeadBlockMut::<T>::new(part.block, dim);
        let [key_scales, value_scales] = block.scales;
        let mut rounded = vec![T::zeroed(); dim];
        for (place, row) in (part.place..).zip(part.rows) {
            let first = row * stride + part.head * dim;
            let key_scale = T::round(self.kernels, &self.keys[first..][..dim], &mut rounded);
            let places = block.keys[place..].iter_mut().step_by(POSITIONS);
            places.zip(&rounded).for_each(|(place, new)| *place = *new);
            let value = &mut block.values[place * dim..][..dim];
            let value_scale = T::round(self.kernels, &self.values[first..][..dim], value);
            if T::SCALED {
                (key_scales[place], value_scales[place]) = (key_scale, value_scale);
            }
        }
    }
}
