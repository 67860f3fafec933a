//! The order of the value heads of gated delta nets, of which checkpoints have another than GGUF files and the kernels.
//!
//! In checkpoints those that read one key head lie together: head `i` reads key head `i div repeats`. Here head `i` reads key
//! head `i mod groups`. Where there is a value head for each key head nothing differs.

use bitnet_core::DeltaHeads;

/// Where elements of a tensor are in a checkpoint: those before `first` where they are here, the others head by head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ValueHeads {
    /// Elements before the first value head.
    first: usize,
    /// Elements of a head.
    dim: usize,
    /// Key heads.
    groups: usize,
    /// Value heads that read each.
    repeats: usize,
}

impl ValueHeads {
    /// The order of a tensor of which each value head has `dim` elements, `first` others before them; `None` if it is the
    /// same on both sides.
    pub(super) fn of(heads: DeltaHeads, first: usize, dim: usize) -> Option<Self> {
        let repeats = heads.value / heads.key.max(1);
        (repeats > 1).then_some(Self {
            first,
            dim,
            groups: heads.key,
            repeats,
        })
    }

    /// The place in the checkpoint of element `index` here.
    pub(super) fn source(&self, index: usize) -> usize {
        let Some(behind) = index.checked_sub(self.first) else {
            return index;
        };
        let (head, element) = (behind / self.dim, behind % self.dim);
        let (group, repeat) = (head % self.groups, head / self.groups);
        self.first + (group * self.repeats + repeat) * self.dim + element
    }

    /// The elements of `values`, of `size` parts each, in their order here.
    pub(super) fn reordered<T: Copy>(&self, values: &[T], size: usize) -> Vec<T> {
        let count = values.len() / size;
        let parts = (0..count).map(|index| &values[self.source(index) * size..][..size]);
        parts.flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: DeltaHeads = DeltaHeads {
        key: 2,
        value: 6,
        key_dim: 4,
        value_dim: 2,
        taps: 4,
    };

    #[test]
    fn heads_of_a_key_head_lie_together_in_checkpoints() {
        let order = ValueHeads::of(HEADS, 0, 1).expect("another order");
        let heads = ["0 of 0", "1 of 0", "2 of 0", "0 of 1", "1 of 1", "2 of 1"];
        let here = ["0 of 0", "0 of 1", "1 of 0", "1 of 1", "2 of 0", "2 of 1"];
        assert_eq!(order.reordered(&heads, 1), here);
        // Not what undoes itself.
        assert_ne!(order.reordered(&here, 1), heads);
    }

    #[test]
    fn elements_stay_together_and_those_before_stay() {
        let order = ValueHeads::of(HEADS, 3, 2).expect("another order");
        let places: Vec<usize> = (0..15).map(|index| order.source(index)).collect();
        assert_eq!(places, [0, 1, 2, 3, 4, 9, 10, 5, 6, 11, 12, 7, 8, 13, 14]);
        let heads = DeltaHeads { value: 2, ..HEADS };
        assert_eq!(ValueHeads::of(heads, 3, 2), None);
    }
}
