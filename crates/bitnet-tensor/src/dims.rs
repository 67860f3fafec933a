//! Sizes along the axes of a tensor, kept inline: no allocation, a cheap copy.

use bitnet_core::{Error, Result};
use std::ops::{Deref, DerefMut};

/// Up to [`Dims::MAX_RANK`] sizes (or strides), outermost axis first. Rank 0 is a scalar.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Dims {
    rank: u8,
    sizes: [usize; Self::MAX_RANK],
}

impl Dims {
    /// The most axes a tensor can have.
    pub const MAX_RANK: usize = 6;

    /// # Errors
    /// [`Error::Shape`] if there are more than [`MAX_RANK`](Self::MAX_RANK) sizes.
    #[inline]
    pub fn new(sizes: &[usize]) -> Result<Self> {
        if sizes.len() > Self::MAX_RANK {
            return Err(Self::too_many(sizes));
        }
        Ok(Self {
            rank: sizes.len() as u8,
            // Every place by itself: a call to copy so few costs more.
            sizes: std::array::from_fn(|axis| sizes.get(axis).copied().unwrap_or(0)),
        })
    }

    #[cold]
    fn too_many(sizes: &[usize]) -> Error {
        Error::Shape {
            what: "shape".into(),
            expected: format!("at most {} axes", Self::MAX_RANK),
            found: format!("{sizes:?}"),
        }
    }

    /// As many zeros as `other` has sizes.
    pub(crate) fn zeros_like(other: &Self) -> Self {
        Self {
            rank: other.rank,
            sizes: [0; Self::MAX_RANK],
        }
    }

    /// `f` of each size, the last first.
    #[inline]
    pub(crate) fn rev_map(&self, mut f: impl FnMut(usize) -> usize) -> Self {
        let mut out = *self;
        for axis in (0..Self::MAX_RANK).rev() {
            if axis < usize::from(self.rank) {
                out.sizes[axis] = f(self.sizes[axis]);
            }
        }
        out
    }

    /// The number of elements of a tensor of this shape, `None` if it overflows. Any size of 0 makes it 0.
    #[inline]
    pub fn elements(&self) -> Option<usize> {
        let product = self.iter().try_fold(1usize, |n, size| n.checked_mul(*size));
        match product {
            // A size of 0 may come after sizes whose product is too large.
            None if self.contains(&0) => Some(0),
            product => product,
        }
    }

    /// With `size` inserted before axis `axis` (at most the rank).
    pub(crate) fn insert(&self, axis: usize, size: usize) -> Result<Self> {
        let mut sizes = [0; Self::MAX_RANK + 1];
        let rank = self.len();
        let axis = axis.min(rank);
        sizes[..axis].copy_from_slice(&self[..axis]);
        sizes[axis] = size;
        sizes[axis + 1..=rank].copy_from_slice(&self[axis..]);
        Self::new(&sizes[..=rank])
    }

    /// Without axis `axis`.
    pub(crate) fn remove(&self, axis: usize) -> Self {
        let mut dims = *self;
        if axis < self.len() {
            dims.sizes.copy_within(axis + 1.., axis);
            dims.rank -= 1;
        }
        dims
    }

    /// The shape that both broadcast to by NumPy's rules, `None` if they do not: aligned at the last axis, sizes
    /// are equal or one of them is 1.
    pub fn broadcast(&self, other: &Self) -> Option<Self> {
        let (long, short) = if self.len() >= other.len() {
            (self, other)
        } else {
            (other, self)
        };
        let mut out = *long;
        let first = long.len() - short.len();
        for (size, &with) in out[first..].iter_mut().zip(short.iter()) {
            *size = match (*size, with) {
                (a, b) if a == b => a,
                (1, b) => b,
                (a, 1) => a,
                _ => return None,
            };
        }
        Some(out)
    }
}

impl Deref for Dims {
    type Target = [usize];
    #[inline]
    fn deref(&self) -> &[usize] {
        // The rank is at most the array's length.
        &self.sizes[..usize::from(self.rank).min(Self::MAX_RANK)]
    }
}

impl DerefMut for Dims {
    #[inline]
    fn deref_mut(&mut self) -> &mut [usize] {
        &mut self.sizes[..usize::from(self.rank).min(Self::MAX_RANK)]
    }
}

impl std::fmt::Debug for Dims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
