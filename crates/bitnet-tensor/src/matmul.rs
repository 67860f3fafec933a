//! Matrix products, batched with NumPy's broadcasting.

use crate::gemm::{Matrix, gemm};
use crate::layout::{Layout, Runs};
use crate::storage::fill;
use crate::{BitNetDType, BitNetTensor, Dims, Element, refusal};
use bitnet_core::Result;

impl BitNetTensor {
    /// Matrix product `[…, m, k] · […, k, n] → […, m, n]`; leading axes broadcast. A vector on the left is a row, on the
    /// right a column, and that axis is missing from the result.
    ///
    /// f32 runs on all threads of the current rayon pool and may differ in the last bits between machines; f16 and
    /// bf16 are computed in f32 and rounded. i8 gives i32, and i32 and i64 their own type, wrapping.
    ///
    /// # Errors
    /// If an operand is a scalar, the shapes do not fit, the types differ or are u8 or bool, or memory is short.
    pub fn matmul(&self, other: &Self) -> Result<Self> {
        const OP: &str = "matmul";
        if self.dtype != other.dtype {
            return Err(refusal::dtypes(OP, self.dtype, other.dtype));
        }
        let (row, column) = (self.rank() == 1, other.rank() == 1);
        let a = if row {
            self.unsqueeze(0)?
        } else {
            self.clone()
        };
        let b = if column {
            other.unsqueeze(1)?
        } else {
            other.clone()
        };
        let product = Product::new(&a.layout, &b.layout).ok_or_else(|| {
            refusal::shapes(
                OP,
                "[…, m, k] and […, k, n], leading axes broadcasting together",
                &self.layout.shape,
                &other.layout.shape,
            )
        })?;
        let mut result = match self.dtype {
            BitNetDType::F32 => a.float_product(&b, &product)?,
            BitNetDType::F16 | BitNetDType::BF16 => a
                .to_dtype(BitNetDType::F32)?
                .matmul(&b.to_dtype(BitNetDType::F32)?)?
                .to_dtype(self.dtype)?,
            BitNetDType::I8 => a.integer_product::<i8, i32>(&b, &product)?,
            BitNetDType::I32 => a.integer_product::<i32, i32>(&b, &product)?,
            BitNetDType::I64 => a.integer_product::<i64, i64>(&b, &product)?,
            found => return Err(refusal::dtype(OP, "a float or signed integer", found)),
        };
        if column {
            result = result.squeeze(-1)?;
        }
        if row {
            result = result.squeeze(if column { -1 } else { -2 })?;
        }
        Ok(result)
    }

    fn float_product(&self, other: &Self, product: &Product) -> Result<Self> {
        // Matrices that share their right side and lie one below the other are one tall matrix.
        if self.rank() > 2 && other.rank() == 2 && self.is_contiguous() && !self.is_empty() {
            let [m, n, k] = product.size;
            let tall = self.reshape(&[self.len() / k, k])?.matmul(other)?;
            let mut shape = self.layout.shape;
            let rank = shape.len();
            shape[rank - 2..].copy_from_slice(&[m, n]);
            return tall.reshape(&shape);
        }
        let (a, b) = (
            self.elements::<f32>("matmul")?,
            other.elements::<f32>("matmul")?,
        );
        self.products(BitNetDType::F32, product, |[i, j], out| {
            let a = Matrix {
                data: a,
                offset: i,
                strides: product.strides[0],
            };
            let b = Matrix {
                data: b,
                offset: j,
                strides: product.strides[1],
            };
            gemm(a, b, out, product.size);
        })
    }

    fn integer_product<T: Element, U: Sum<T>>(
        &self,
        other: &Self,
        product: &Product,
    ) -> Result<Self> {
        let (a, b) = (
            self.elements::<T>("matmul")?,
            other.elements::<T>("matmul")?,
        );
        let [_, n, k] = product.size;
        let [[a_row, a_col], [b_row, b_col]] = product.strides;
        self.products(U::DTYPE, product, |[i, j], out: &mut [U]| {
            out.fill(U::from_i64(0));
            for (row, out) in out.chunks_exact_mut(n).enumerate() {
                for l in 0..k {
                    let x = a[i + row * a_row + l * a_col];
                    for (col, out) in out.iter_mut().enumerate() {
                        *out = out.add_product(x, b[j + l * b_row + col * b_col]);
                    }
                }
            }
        })
    }

    /// Calls `f` with where each pair of matrices begins and the place of their product, which it must fill.
    fn products<T: Element>(
        &self,
        dtype: BitNetDType,
        product: &Product,
        f: impl Fn([usize; 2], &mut [T]),
    ) -> Result<Self> {
        fill(product.shape, dtype, self.device(), self.pool(), |out| {
            let [m, n, _] = product.size;
            if out.is_empty() {
                return Ok(());
            }
            let runs = Runs::new([&product.batches[0], &product.batches[1]]);
            let (len, strides) = (runs.run_len(), runs.run_strides());
            let starts = runs.flat_map(|[i, j]| {
                (0..len).map(move |step| [i + step * strides[0], j + step * strides[1]])
            });
            for (start, out) in starts.zip(out.chunks_exact_mut(m * n)) {
                f(start, out);
            }
            Ok(())
        })
    }
}

/// Integers that products of `T` add up to.
trait Sum<T>: Element {
    fn add_product(self, a: T, b: T) -> Self;
}

impl Sum<i8> for i32 {
    fn add_product(self, a: i8, b: i8) -> Self {
        self.wrapping_add(Self::from(a) * Self::from(b))
    }
}

impl Sum<Self> for i32 {
    fn add_product(self, a: Self, b: Self) -> Self {
        self.wrapping_add(a.wrapping_mul(b))
    }
}

impl Sum<Self> for i64 {
    fn add_product(self, a: Self, b: Self) -> Self {
        self.wrapping_add(a.wrapping_mul(b))
    }
}

/// How a batched product is made of products of matrices.
struct Product {
    /// Of the result.
    shape: Dims,
    /// Where the matrices of both operands begin, over the leading axes of the result.
    batches: [Layout; 2],
    /// Between rows and between columns of both operands' matrices.
    strides: [[usize; 2]; 2],
    /// m, n, k.
    size: [usize; 3],
}

impl Product {
    /// `None` if the shapes do not fit.
    fn new(a: &Layout, b: &Layout) -> Option<Self> {
        let (a_rank, b_rank) = (a.shape.len().checked_sub(2)?, b.shape.len().checked_sub(2)?);
        let &[m, k] = a.shape[a_rank..].as_array()?;
        let &[b_k, n] = b.shape[b_rank..].as_array()?;
        if k != b_k {
            return None;
        }
        let leading = |layout: &Layout, rank: usize| Layout {
            shape: Dims::new(&layout.shape[..rank]).unwrap_or(layout.shape),
            strides: Dims::new(&layout.strides[..rank]).unwrap_or(layout.strides),
            offset: layout.offset,
        };
        let (a_batch, b_batch) = (leading(a, a_rank), leading(b, b_rank));
        let batch = a_batch.shape.broadcast(&b_batch.shape)?;
        let rank = batch.len();
        Some(Self {
            shape: batch.insert(rank, m).ok()?.insert(rank + 1, n).ok()?,
            batches: [a_batch.broadcast_to(&batch)?, b_batch.broadcast_to(&batch)?],
            strides: [
                *a.strides[a_rank..].as_array()?,
                *b.strides[b_rank..].as_array()?,
            ],
            size: [m, n, k],
        })
    }
}
