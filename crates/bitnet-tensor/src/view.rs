//! Views: other shapes over the same storage. Only [`BitNetTensor::reshape`] and [`BitNetTensor::contiguous`] ever
//! copy, and only where no view can do.

use crate::layout::axis_index;
use crate::{BitNetTensor, Dims, refusal};
use bitnet_core::Result;
use bitnet_core::pool::Movement;
use std::ops::{Bound, RangeBounds};

impl BitNetTensor {
    /// The same elements in row-major order under another shape: a view if the strides allow it, else a copy.
    ///
    /// # Errors
    /// If the shapes have different numbers of elements, or memory is short.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        let shape = Dims::new(shape)?;
        if shape.elements() != Some(self.len()) {
            return Err(refusal::shapes(
                "reshape",
                "as many elements",
                &self.layout.shape,
                &shape,
            ));
        }
        match self.layout.reshape(shape) {
            Some(layout) => {
                self.track(Movement::ZeroCopy);
                Ok(self.view(layout))
            }
            None => self.copied()?.reshape(&shape),
        }
    }

    /// All elements along one axis: [`reshape`](Self::reshape) to `[len]`.
    ///
    /// # Errors
    /// If a copy is needed and memory is short.
    pub fn flatten(&self) -> Result<Self> {
        self.reshape(&[self.len()])
    }

    /// Exchanges two axes; negative axes count from the end.
    ///
    /// # Errors
    /// If an axis does not exist.
    pub fn transpose(&self, a: i32, b: i32) -> Result<Self> {
        let a = axis_index("transpose", a, &self.layout.shape)?;
        let b = axis_index("transpose", b, &self.layout.shape)?;
        let mut layout = self.layout;
        layout.shape.swap(a, b);
        layout.strides.swap(a, b);
        Ok(self.view(layout))
    }

    /// Axis `i` of the result is axis `axes[i]` of this tensor.
    ///
    /// # Errors
    /// If `axes` is not each axis once.
    pub fn permute(&self, axes: &[i32]) -> Result<Self> {
        let mut order = [0; Dims::MAX_RANK];
        let mut seen = [false; Dims::MAX_RANK];
        let mut fits = axes.len() == self.rank();
        for (place, &axis) in order.iter_mut().zip(axes) {
            *place = axis_index("permute", axis, &self.layout.shape)?;
            fits &= !std::mem::replace(&mut seen[*place], true);
        }
        if !fits {
            return Err(refusal::shape(
                &format!("permute to {axes:?}"),
                "each axis once",
                self.shape(),
            ));
        }
        Ok(self.view(self.layout.permute(&order[..self.rank()])))
    }

    /// The elements `range` of one axis.
    ///
    /// ```
    /// # use bitnet_core::{Device, HybridMemoryPool};
    /// # use bitnet_tensor::BitNetTensor;
    /// # fn main() -> bitnet_core::Result<()> {
    /// let t = BitNetTensor::arange(0.0, 6.0, 1.0, &Device::Cpu, HybridMemoryPool::global())?.reshape(&[2, 3])?;
    /// assert_eq!(t.slice(1, 1..)?.to_vec::<f32>()?, [1.0, 2.0, 4.0, 5.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the axis or an end of the range does not exist.
    pub fn slice(&self, axis: i32, range: impl RangeBounds<usize>) -> Result<Self> {
        self.slice_step(axis, range, 1)
    }

    /// Every `step`-th of the elements `range` of one axis.
    ///
    /// # Errors
    /// As for [`slice`](Self::slice), or if `step` is 0.
    pub fn slice_step(
        &self,
        axis: i32,
        range: impl RangeBounds<usize>,
        step: usize,
    ) -> Result<Self> {
        let index = axis_index("slice", axis, &self.layout.shape)?;
        let size = self.layout.shape[index];
        let start = match range.start_bound() {
            Bound::Included(start) => Some(*start),
            Bound::Excluded(before) => before.checked_add(1),
            Bound::Unbounded => Some(0),
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.checked_add(1),
            Bound::Excluded(end) => Some(*end),
            Bound::Unbounded => Some(size),
        };
        match (start, end) {
            (Some(start), Some(end)) if start <= end && end <= size && step > 0 => {
                let len = (end - start).div_ceil(step);
                Ok(self.view(self.layout.slice(index, start, len, step)))
            }
            _ => Err(refusal::shape(
                &format!(
                    "slice of axis {axis} from {:?} to {:?} by {step}",
                    range.start_bound(),
                    range.end_bound()
                ),
                format!("a step of at least 1 through a range within 0..{size}"),
                self.shape(),
            )),
        }
    }

    /// `len` elements of one axis from `start`.
    ///
    /// # Errors
    /// If they do not exist.
    pub fn narrow(&self, axis: i32, start: usize, len: usize) -> Result<Self> {
        match start.checked_add(len) {
            Some(end) => self.slice(axis, start..end),
            None => Err(refusal::shape(
                &format!("narrow of axis {axis} to {len} elements from {start}"),
                "elements that exist",
                self.shape(),
            )),
        }
    }

    /// One element of an axis, which disappears.
    ///
    /// # Errors
    /// If the axis or the element does not exist.
    pub fn select(&self, axis: i32, index: usize) -> Result<Self> {
        let one = self.narrow(axis, index, 1)?;
        let axis = axis_index("select", axis, &one.layout.shape)?;
        Ok(one.view(one.layout.remove_axis(axis)))
    }

    /// Repeats the elements to `shape` without copying them: shapes are aligned at the last axis, and an axis of 1 repeats.
    ///
    /// # Errors
    /// If this shape does not broadcast to that.
    pub fn broadcast_to(&self, shape: &[usize]) -> Result<Self> {
        let shape = Dims::new(shape)?;
        match self.layout.broadcast_to(&shape) {
            Some(layout) => Ok(self.view(layout)),
            None => Err(refusal::shapes(
                "broadcast_to",
                "a shape that broadcasts to the other",
                &self.layout.shape,
                &shape,
            )),
        }
    }

    /// A view of any shape and strides, in elements from the first of this contiguous tensor.
    ///
    /// # Errors
    /// If the view would reach past the last element, or there are too many axes.
    #[cfg(feature = "candle")]
    pub(crate) fn strided(&self, shape: &[usize], strides: &[usize]) -> Result<Self> {
        let (shape, steps) = (Dims::new(shape)?, Dims::new(strides)?);
        let reach = shape
            .iter()
            .zip(strides)
            .try_fold(0usize, |reach, (size, stride)| {
                reach.checked_add(size.saturating_sub(1).checked_mul(*stride)?)
            });
        let exists = match shape.elements() {
            Some(0) => true,
            Some(_) => reach.is_some_and(|reach| reach < self.len()),
            None => false,
        };
        if !(exists && self.is_contiguous() && shape.len() == steps.len()) {
            return Err(refusal::shape(
                &format!("view of shape {shape:?} with strides {strides:?}"),
                "elements that exist",
                self.shape(),
            ));
        }
        Ok(self.view(crate::layout::Layout {
            shape,
            strides: steps,
            offset: self.layout.offset,
        }))
    }

    /// Removes an axis of size 1.
    ///
    /// # Errors
    /// If the axis does not exist or has another size.
    pub fn squeeze(&self, axis: i32) -> Result<Self> {
        let index = axis_index("squeeze", axis, &self.layout.shape)?;
        if self.layout.shape[index] != 1 {
            return Err(refusal::shape(
                &format!("squeeze of axis {axis}"),
                "size 1",
                self.shape(),
            ));
        }
        Ok(self.view(self.layout.remove_axis(index)))
    }

    /// Removes every axis of size 1.
    pub fn squeeze_all(&self) -> Self {
        let mut layout = self.layout;
        for axis in (0..self.rank()).rev() {
            if layout.shape[axis] == 1 {
                layout = layout.remove_axis(axis);
            }
        }
        self.view(layout)
    }

    /// Inserts an axis of size 1 before `axis`; the rank, or −1, appends it.
    ///
    /// # Errors
    /// If `axis` is out of range or the tensor has as many axes as are possible.
    pub fn unsqueeze(&self, axis: i32) -> Result<Self> {
        // As an axis of the result.
        let shape = self.layout.shape.insert(0, 1)?;
        let index = axis_index("unsqueeze", axis, &shape)?;
        Ok(self.view(self.layout.unsqueeze(index)?))
    }
}
