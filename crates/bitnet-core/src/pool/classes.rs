//! Sizes of small blocks: every 64 bytes up to 512, then four to a doubling up to 1 MiB.
//!
//! A block wastes at most a fifth of itself, but for the smallest.

/// The largest small block, in bytes.
pub(super) const LARGEST: usize = 1 << 20;
/// How many sizes there are.
pub(super) const COUNT: usize = 8 + 4 * 11;
/// The distance of the sizes up to [`LINEAR`].
const STEP: usize = 64;
/// Up to here sizes are [`STEP`] apart.
const LINEAR: usize = 512;
/// The smallest slab; blocks of a size are cut from slabs.
const SLAB: usize = 64 << 10;
/// Slabs hold eight blocks, unless that were more than this.
const LARGEST_SLAB: usize = 1 << 20;

/// The class of the smallest size of at least `bytes` (at most [`LARGEST`]).
#[inline]
pub(super) fn of(bytes: usize) -> usize {
    if bytes <= LINEAR {
        bytes.saturating_sub(1) / STEP
    } else {
        let doubling = (bytes - 1).ilog2() as usize;
        let quarter = (bytes - 1) >> (doubling - 2);
        8 + (doubling - 9) * 4 + quarter - 4
    }
}

/// The class of the smallest size of at least `bytes` whose blocks are aligned to `alignment` (at most 4096), if
/// there is one.
pub(super) fn aligned(bytes: usize, alignment: usize) -> Option<usize> {
    // Blocks lie at multiples of their size in a slab that begins a page.
    (of(bytes.max(alignment))..COUNT).find(|&class| size(class).is_multiple_of(alignment))
}

/// Bytes of a block of `class`.
#[inline]
pub(super) fn size(class: usize) -> usize {
    if class < 8 {
        (class + 1) * STEP
    } else {
        let (doubling, quarter) = ((class - 8) / 4, (class - 8) % 4);
        (quarter + 5) << (doubling + 7)
    }
}

/// Bytes of a slab of `class`.
pub(super) fn slab(class: usize) -> usize {
    let size = size(class);
    (8 * size).clamp(SLAB, LARGEST_SLAB).max(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_has_the_smallest_class_that_holds_it() {
        assert_eq!(of(0), 0);
        assert_eq!(size(COUNT - 1), LARGEST);
        for class in 1..COUNT {
            assert!(size(class) > size(class - 1));
            assert_eq!(of(size(class)), class);
            assert_eq!(of(size(class - 1) + 1), class);
        }
    }

    #[test]
    fn aligned_classes_are_aligned() {
        for shift in 0..=12 {
            let alignment = 1usize << shift;
            for bytes in [0, 1, 63, 64, 65, 700, 4096, 5000, 100_000, LARGEST] {
                let class = aligned(bytes, alignment).unwrap();
                assert!(size(class) >= bytes && size(class).is_multiple_of(alignment));
            }
        }
    }

    #[test]
    fn slabs_hold_their_blocks() {
        for class in 0..COUNT {
            assert!(slab(class) >= size(class) && slab(class) <= LARGEST_SLAB);
        }
    }
}
