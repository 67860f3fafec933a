//! Reductions over axes: each result is made of one run of elements, taken in row-major order of the reduced axes.
//!
//! Floats add up in the fixed order of the kernels (sixty-four lanes, then a tree), so a result does not depend on
//! how the tensor lies in memory.

use crate::dispatch::with_type;
use crate::layout::axis_index;
use crate::storage::fill;
use crate::{BitNetDType, BitNetTensor, Dims, Element, refusal};
use bitnet_core::{Result, simd};
use std::cmp::Ordering;

/// Which axes to reduce; negative numbers count from the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Axes {
    /// All of them.
    All,
    /// These. None at all reduces nothing.
    List(Vec<i32>),
}

impl From<i32> for Axes {
    fn from(axis: i32) -> Self {
        Self::List(vec![axis])
    }
}

impl<const N: usize> From<[i32; N]> for Axes {
    fn from(axes: [i32; N]) -> Self {
        Self::List(axes.to_vec())
    }
}

impl From<&[i32]> for Axes {
    fn from(axes: &[i32]) -> Self {
        Self::List(axes.to_vec())
    }
}

/// A tensor laid out so that every result's elements are neighbours.
struct Rows {
    /// Contiguous; the reduced axes are the last.
    tensor: BitNetTensor,
    /// Elements that make one result.
    len: usize,
    /// The shape of the results.
    shape: Dims,
}

impl BitNetTensor {
    /// Sums. Integers and bool add up to i64 (wrapping), floats to their own type (f16 and bf16 by way of f32); no
    /// elements give 0.
    ///
    /// ```
    /// # use bitnet_core::{Device, HybridMemoryPool};
    /// # use bitnet_tensor::{Axes, BitNetTensor};
    /// # fn main() -> bitnet_core::Result<()> {
    /// let t = BitNetTensor::arange(0.0, 6.0, 1.0, &Device::Cpu, HybridMemoryPool::global())?.reshape(&[2, 3])?;
    /// assert_eq!(t.sum(1, false)?.to_vec::<f32>()?, [3.0, 12.0]);
    /// assert_eq!(t.sum(0, true)?.shape(), [1, 3]);
    /// assert_eq!(t.sum(Axes::All, false)?.item::<f32>()?, 15.0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If an axis does not exist or is named twice, or memory is short.
    pub fn sum(&self, axes: impl Into<Axes>, keepdim: bool) -> Result<Self> {
        if self.dtype.is_float() {
            return self.reduce_floats("sum", &axes.into(), keepdim, simd::sum);
        }
        let rows = self.rows("sum", &axes.into(), keepdim)?;
        with_type!(self.dtype, T => {
            rows.reduce::<T, i64>(BitNetDType::I64, |row| {
                row.iter().fold(0i64, |sum, x| sum.wrapping_add(x.to_i64()))
            })
        })
    }

    /// Arithmetic means, f32 for integers and bool; no elements give NaN.
    ///
    /// # Errors
    /// As for [`sum`](Self::sum).
    pub fn mean(&self, axes: impl Into<Axes>, keepdim: bool) -> Result<Self> {
        self.as_float()?
            .reduce_floats("mean", &axes.into(), keepdim, simd::mean)
    }

    /// Variances: Σ (x − mean)² / (n − `correction`); 0 for the variance of the elements themselves, 1 to estimate that of
    /// what they were drawn from. f32 for integers and bool; NaN where nothing is left to divide by.
    ///
    /// # Errors
    /// As for [`sum`](Self::sum).
    pub fn var(&self, axes: impl Into<Axes>, correction: usize, keepdim: bool) -> Result<Self> {
        self.as_float()?
            .reduce_floats("var", &axes.into(), keepdim, |row| {
                variance(row, correction)
            })
    }

    /// Greatest elements; NaN is passed over unless there is nothing else.
    ///
    /// # Errors
    /// As for [`sum`](Self::sum), or if a result would be made of no elements.
    pub fn max(&self, axes: impl Into<Axes>, keepdim: bool) -> Result<Self> {
        self.extreme("max", &axes.into(), keepdim, Ordering::Greater)
    }

    /// Least elements; NaN is passed over unless there is nothing else.
    ///
    /// # Errors
    /// As for [`max`](Self::max).
    pub fn min(&self, axes: impl Into<Axes>, keepdim: bool) -> Result<Self> {
        self.extreme("min", &axes.into(), keepdim, Ordering::Less)
    }

    /// Index along `axis` of the first of the greatest elements, as i64; NaN is passed over, 0 if there is nothing else.
    ///
    /// # Errors
    /// As for [`max`](Self::max).
    pub fn argmax(&self, axis: i32, keepdim: bool) -> Result<Self> {
        self.extreme_index("argmax", axis, keepdim, Ordering::Greater)
    }

    /// Index along `axis` of the first of the least elements, as i64; NaN is passed over, 0 if there is nothing else.
    ///
    /// # Errors
    /// As for [`max`](Self::max).
    pub fn argmin(&self, axis: i32, keepdim: bool) -> Result<Self> {
        self.extreme_index("argmin", axis, keepdim, Ordering::Less)
    }

    /// Floats as they are, anything else as f32.
    pub(crate) fn as_float(&self) -> Result<Self> {
        if self.dtype.is_float() {
            Ok(self.clone())
        } else {
            self.to_dtype(BitNetDType::F32)
        }
    }

