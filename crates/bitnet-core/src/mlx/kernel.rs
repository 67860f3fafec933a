//! The ternary product of few tokens on a Mac's GPU, by a kernel of our own (`shaders-metal/mlx_ternary.metal`).
//!
//! MLX's own product reads a scale and a bias for every group of weights; where the tensor has one scale these are a fifth of
//! all bytes, and a product of few tokens takes as long as its bytes are read.

use super::thread::MlxThreadToken;
use super::weights::Affine;
use super::{dimension, failed, is_gpu};
use crate::Result;
use mlx_rs::fast::{
    MetalKernel, MetalKernelApplyOptions, MetalKernelOptions, MetalKernelOutput, TemplateArg,
};
use mlx_rs::{Array, Dtype};
use std::cell::OnceCell;

const FUNCTION: &str = include_str!("../../../../shaders-metal/mlx_ternary.metal");
const BODY: &str = "\
    const uint simdgroup = threadgroup_position_in_grid.x * simdgroups_per_threadgroup + simdgroup_index_in_threadgroup;
    const uint token = threadgroup_position_in_grid.y;
    ternary_rows<GROUP>(x + token * COLUMNS, codes, scales, out + token * ROWS, COLUMNS, ROWS,
        TERNARY_ROWS * simdgroup, thread_index_in_simdgroup);
";

/// The most tokens that this is for: more share the unpacking of weights in MLX's product.
const TOKENS: usize = 8;
/// Rows that a SIMD group multiplies: `TERNARY_ROWS`.
const ROWS: usize = 4;
/// Threads of a SIMD group.
const LANES: usize = 32;
/// SIMD groups of a thread group.
const SIMDGROUPS: usize = 2;
/// MLX hands smaller arrays to kernels in another address space.
const SMALLEST: usize = 8;

thread_local! {
    /// MLX's thread has one.
    static KERNEL: OnceCell<MetalKernel> = const { OnceCell::new() };
}

/// `x`, whole numbers of `[tokens, columns]`, times the codes; nothing if this is not for so many tokens or so few weights.
pub(super) fn ternary_rows(
    mlx: &MlxThreadToken,
    matrix: &Affine,
    x: &Array,
) -> Result<Option<Array>> {
    let (codes, scales) = (matrix.codes.get(mlx), matrix.groups.scales.get(mlx));
    let (&[tokens, columns], &[rows, _]) = (x.shape(), codes.shape()) else {
        return Ok(None);
    };
    if !is_gpu(mlx).map_err(failed)? {
        return Ok(None);
    }
    let small = [x, codes, scales].iter().any(|a| a.size() < SMALLEST);
    if matrix.bits != 2 || tokens as usize > TOKENS || small {
        return Ok(None);
    }
    let words = if matrix.groups.ones {
        0
    } else {
        matrix.group / 16
    };
    let simdgroups = (rows as usize).div_ceil(ROWS).next_multiple_of(SIMDGROUPS);
    let grid = (dimension(simdgroups * LANES)?, tokens, 1);
    let constants = [
        ("GROUP", dimension(words)?),
        ("COLUMNS", columns),
        ("ROWS", rows),
    ];
    let options = MetalKernelApplyOptions {
        template_args: constants
            .map(|(name, value)| (name.to_owned(), TemplateArg::Int(value)))
            .into(),
        ..MetalKernelApplyOptions::default()
    };
    let output = MetalKernelOutput {
        shape: vec![tokens, rows],
        dtype: Dtype::Float32,
    };
    KERNEL.with(|kernel| {
        let kernel = match kernel.get() {
            Some(kernel) => kernel,
            None => {
                let options = MetalKernelOptions {
                    header: FUNCTION.into(),
                    ensure_row_contiguous: true,
                    atomic_outputs: false,
                };
                let (inputs, outputs) = (&["x", "codes", "scales"], &["out"]);
                let made = MetalKernel::new("bitnet_ternary_rows", inputs, outputs, BODY, options);
                let made = made.map_err(failed)?;
                kernel.get_or_init(|| made)
            }
        };
        let group = (dimension(SIMDGROUPS * LANES)?, 1, 1);
        // SAFETY: every element of `out` is written by the one SIMD group that its row belongs to; what is read are the numbers
        // of the shapes that the kernel is told, of arrays that are made contiguous first; inputs are not written.
        let mut products =
            unsafe { kernel.apply(&[x, codes, scales], &[output], grid, group, options) }
                .map_err(failed)?;
        Ok(products.pop())
    })
}
