//! Arithmetic of two tensors, or of a tensor and a number, with NumPy's broadcasting.
//!
//! Integers wrap; their quotient truncates towards 0 and a divisor of 0 is an error. f16 and bf16 are computed
//! in f32 and rounded. The lesser or greater of two floats is the left one if either is NaN.

use super::create::scalar;
use super::dispatch::with_type;
use super::element::{Run, run};
use super::layout::{Layout, Runs};
use super::storage::fill;
use super::{BitNetDType, BitNetTensor, Dims, Element, refusal};
use crate::Result;
use half::{bf16, f16};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Minimum,
    Maximum,
}

impl Binary {
    fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Sub => "sub",
            Self::Mul => "mul",
            Self::Div => "div",
            Self::Minimum => "minimum",
            Self::Maximum => "maximum",
        }
    }
}

/// The arithmetic of one element type.
trait Number: Element {
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
    /// The divisor of an integer is not 0: the caller has looked.
    fn over(self, other: Self) -> Self;
    fn lesser(self, other: Self) -> Self;
    fn greater(self, other: Self) -> Self;
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl Number for $type {
            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn minus(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            #[inline(always)]
            fn times(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            #[inline(always)]
            fn over(self, other: Self) -> Self {
                if other == 0 { 0 } else { self.wrapping_div(other) }
            }
            #[inline(always)]
            fn lesser(self, other: Self) -> Self {
                self.min(other)
            }
            #[inline(always)]
            fn greater(self, other: Self) -> Self {
                self.max(other)
            }
        }
    )*};
}

macro_rules! floats {
    ($($type:ty)*) => {$(
        impl Number for $type {
            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self + other
            }
            #[inline(always)]
            fn minus(self, other: Self) -> Self {
                self - other
            }
            #[inline(always)]
            fn times(self, other: Self) -> Self {
                self * other
            }
            #[inline(always)]
            fn over(self, other: Self) -> Self {
                self / other
            }
            #[inline(always)]
            fn lesser(self, other: Self) -> Self {
                if self > other { other } else { self }
            }
            #[inline(always)]
            fn greater(self, other: Self) -> Self {
                if self < other { other } else { self }
            }
        }
    )*};
}

integers!(i8 u8 i32 i64);
floats!(f32 f16 bf16);

impl BitNetTensor {
    /// a + b.
    ///
    /// # Errors
    /// If the shapes do not broadcast together, the types differ or are bool, or memory is short.
    pub fn add(&self, other: &Self) -> Result<Self> {
        self.binary(other, Binary::Add)
    }

    /// a − b.
    ///
    /// # Errors
    /// As for [`add`](Self::add).
    pub fn sub(&self, other: &Self) -> Result<Self> {
        self.binary(other, Binary::Sub)
    }

    /// a · b, element by element.
    ///
    /// # Errors
    /// As for [`add`](Self::add).
    pub fn mul(&self, other: &Self) -> Result<Self> {
        self.binary(other, Binary::Mul)
    }

    /// a / b.
    ///
    /// # Errors
    /// As for [`add`](Self::add), or if an integer would be divided by 0.
    pub fn div(&self, other: &Self) -> Result<Self> {
        self.binary(other, Binary::Div)
    }

    /// The lesser of each pair of elements.
    ///
    /// # Errors
    /// As for [`add`](Self::add).
    pub fn minimum(&self, other: &Self) -> Result<Self> {
        self.binary(other, Binary::Minimum)
    }

    /// The greater of each pair of elements.
    ///
    /// # Errors
    /// As for [`add`](Self::add).
    pub fn maximum(&self, other: &Self) -> Result<Self> {
        self.binary(other, Binary::Maximum)
    }

    /// x + number, in the type of the tensor.
    ///
    /// # Errors
    /// If the type is bool or cannot hold the number, or memory is short.
    pub fn add_scalar(&self, number: f64) -> Result<Self> {
        self.binary_scalar(number, Binary::Add)
    }

    /// x − number.
    ///
    /// # Errors
    /// As for [`add_scalar`](Self::add_scalar).
    pub fn sub_scalar(&self, number: f64) -> Result<Self> {
        self.binary_scalar(number, Binary::Sub)
    }

    /// x · number.
    ///
    /// # Errors
    /// As for [`add_scalar`](Self::add_scalar).
    pub fn mul_scalar(&self, number: f64) -> Result<Self> {
        self.binary_scalar(number, Binary::Mul)
    }

    /// x / number.
    ///
    /// # Errors
    /// As for [`add_scalar`](Self::add_scalar), or if an integer would be divided by 0.
    pub fn div_scalar(&self, number: f64) -> Result<Self> {
        self.binary_scalar(number, Binary::Div)
    }

