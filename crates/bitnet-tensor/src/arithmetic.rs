//! Arithmetic of two tensors, or of a tensor and a number, with NumPy's broadcasting.
//!
//! Integers wrap; their quotient truncates towards 0 and a divisor of 0 is an error. f16 and bf16 are computed
//! in f32 and rounded. The lesser or greater of two floats is the left one if either is NaN.

use crate::create::scalar;
use crate::element::{Run, run};
use crate::layout::{Layout, Runs};
use crate::pieces::in_pieces;
use crate::storage::fill;
use crate::{BitNetDType, BitNetTensor, Dims, Element, refusal};
use bitnet_core::{Result, simd};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
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

/// One operation on slices of one element type.
struct Kernels<T> {
    /// Of two elements.
    one: fn(T, T) -> T,
    /// outᵢ = f(aᵢ, bᵢ).
    zip: fn(&[T], &[T], &mut [T]),
    /// aᵢ = f(aᵢ, bᵢ).
    zip_assign: fn(&mut [T], &[T]),
    /// outᵢ = f(aᵢ, b).
    right: fn(&[T], T, &mut [T]),
    /// aᵢ = f(aᵢ, b).
    right_assign: fn(&mut [T], T),
}

/// An element type with arithmetic of its own.
trait Number: Element {
    fn kernels(op: Binary) -> Kernels<Self>;
}

impl Number for f32 {
    fn kernels(op: Binary) -> Kernels<Self> {
        macro_rules! of {
            ($one:expr, $zip:ident, $zip_assign:ident, $right:ident, $right_assign:ident) => {
                Kernels {
                    one: $one,
                    zip: simd::$zip,
                    zip_assign: simd::$zip_assign,
                    right: simd::$right,
                    right_assign: simd::$right_assign,
                }
            };
        }
        match op {
            Binary::Add => of!(|a, b| a + b, add, add_assign, add_scalar, add_scalar_assign),
            Binary::Sub => of!(|a, b| a - b, sub, sub_assign, sub_scalar, sub_scalar_assign),
            Binary::Mul => of!(|a, b| a * b, mul, mul_assign, mul_scalar, mul_scalar_assign),
            Binary::Div => of!(|a, b| a / b, div, div_assign, div_scalar, div_scalar_assign),
            Binary::Minimum => of!(
                |a, b| if a > b { b } else { a },
                minimum,
                minimum_assign,
                minimum_scalar,
                minimum_scalar_assign
            ),
            Binary::Maximum => of!(
                |a, b| if a < b { b } else { a },
                maximum,
                maximum_assign,
                maximum_scalar,
                maximum_scalar_assign
            ),
        }
    }
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl Number for $type {
            fn kernels(op: Binary) -> Kernels<Self> {
                macro_rules! of {
                    ($f:expr) => {
                        Kernels {
                            one: $f,
                            zip: |a, b, out| {
                                let pairs = a.iter().zip(b);
                                out.iter_mut().zip(pairs).for_each(|(out, (a, b))| *out = $f(*a, *b));
                            },
                            zip_assign: |a, b| a.iter_mut().zip(b).for_each(|(a, b)| *a = $f(*a, *b)),
                            right: |a, b, out| out.iter_mut().zip(a).for_each(|(out, a)| *out = $f(*a, b)),
                            right_assign: |a, b| a.iter_mut().for_each(|a| *a = $f(*a, b)),
                        }
                    };
                }
                match op {
                    Binary::Add => of!(Self::wrapping_add),
                    Binary::Sub => of!(Self::wrapping_sub),
                    Binary::Mul => of!(Self::wrapping_mul),
                    // Divisors of 0 were refused.
                    Binary::Div => of!(|a: Self, b: Self| if b == 0 { 0 } else { a.wrapping_div(b) }),
                    Binary::Minimum => of!(<Self as Ord>::min),
                    Binary::Maximum => of!(<Self as Ord>::max),
                }
            }
        }
    )*};
}

integers!(i8 u8 i32 i64);

