//! Comparison, element by element with NumPy's broadcasting, to [`BitNetDType::Bool`]; and choice by the result.

use super::arithmetic::zip;
use super::dispatch::with_type;
use super::storage::fill;
use super::{BitNetDType, BitNetTensor, Element, refusal};
use crate::Result;

macro_rules! comparisons {
    ($($(#[$doc:meta])* $name:ident $operator:tt;)*) => {
        impl BitNetTensor {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// If the shapes do not broadcast together, the types differ, or memory is short.
            pub fn $name(&self, other: &Self) -> Result<Self> {
                const OP: &str = stringify!($name);
                let (shape, a, b) = self.broadcast(other, OP)?;
                with_type!(self.dtype, T => {
                    let (x, y) = (self.elements::<T>(OP)?, other.elements::<T>(OP)?);
                    fill::<u8>(shape, BitNetDType::Bool, self.device(), self.pool(), |out| {
                        zip((x, &a), (y, &b), out, |x, y| u8::from(x $operator y));
                        Ok(())
                    })
                })
            }
        )*}
    };
}

comparisons! {
    /// a = b; NaN equals nothing.
    eq ==;
    /// a ≠ b.
    ne !=;
    /// a < b.
    lt <;
    /// a ≤ b.
    le <=;
    /// a > b.
    gt >;
    /// a ≥ b.
    ge >=;
}

impl BitNetTensor {
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

fn choose_into<T: Element>(
    condition: &[u8],
    yes: (&[T], &super::Layout),
    no: (&[T], &super::Layout),
    out: &mut [T],
) {
    super::element::gather(no.0, no.1, out);
    let runs = super::layout::Runs::new([yes.1]);
    let (len, [stride]) = (runs.run_len(), runs.run_strides());
    let pieces = out
        .chunks_mut(len.max(1))
        .zip(condition.chunks(len.max(1)));
    for ([start], (out, condition)) in runs.zip(pieces) {
        for (i, (out, condition)) in out.iter_mut().zip(condition).enumerate() {
            if *condition != 0 {
                *out = yes.0[start + i * stride];
            }
        }
    }
}
