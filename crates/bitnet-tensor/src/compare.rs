//! Comparison, element by element with NumPy's broadcasting, to [`BitNetDType::Bool`]; and choice by the result.

use crate::dispatch::with_type;
use crate::element::{Run, run};
use crate::layout::{Layout, Runs};
use crate::storage::fill;
use crate::{BitNetDType, BitNetTensor, Element, refusal};
use bitnet_core::Result;
use bitnet_core::simd::{self, Comparison};

macro_rules! comparisons {
    ($($(#[$doc:meta])* $name:ident $comparison:ident;)*) => {
        impl BitNetTensor {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// If the shapes do not broadcast together, the types differ, or memory is short.
            pub fn $name(&self, other: &Self) -> Result<Self> {
                self.compare(stringify!($name), other, Comparison::$comparison)
            }
        )*}
    };
}

comparisons! {
    /// a = b; NaN equals nothing.
    eq Equal;
    /// a ≠ b.
    ne NotEqual;
    /// a < b.
    lt Less;
    /// a ≤ b.
    le LessEqual;
    /// a > b.
    gt Greater;
    /// a ≥ b.
    ge GreaterEqual;
}

impl BitNetTensor {
    fn compare(&self, op: &str, other: &Self, comparison: Comparison) -> Result<Self> {
        let (shape, a, b) = self.broadcast(other, op)?;
        let (device, pool) = (self.device(), self.pool());
        if self.dtype == BitNetDType::F32 {
            let (x, y) = (self.elements::<f32>(op)?, other.elements::<f32>(op)?);
            return fill::<u8>(shape, BitNetDType::Bool, device, pool, |out| {
                compare_floats(comparison, (x, &a), (y, &b), out);
                Ok(())
            });
        }
        with_type!(self.dtype, T => {
            let (x, y) = (self.elements::<T>(op)?, other.elements::<T>(op)?);
            fill::<u8>(shape, BitNetDType::Bool, device, pool, |out| {
                match comparison {
                    Comparison::Equal => zip((x, &a), (y, &b), out, |x, y| x == y),
                    Comparison::NotEqual => zip((x, &a), (y, &b), out, |x, y| x != y),
                    Comparison::Less => zip((x, &a), (y, &b), out, |x, y| x < y),
                    Comparison::LessEqual => zip((x, &a), (y, &b), out, |x, y| x <= y),
                    Comparison::Greater => zip((x, &a), (y, &b), out, |x, y| x > y),
                    Comparison::GreaterEqual => zip((x, &a), (y, &b), out, |x, y| x >= y),
                }
                Ok(())
            })
        })
    }

    /// Elements of `yes` where this bool tensor is true and of `no` elsewhere; all three broadcast together.
    ///
    /// # Errors
    /// If this is no bool tensor, the shapes do not broadcast together, the types of `yes` and `no` differ, or
    /// memory is short.
    pub fn choose(&self, yes: &Self, no: &Self) -> Result<Self> {
        const OP: &str = "choose";
        if self.dtype != BitNetDType::Bool {
            return Err(refusal::dtype(OP, "bool", self.dtype));
        }
        let (pair, _, _) = yes.broadcast(no, OP)?;
        let shape = self.layout.shape.broadcast(&pair).ok_or_else(|| {
            refusal::shapes(
                OP,
                "shapes that broadcast together",
                &self.layout.shape,
                &pair,
            )
        })?;
        let wide = |tensor: &Self| tensor.broadcast_to(&shape);
        let (condition, yes, no) = (wide(self)?.contiguous()?, wide(yes)?, wide(no)?);
        let condition = condition.as_slice::<u8>()?;
        with_type!(yes.dtype, T => {
            let (x, y) = (yes.elements::<T>(OP)?, no.elements::<T>(OP)?);
            fill::<T>(shape, yes.dtype, yes.device(), yes.pool(), |out| {
                choose_into(condition, (x, &yes.layout), (y, &no.layout), out);
                Ok(())
            })
        })
    }
}

/// Where both operands run over neighbours, or the right one repeats, a kernel does the run.
fn compare_floats(
    comparison: Comparison,
    (a, a_layout): (&[f32], &Layout),
    (b, b_layout): (&[f32], &Layout),
    out: &mut [u8],
) {
    let runs = Runs::new([a_layout, b_layout]);
    let len = runs.run_len();
    match runs.run_strides() {
        [1, 1] => {
            for ([x, y], out) in runs.zip(out.chunks_mut(len.max(1))) {
                simd::compare(comparison, &a[x..x + len], &b[y..y + len], out);
            }
        }
        [1, 0] => {
            for ([x, y], out) in runs.zip(out.chunks_mut(len.max(1))) {
                simd::compare_scalar(comparison, &a[x..x + len], b[y], out);
            }
        }
        _ => zip((a, a_layout), (b, b_layout), out, |x, y| {
            comparison.holds(x, y)
        }),
    }
}

/// out ← 1 where f(a, b), else 0; both layouts are of one shape.
fn zip<T: Element>(
    (a, a_layout): (&[T], &Layout),
    (b, b_layout): (&[T], &Layout),
    out: &mut [u8],
    f: impl Fn(T, T) -> bool,
) {
    let runs = Runs::new([a_layout, b_layout]);
    let (len, [a_stride, b_stride]) = (runs.run_len(), runs.run_strides());
    for ([a_start, b_start], out) in runs.zip(out.chunks_mut(len.max(1))) {
        match (
            run(a, a_start, len, a_stride),
            run(b, b_start, len, b_stride),
        ) {
            (Run::Slice(x), Run::Slice(y)) => {
                let pairs = x.iter().zip(y);
                out.iter_mut()
                    .zip(pairs)
                    .for_each(|(out, (x, y))| *out = u8::from(f(*x, *y)));
            }
            _ => {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = u8::from(f(a[a_start + i * a_stride], b[b_start + i * b_stride]));
                }
            }
        }
    }
}

fn choose_into<T: Element>(
    condition: &[u8],
    yes: (&[T], &Layout),
    no: (&[T], &Layout),
    out: &mut [T],
) {
    crate::element::gather(no.0, no.1, out);
    let runs = Runs::new([yes.1]);
    let (len, [stride]) = (runs.run_len(), runs.run_strides());
    let pieces = out.chunks_mut(len.max(1)).zip(condition.chunks(len.max(1)));
    for ([start], (out, condition)) in runs.zip(pieces) {
        for (i, (out, condition)) in out.iter_mut().zip(condition).enumerate() {
            if *condition != 0 {
                *out = yes.0[start + i * stride];
            }
        }
    }
}
