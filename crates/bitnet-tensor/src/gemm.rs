//! f32 matrix product over slices: bounds are checked here, the work is done by the `gemm` crate.
//!
//! Fast and not bit-reproducible between instruction sets: it fuses multiply and add where the machine can. The
//! transformer does not use it; its kernels keep one order of operations.

/// A matrix in a slice: element (i, j) lies at `offset + i·strides[0] + j·strides[1]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) offset: usize,
    pub(crate) strides: [usize; 2],
}

impl Matrix<'_> {
    /// Whether every element of a `rows × cols` matrix is in the slice.
    fn holds(&self, rows: usize, cols: usize) -> bool {
        let last = |count: usize, stride: usize| count.checked_sub(1)?.checked_mul(stride);
        let end = last(rows, self.strides[0])
            .zip(last(cols, self.strides[1]))
            .and_then(|(row, col)| self.offset.checked_add(row)?.checked_add(col));
        end.is_some_and(|end| end < self.data.len())
            && self.strides.iter().all(|s| isize::try_from(*s).is_ok())
    }
}

/// out ← a·b: `m × n`, row after row, from `m × k` and `k × n`. Zeros if k is 0 or an operand does not lie in its slice.
pub(crate) fn gemm(a: Matrix<'_>, b: Matrix<'_>, out: &mut [f32], [m, n, k]: [usize; 3]) {
    let fits = m.checked_mul(n) == Some(out.len()) && a.holds(m, k) && b.holds(k, n);
    if k == 0 || !fits {
        return out.fill(0.0);
    }
    let stride = |matrix: &Matrix<'_>, axis: usize| matrix.strides[axis] as isize;
    // SAFETY: every element of both operands lies in its slice (`holds`, so no size is 0) and `out` has m·n elements, of which row
    // i begins at i·n; `out` is borrowed exclusively, so it overlaps neither operand. `false`: it is not read.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.data.as_ptr().add(a.offset),
            stride(&a, 1),
            stride(&a, 0),
            b.data.as_ptr().add(b.offset),
            stride(&b, 1),
            stride(&b, 0),
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism(),
        );
    }
}

/// All threads of the rayon pool that the caller is in; one in a browser.
fn parallelism() -> gemm::Parallelism {
    if cfg!(target_arch = "wasm32") {
        gemm::Parallelism::None
    } else {
        gemm::Parallelism::Rayon(0)
    }
}