/// Evaluates the body with `$T` as the Rust type of a number that has kernels.
macro_rules! with_number {
    ($op:expr, $dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            BitNetDType::F32 => {
                type $T = f32;
                $body
            }
            BitNetDType::I8 => {
                type $T = i8;
                $body
            }
            BitNetDType::U8 => {
                type $T = u8;
                $body
            }
            BitNetDType::I32 => {
                type $T = i32;
                $body
            }
            BitNetDType::I64 => {
                type $T = i64;
                $body
            }
            found => Err(refusal::dtype($op.name(), "a number", found)),
        }
    };
}

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
        if self.is_half() {
            return self
                .wide()?
                .binary(&other.wide()?, op)?
                .to_dtype(self.dtype);
        }
        with_number!(op, self.dtype, T => {
            let (x, y) = (self.elements::<T>(op.name())?, other.elements::<T>(op.name())?);
            refuse_zero_divisor(op, self.dtype, y, &b)?;
            fill(shape, self.dtype, self.device(), self.pool(), |out| {
                let kernels = T::kernels(op);
                in_pieces([&a, &b], 1, out, |[a, b], out| apply(&kernels, (x, a), (y, b), out));
                Ok(())
            })
        })
    }

    fn binary_scalar(&self, number: f64, op: Binary) -> Result<Self> {
        if self.is_half() {
            return self.wide()?.binary_scalar(number, op)?.to_dtype(self.dtype);
        }
        with_number!(op, self.dtype, T => {
            let x = self.elements::<T>(op.name())?;
            let y = [scalar::<T>(op.name(), number, self.dtype)?];
            let repeated = Layout {
                shape: self.layout.shape,
                strides: Dims::zeros_like(&self.layout.shape),
                offset: 0,
            };
            refuse_zero_divisor(op, self.dtype, &y, &repeated)?;
            fill(self.layout.shape, self.dtype, self.device(), self.pool(), |out| {
                let kernels = T::kernels(op);
                in_pieces([&self.layout, &repeated], 1, out, |[a, b], out| {
                    apply(&kernels, (x, a), (&y, b), out);
                });
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
        if self.is_half() {
            *self = self.binary(other, op)?;
            return Ok(());
        }
        with_number!(op, self.dtype, T => {
            let y = other.elements::<T>(op.name())?;
            refuse_zero_divisor(op, self.dtype, y, &b)?;
            let kernels = T::kernels(op);
            in_pieces([&b], 1, self.elements_mut::<T>()?, |[b], a| {
                apply_assign(&kernels, a, (y, b));
            });
            Ok(())
        })
    }

    fn is_half(&self) -> bool {
        matches!(self.dtype, BitNetDType::F16 | BitNetDType::BF16)
    }

    fn wide(&self) -> Result<Self> {
        self.to_dtype(BitNetDType::F32)
    }

    /// The common shape, and both layouts under it.
    pub(crate) fn broadcast(&self, other: &Self, op: &str) -> Result<(Dims, Layout, Layout)> {
        let (a, b) = (&self.layout.shape, &other.layout.shape);
        let shapes = || refusal::shapes(op, "shapes that broadcast together", a, b);
        if self.dtype != other.dtype {
            return Err(refusal::dtypes(op, self.dtype, other.dtype));
        }
        if a == b {
            return Ok((*a, self.layout, other.layout));
        }
        let shape = a.broadcast(b).ok_or_else(shapes)?;
        let wide = |layout: &Layout| layout.broadcast_to(&shape).ok_or_else(shapes);
        Ok((shape, wide(&self.layout)?, wide(&other.layout)?))
    }
}

/// Looks for a 0 that an integer would be divided by.
fn refuse_zero_divisor<T: Element>(
    op: Binary,
    dtype: BitNetDType,
    divisors: &[T],
    layout: &Layout,
) -> Result<()> {
    if op != Binary::Div || dtype.is_float() {
        return Ok(());
    }
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

/// out ← f(a, b), both layouts being of one shape.
fn apply<T: Element>(
    kernels: &Kernels<T>,
    (a, a_layout): (&[T], &Layout),
    (b, b_layout): (&[T], &Layout),
    out: &mut [T],
) {
    let runs = Runs::new([a_layout, b_layout]);
    let (len, [a_stride, b_stride]) = (runs.run_len(), runs.run_strides());
    for ([a_start, b_start], out) in runs.zip(out.chunks_mut(len.max(1))) {
        match run(a, a_start, len, a_stride) {
            Run::Slice(x) if b_stride == 0 => (kernels.right)(x, b[b_start], out),
            Run::Slice(x) if b_stride == 1 => {
                (kernels.zip)(x, &b[b_start..b_start + len], out);
            }
            Run::Slice(x) => {
                out.copy_from_slice(x);
                assign_run(kernels, out, b, b_start, b_stride);
            }
            Run::Strided(x) => {
                out.iter_mut().zip(x).for_each(|(out, x)| *out = *x);
                assign_run(kernels, out, b, b_start, b_stride);
            }
        }
    }
}

/// a ← f(a, b), `a` being contiguous and of the shape of `b`'s layout.
fn apply_assign<T: Element>(kernels: &Kernels<T>, a: &mut [T], (b, layout): (&[T], &Layout)) {
    let runs = Runs::new([layout]);
    let (len, [stride]) = (runs.run_len(), runs.run_strides());
    for ([start], a) in runs.zip(a.chunks_mut(len.max(1))) {
        assign_run(kernels, a, b, start, stride);
    }
}

fn assign_run<T: Element>(kernels: &Kernels<T>, a: &mut [T], b: &[T], start: usize, stride: usize) {
    if stride == 0 {
        return (kernels.right_assign)(a, b[start]);
    }
    match run(b, start, a.len(), stride) {
        Run::Slice(y) => (kernels.zip_assign)(a, y),
        Run::Strided(y) => {
            for (x, y) in a.iter_mut().zip(y) {
                *x = (kernels.one)(*x, *y);
            }
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