    /// Reduces rows of f32 and rounds the results to the tensor's type.
    fn reduce_floats(
        &self,
        op: &str,
        axes: &Axes,
        keepdim: bool,
        f: impl Fn(&[f32]) -> f32,
    ) -> Result<Self> {
        self.to_dtype(BitNetDType::F32)?
            .rows(op, axes, keepdim)?
            .reduce::<f32, f32>(BitNetDType::F32, f)?
            .to_dtype(self.dtype)
    }

    fn extreme(&self, op: &str, axes: &Axes, keepdim: bool, wins: Ordering) -> Result<Self> {
        let rows = self.rows(op, axes, keepdim)?;
        rows.refuse_empty(op, self)?;
        if self.dtype == BitNetDType::F32 {
            return rows.reduce::<f32, f32>(self.dtype, |row| extreme(row, wins));
        }
        with_type!(self.dtype, T => {
            rows.reduce::<T, T>(self.dtype, |row| row[best(row, wins)])
        })
    }

    fn extreme_index(&self, op: &str, axis: i32, keepdim: bool, wins: Ordering) -> Result<Self> {
        let rows = self.rows(op, &axis.into(), keepdim)?;
        rows.refuse_empty(op, self)?;
        if self.dtype == BitNetDType::F32 {
            let find = match wins {
                Ordering::Greater => simd::argmax,
                _ => simd::argmin,
            };
            return rows.reduce(BitNetDType::I64, |row| find(row).unwrap_or(0) as i64);
        }
        with_type!(self.dtype, T => {
            rows.reduce::<T, i64>(BitNetDType::I64, |row| best(row, wins) as i64)
        })
    }

    fn rows(&self, op: &str, axes: &Axes, keepdim: bool) -> Result<Rows> {
        let rank = self.rank();
        let mut reduced = [false; Dims::MAX_RANK];
        match axes {
            Axes::All => reduced = [true; Dims::MAX_RANK],
            Axes::List(axes) => {
                for &axis in axes {
                    let index = axis_index(op, axis, &self.layout.shape)?;
                    if std::mem::replace(&mut reduced[index], true) {
                        return Err(refusal::shape(
                            &format!("{op} over axes {axes:?}"),
                            "each axis once",
                            self.shape(),
                        ));
                    }
                }
            }
        }
        let mut order = [0; Dims::MAX_RANK];
        let kept = (0..rank).filter(|axis| !reduced[*axis]);
        let gone = (0..rank).filter(|axis| reduced[*axis]);
        for (place, axis) in order.iter_mut().zip(kept.chain(gone)) {
            *place = axis;
        }
        let mut shape = self.layout.shape;
        let mut len = 1;
        for axis in (0..rank).rev().filter(|axis| reduced[*axis]) {
            len *= shape[axis];
            if keepdim {
                shape[axis] = 1;
            } else {
                shape = shape.remove(axis);
            }
        }
        let tensor = self
            .view(self.layout.permute(&order[..rank]))
            .contiguous()?;
        Ok(Rows { tensor, len, shape })
    }
}

impl Rows {
    fn refuse_empty(&self, op: &str, of: &BitNetTensor) -> Result<()> {
        if self.len == 0 && !self.shape.contains(&0) {
            return Err(refusal::shape(op, "at least one element", of.shape()));
        }
        Ok(())
    }

    fn reduce<A: Element, B: Element>(
        &self,
        dtype: BitNetDType,
        f: impl Fn(&[A]) -> B,
    ) -> Result<BitNetTensor> {
        let data = self.tensor.as_slice::<A>()?;
        let tensor = &self.tensor;
        fill(self.shape, dtype, tensor.device(), tensor.pool(), |out| {
            if self.len == 0 && !out.is_empty() {
                out.fill(f(&[]));
            }
            for (out, row) in out.iter_mut().zip(data.chunks_exact(self.len.max(1))) {
                *out = f(row);
            }
            Ok(())
        })
    }
}

/// Σ (x − mean)² / (n − correction).
fn variance(row: &[f32], correction: usize) -> f32 {
    let variance = simd::variance(row);
    match row.len().checked_sub(correction) {
        _ if correction == 0 => variance,
        Some(left) if left > 0 => variance * row.len() as f32 / left as f32,
        _ => f32::NAN,
    }
}

/// The greatest or least number; NaN if there is none.
fn extreme(row: &[f32], wins: Ordering) -> f32 {
    let (found, none) = match wins {
        Ordering::Greater => (simd::max(row), f32::NEG_INFINITY),
        _ => (simd::min(row), f32::INFINITY),
    };
    if found == none && !row.contains(&none) {
        f32::NAN
    } else {
        found
    }
}

/// Index of the first of the elements that `wins` over the others; NaN is passed over, and nothing else gives 0.
fn best<T: Element>(row: &[T], wins: Ordering) -> usize {
    let mut best = 0;
    for (i, x) in row.iter().enumerate() {
        // Only NaN is not ordered with itself.
        match x.partial_cmp(&row[best]) {
            Some(order) if order != wins => {}
            None if x.partial_cmp(x).is_none() => {}
            _ => best = i,
        }
    }
    best
}
