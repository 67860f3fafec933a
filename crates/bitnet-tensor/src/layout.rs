//! Where the elements of a view lie: shape, strides and offset, and the order in which they are visited.
//!
//! All counts are in elements. Strides are never negative; 0 repeats an element (broadcasting).

use crate::Dims;
use bitnet_core::{Error, Result};

/// Shape, strides and the offset of the first element. Every index within the shape is within the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) shape: Dims,
    pub(crate) strides: Dims,
    pub(crate) offset: usize,
}

impl Layout {
    /// Row after row from offset 0.
    #[inline]
    pub(crate) fn contiguous(shape: Dims) -> Self {
        let mut stride = 1usize;
        let strides = shape.rev_map(|size| {
            // Wraps only where a size of 0 makes strides meaningless: the caller has checked the element count.
            let next = stride.wrapping_mul(size.max(1));
            std::mem::replace(&mut stride, next)
        });
        Self {
            shape,
            strides,
            offset: 0,
        }
    }

    /// Number of elements. The product cannot overflow: a layout is made only of shapes that were checked.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.shape.elements().unwrap_or(0)
    }

    #[inline]
    pub(crate) fn is_contiguous(&self) -> bool {
        let mut expected = 1usize;
        for (&size, &stride) in self.shape.iter().zip(self.strides.iter()).rev() {
            if size != 1 {
                if stride != expected {
                    // Of no elements, none is out of place.
                    return self.shape.contains(&0);
                }
                // Wraps only where a size is 0.
                expected = expected.wrapping_mul(size);
            }
        }
        true
    }

    /// The elements of a contiguous layout in `data`, the whole storage.
    pub(crate) fn row_major<'a, T>(&self, data: &'a [T]) -> &'a [T] {
        let start = self.offset.min(data.len());
        &data[start..(start + self.len()).min(data.len())]
    }

    pub(crate) fn permute(&self, axes: &[usize]) -> Self {
        let mut out = *self;
        for (i, &axis) in axes.iter().enumerate() {
            out.shape[i] = self.shape[axis];
            out.strides[i] = self.strides[axis];
        }
        out
    }

    /// Elements `start`, `start + step`, … (`len` of them) of an axis. The caller has checked that they exist.
    pub(crate) fn slice(&self, axis: usize, start: usize, len: usize, step: usize) -> Self {
        let mut out = *self;
        if len > 0 {
            out.offset += start * self.strides[axis];
        }
        out.shape[axis] = len;
        out.strides[axis] = self.strides[axis].saturating_mul(step);
        out
    }

    pub(crate) fn unsqueeze(&self, axis: usize) -> Result<Self> {
        Ok(Self {
            shape: self.shape.insert(axis, 1)?,
            strides: self.strides.insert(axis, 0)?,
            offset: self.offset,
        })
    }

    pub(crate) fn remove_axis(&self, axis: usize) -> Self {
        Self {
            shape: self.shape.remove(axis),
            strides: self.strides.remove(axis),
            offset: self.offset,
        }
    }

    /// The same elements repeated to `shape`, `None` if they do not broadcast to it.
    pub(crate) fn broadcast_to(&self, shape: &Dims) -> Option<Self> {
        let first = shape.len().checked_sub(self.shape.len())?;
        shape.elements()?;
        let mut strides = Dims::zeros_like(shape);
        for (i, (&size, &stride)) in self.shape.iter().zip(self.strides.iter()).enumerate() {
            strides[first + i] = match (size, shape[first + i]) {
                (a, b) if a == b => stride,
                (1, _) => 0,
                _ => return None,
            };
        }
        Some(Self {
            shape: *shape,
            strides,
            offset: self.offset,
        })
    }

    /// The same elements in the same order under another shape of as many elements, `None` if that takes a copy.
    pub(crate) fn reshape(&self, shape: Dims) -> Option<Self> {
        let fresh = Self {
            offset: self.offset,
            ..Self::contiguous(shape)
        };
        if self.is_contiguous() {
            return Some(fresh);
        }
        // Both shapes are cut into groups of axes with equal products; the axes of an old group must be mergeable.
        let mut old = *self;
        for axis in (0..old.shape.len()).rev() {
            if old.shape[axis] == 1 {
                old = old.remove_axis(axis);
            }
        }
        let mut strides = Dims::zeros_like(&shape);
        let (mut i, mut j) = (0, 0);
        while i < old.shape.len() {
            let (first, start) = (i, j);
            let mut have = old.shape[i];
            i += 1;
            let mut want = 1;
            while have != want || j < shape.len() && shape[j] == 1 {
                if want < have || have == want {
                    want *= shape.get(j)?;
                    j += 1;
                } else {
                    have *= old.shape.get(i)?;
                    i += 1;
                }
            }
            for axis in first..i - 1 {
                if old.strides[axis] != old.strides[axis + 1] * old.shape[axis + 1] {
                    return None;
                }
            }
            let mut stride = old.strides[i - 1];
            for axis in (start..j).rev() {
                strides[axis] = stride;
                stride *= shape[axis];
            }
        }
        Some(Self { strides, ..fresh })
    }
}