    /// Limits every element to `low..=high`; NaN stays.
    ///
    /// # Errors
    /// As for [`add_scalar`](Self::add_scalar).
    pub fn clamp(&self, low: f64, high: f64) -> Result<Self> {
        self.binary_scalar(low, Binary::Maximum)?
            .binary_scalar(high, Binary::Minimum)
    }

    /// a ← a + b: in place where nothing else shares the storage of `a`.
    ///
    /// # Errors
    /// As for [`add`](Self::add), or if the result has another shape than `a`.
    pub fn add_assign(&mut self, other: &Self) -> Result<()> {
        self.binary_assign(other, Binary::Add)
    }

    /// a ← a − b, as [`add_assign`](Self::add_assign).
    ///
    /// # Errors
    /// As for [`add_assign`](Self::add_assign).
    pub fn sub_assign(&mut self, other: &Self) -> Result<()> {
        self.binary_assign(other, Binary::Sub)
    }

    /// a ← a · b, as [`add_assign`](Self::add_assign).
    ///
    /// # Errors
    /// As for [`add_assign`](Self::add_assign).
    pub fn mul_assign(&mut self, other: &Self) -> Result<()> {
        self.binary_assign(other, Binary::Mul)
    }

    /// a ← a / b, as [`add_assign`](Self::add_assign).
    ///
    /// # Errors
    /// As for [`add_assign`](Self::add_assign) and [`div`](Self::div).
    pub fn div_assign(&mut self, other: &Self) -> Result<()> {
        self.binary_assign(other, Binary::Div)
    }

    fn binary(&self, other: &Self, op: Binary) -> Result<Self> {
        let (shape, a, b) = self.broadcast(other, op.name())?;
        self.refuse_bool(op)?;
        with_type!(self.dtype, T => {
            let (x, y) = (self.elements::<T>(op.name())?, other.elements::<T>(op.name())?);
            if op == Binary::Div && !self.dtype.is_float() && !shape.contains(&0) {
                refuse_zero(y, &b)?;
            }
            fill(shape, self.dtype, self.device(), self.pool(), |out| {
                apply(op, (x, &a), (y, &b), out);
                Ok(())
            })
        })
    }

    pub(super) fn binary_scalar(&self, number: f64, op: Binary) -> Result<Self> {
        self.refuse_bool(op)?;
        with_type!(self.dtype, T => {
            let x = self.elements::<T>(op.name())?;
            let y = [scalar::<T>(op.name(), number, self.dtype)?];
            let repeated = Layout {
                shape: self.layout.shape,
                strides: Dims::zeros_like(&self.layout.shape),
                offset: 0,
            };
            if op == Binary::Div && !self.dtype.is_float() {
                refuse_zero(&y, &repeated)?;
            }
            fill(self.layout.shape, self.dtype, self.device(), self.pool(), |out| {
                apply(op, (x, &self.layout), (&y, &repeated), out);
                Ok(())
            })
        })
    }

    fn binary_assign(&mut self, other: &Self, op: Binary) -> Result<()> {
        let (shape, _, b) = self.broadcast(other, op.name())?;
        if shape != self.layout.shape {
            return Err(refusal::shapes(
                &format!("{}_assign", op.name()),
                "a right side that broadcasts to the left",
                &self.layout.shape,
                &other.layout.shape,
            ));
        }
        self.refuse_bool(op)?;
        with_type!(self.dtype, T => {
            let y = other.elements::<T>(op.name())?;
            if op == Binary::Div && !self.dtype.is_float() && !shape.contains(&0) {
                refuse_zero(y, &b)?;
            }
            apply_assign(op, self.elements_mut::<T>()?, (y, &b));
            Ok(())
        })
    }

    /// The common shape, and both layouts under it.
    pub(super) fn broadcast(&self, other: &Self, op: &str) -> Result<(Dims, Layout, Layout)> {
        let (a, b) = (&self.layout.shape, &other.layout.shape);
        let shapes = || refusal::shapes(op, "shapes that broadcast together", a, b);
        if self.dtype != other.dtype {
            return Err(refusal::dtypes(op, self.dtype, other.dtype));
        }
        let shape = a.broadcast(b).ok_or_else(shapes)?;
        let wide = |layout: &Layout| layout.broadcast_to(&shape).ok_or_else(shapes);
        Ok((shape, wide(&self.layout)?, wide(&other.layout)?))
    }

    fn refuse_bool(&self, op: Binary) -> Result<()> {
        if self.dtype == BitNetDType::Bool {
            return Err(refusal::dtype(op.name(), "a number", self.dtype));
        }
        Ok(())
    }
}