/// Visits the elements of `N` layouts of one shape in row-major order, as few and as long runs as they allow.
///
/// Each item is the offsets at which a run starts; run `i` has [`len`](Self::run_len) elements, `strides[i]` apart.
pub(crate) struct Runs<const N: usize> {
    /// Outer axes, outermost first.
    shape: Dims,
    strides: [Dims; N],
    index: Dims,
    offsets: [usize; N],
    run_len: usize,
    run_strides: [usize; N],
    left: usize,
}

impl<const N: usize> Runs<N> {
    /// The layouts have one shape, which is that of the first.
    pub(crate) fn new(layouts: [&Layout; N]) -> Self {
        let shape = layouts[0].shape;
        let total = layouts[0].len();
        if layouts.iter().all(|layout| layout.is_contiguous()) {
            return Self::whole(layouts, total);
        }
        // Axes that are not 1, neighbours merged where every layout allows it.
        let mut merged = Dims::zeros_like(&shape);
        let mut strides = [Dims::zeros_like(&shape); N];
        let mut rank = 0;
        for axis in 0..shape.len() {
            if shape[axis] == 1 {
                continue;
            }
            let joins = rank > 0
                && (0..N).all(|n| {
                    let inner = layouts[n].strides[axis].checked_mul(shape[axis]);
                    Some(strides[n][rank - 1]) == inner
                });
            if !joins {
                rank += 1;
                merged[rank - 1] = 1;
            }
            merged[rank - 1] = merged[rank - 1].saturating_mul(shape[axis]);
            for n in 0..N {
                strides[n][rank - 1] = layouts[n].strides[axis];
            }
        }
        while merged.len() > rank {
            let last = merged.len() - 1;
            merged = merged.remove(last);
            strides = strides.map(|s| s.remove(last));
        }
        let (run_len, run_strides) = if rank == 0 {
            (1, [1; N])
        } else {
            let run = (merged[rank - 1], strides.map(|s| s[rank - 1]));
            merged = merged.remove(rank - 1);
            strides = strides.map(|s| s.remove(rank - 1));
            run
        };
        let outer = if total == 0 { 0 } else { total / run_len };
        Self {
            index: Dims::zeros_like(&merged),
            shape: merged,
            strides,
            offsets: layouts.map(|l| l.offset),
            run_len,
            run_strides,
            left: outer,
        }
    }

    /// One run of everything.
    fn whole(layouts: [&Layout; N], total: usize) -> Self {
        let none = Dims::default();
        Self {
            shape: none,
            strides: [none; N],
            index: none,
            offsets: layouts.map(|layout| layout.offset),
            run_len: total,
            run_strides: [1; N],
            left: usize::from(total > 0),
        }
    }

    pub(crate) fn run_len(&self) -> usize {
        self.run_len
    }

    pub(crate) fn run_strides(&self) -> [usize; N] {
        self.run_strides
    }
}

impl<const N: usize> Iterator for Runs<N> {
    type Item = [usize; N];

    fn next(&mut self) -> Option<[usize; N]> {
        self.left = self.left.checked_sub(1)?;
        let start = self.offsets;
        for axis in (0..self.shape.len()).rev() {
            self.index[axis] += 1;
            if self.index[axis] < self.shape[axis] {
                for n in 0..N {
                    self.offsets[n] += self.strides[n][axis];
                }
                break;
            }
            self.index[axis] = 0;
            for n in 0..N {
                self.offsets[n] -= self.strides[n][axis] * (self.shape[axis] - 1);
            }
        }
        Some(start)
    }
}

/// The axis that `axis` means in a tensor of `rank` axes; negative numbers count from the end.
pub(crate) fn axis_index(what: &str, axis: i32, shape: &Dims) -> Result<usize> {
    let rank = shape.len();
    let index = if axis < 0 {
        rank.checked_sub(axis.unsigned_abs() as usize)
    } else {
        Some(axis as usize).filter(|axis| *axis < rank)
    };
    index.ok_or_else(|| Error::Shape {
        what: format!("{what}: axis {axis}"),
        expected: if rank == 0 {
            "no axis of a scalar".into()
        } else {
            format!("-{rank} to {}", rank - 1)
        },
        found: format!("shape {shape:?}"),
    })
}