fn refuse_zero<T: Number>(divisors: &[T], layout: &Layout) -> Result<()> {
    let zero = T::from_i64(0);
    let runs = Runs::new([layout]);
    let (len, [stride]) = (runs.run_len(), runs.run_strides());
    for [start] in runs {
        let found = match run(divisors, start, len, stride) {
            Run::Slice(x) => x.contains(&zero),
            Run::Strided(mut x) => x.any(|x| *x == zero),
        };
        if found {
            return Err(refusal::argument(
                "div: integer divisor".into(),
                "any number but 0",
                "0".into(),
            ));
        }
    }
    Ok(())
}

fn apply<T: Number>(op: Binary, a: (&[T], &Layout), b: (&[T], &Layout), out: &mut [T]) {
    match op {
        Binary::Add => zip(a, b, out, T::plus),
        Binary::Sub => zip(a, b, out, T::minus),
        Binary::Mul => zip(a, b, out, T::times),
        Binary::Div => zip(a, b, out, T::over),
        Binary::Minimum => zip(a, b, out, T::lesser),
        Binary::Maximum => zip(a, b, out, T::greater),
    }
}

fn apply_assign<T: Number>(op: Binary, a: &mut [T], b: (&[T], &Layout)) {
    match op {
        Binary::Add => zip_assign(a, b, T::plus),
        Binary::Sub => zip_assign(a, b, T::minus),
        Binary::Mul => zip_assign(a, b, T::times),
        Binary::Div => zip_assign(a, b, T::over),
        Binary::Minimum => zip_assign(a, b, T::lesser),
        Binary::Maximum => zip_assign(a, b, T::greater),
    }
}

/// out ← f(a, b), both layouts being of one shape.
pub(super) fn zip<T: Copy, U>(
    (a, a_layout): (&[T], &Layout),
    (b, b_layout): (&[T], &Layout),
    out: &mut [U],
    f: impl Fn(T, T) -> U,
) {
    let runs = Runs::new([a_layout, b_layout]);
    let (len, [a_stride, b_stride]) = (runs.run_len(), runs.run_strides());
    for ([a_start, b_start], out) in runs.zip(out.chunks_mut(len.max(1))) {
        // One value against a run is common (scalars, columns) and worth a loop without a stride.
        match (a_stride, b_stride) {
            (1, 0) => {
                let y = b[b_start];
                let x = &a[a_start..a_start + len];
                out.iter_mut().zip(x).for_each(|(out, x)| *out = f(*x, y));
                continue;
            }
            (0, 1) => {
                let x = a[a_start];
                let y = &b[b_start..b_start + len];
                out.iter_mut().zip(y).for_each(|(out, y)| *out = f(x, *y));
                continue;
            }
            _ => {}
        }
        match (
            run(a, a_start, len, a_stride),
            run(b, b_start, len, b_stride),
        ) {
            (Run::Slice(x), Run::Slice(y)) => {
                for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
                    *out = f(*x, *y);
                }
            }
            (Run::Slice(x), Run::Strided(y)) => {
                for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
                    *out = f(*x, *y);
                }
            }
            (Run::Strided(x), Run::Slice(y)) => {
                for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
                    *out = f(*x, *y);
                }
            }
            (Run::Strided(x), Run::Strided(y)) => {
                for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
                    *out = f(*x, *y);
                }
            }
        }
    }
}

/// a ← f(a, b), `a` being contiguous and of the shape of `b`'s layout.
fn zip_assign<T: Copy>(a: &mut [T], (b, layout): (&[T], &Layout), f: impl Fn(T, T) -> T) {
    let runs = Runs::new([layout]);
    let (len, [stride]) = (runs.run_len(), runs.run_strides());
    for ([start], a) in runs.zip(a.chunks_mut(len.max(1))) {
        match run(b, start, len, stride) {
            Run::Slice(y) => a.iter_mut().zip(y).for_each(|(x, y)| *x = f(*x, *y)),
            Run::Strided(y) => a.iter_mut().zip(y).for_each(|(x, y)| *x = f(*x, *y)),
        }
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $scalar:ident)*) => {$(
        impl std::ops::$trait for &BitNetTensor {
            type Output = Result<BitNetTensor>;
            fn $method(self, other: Self) -> Self::Output {
                BitNetTensor::$method(self, other)
            }
        }
        impl std::ops::$trait<f64> for &BitNetTensor {
            type Output = Result<BitNetTensor>;
            fn $method(self, number: f64) -> Self::Output {
                self.$scalar(number)
            }
        }
    )*};
}

operators!(
    Add add add_scalar
    Sub sub sub_scalar
    Mul mul mul_scalar
    Div div div_scalar
);
