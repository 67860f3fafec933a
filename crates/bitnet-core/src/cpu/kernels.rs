//! What an instruction set must provide: one table of functions, chosen once when a backend starts.

use super::integer::IntegerKernels;
use crate::Gate;
use crate::simd::{
    Add, Attend, Convolve, Delta, Dot, DotPacked, DotTile, Gated, Hadamard, NarrowF16, Quantize,
    ROWS, RmsNorm, RmsNormInto, RoundHead, RoundRow, SigmoidMul, Steps, Unit, Unpack, WIDE_ROWS,
    WideTile, ZipInPlace,
};
use bitnet_quant::Format;
use half::f16;
use rten_simd::SimdOp;

/// Runs the definitions of `simd` on one instruction set, named rather than detected, so that `BITNET_ISA` is obeyed.
pub(super) trait FloatIsa {
    fn run<Op: SimdOp>(op: Op) -> Op::Output;

    /// [`Kernels::dot_packed`]: the definition of all sets, unless the set has instructions of its own for a format.
    fn dot_packed(product: DotPacked<'_>) -> [f32; ROWS] {
        Self::run(product)
    }

    /// [`Kernels::dot_tile`], likewise.
    fn dot_tile(product: DotTile<'_>) -> [[f32; ROWS]; ROWS] {
        Self::run(product)
    }

    /// [`Kernels::wide_tile`], likewise.
    fn wide_tile(product: WideTile<'_>) -> [[i64; ROWS]; WIDE_ROWS] {
        Self::run(product)
    }
}

/// The kernels of one instruction set. Float kernels are those of `simd`; integer kernels are exact.
pub(super) struct Kernels {
    /// Σ aᵢ·bᵢ.
    pub(super) dot: fn(&[f32], &[f32]) -> f32,
    /// Σ xᵢ·wᵢ of four rows of a dense format.
    pub(super) dot_packed: fn(DotPacked<'_>) -> [f32; ROWS],
    /// The weights of a row of a dense format.
    pub(super) unpack: fn(Format, &[u8], &mut [f32]),
    /// Products of four rows of a dense format with as many of four rows of activations, `[weights][activations]`.
    pub(super) dot_tile: fn(DotTile<'_>) -> [[f32; ROWS]; ROWS],
    /// A row to int8, and what that costs.
    pub(super) round_row: fn(&[f32], &mut [i8]) -> Steps,
    /// Σ qᵢ·xᵢ of two rows and up to four x, exact.
    pub(super) wide_tile: fn(WideTile<'_>) -> [[i64; ROWS]; WIDE_ROWS],
    /// RMSNorm in place.
    pub(super) rms_norm: fn(&mut [f32], &[f32], f32),
    /// RMSNorm of the first into the last.
    pub(super) rms_norm_into: fn(&[f32], &[f32], f32, &mut [f32]),
    /// int8 by absmax; returns the scale.
    pub(super) quantize: fn(&[f32], &mut [i8]) -> f32,
    /// gate(g)·u into g.
    pub(super) gate: fn(&mut [f32], &[f32], Gate),
    /// Query heads that share a head of keys and values.
    pub(super) attend: fn(Attend<'_>),
    /// To binary16, half to even.
    pub(super) narrow: fn(&[f32], &mut [f16]),
    /// The key or the value of a head to int8; returns the scale.
    pub(super) round_head: fn(&[f32], &mut [i8]) -> f32,
    /// The Hadamard transform of each block of a row, signs before it, or behind it if it is undone.
    pub(super) hadamard: fn(&mut [f32], usize, &[f32], bool),
    /// The causal convolution of a row and its SiLU.
    pub(super) convolve: fn(&[&[f32]], &[f32], &mut [f32]),
    /// A row of length 1, multiplied.
    pub(super) unit: fn(&mut [f32], f32, f32),
    /// The delta rule of a head.
    pub(super) delta: fn(Delta<'_>),
    /// x · sigmoid(g) into x.
    pub(super) open: fn(&mut [f32], &[f32]),
    /// x += y.
    pub(super) add: fn(&mut [f32], &[f32]),
    /// Ternary × int8.
    pub(super) integer: IntegerKernels,
}

impl Kernels {
    /// The float kernels run by `F`, and the kernels that each instruction set has of its own.
    pub(super) const fn new<F: FloatIsa>(integer: IntegerKernels) -> Self {
        Self {
            dot: |a, b| F::run(Dot(a, b)),
            dot_packed: F::dot_packed,
            unpack: |format, row, out| F::run(Unpack { format, row, out }),
            dot_tile: F::dot_tile,
            round_row: |w, q| F::run(RoundRow(w, q)),
            wide_tile: F::wide_tile,
            rms_norm: |x, gain, eps| F::run(RmsNorm(x, gain, eps)),
            rms_norm_into: |x, gain, eps, out| F::run(RmsNormInto(x, gain, eps, out)),
            quantize: |x, q| F::run(Quantize(x, q)),
            gate: |g, u, function| F::run(Gated(g, u, function)),
            attend: |op| F::run(op),
            narrow: |x, out| F::run(NarrowF16(x, out)),
            round_head: |x, q| F::run(RoundHead(x, q)),
            hadamard: |row, block, signs, inverse| {
                F::run(Hadamard {
                    row,
                    block,
                    signs,
                    inverse,
                });
            },
            convolve: |sources, weights, out| {
                F::run(Convolve {
                    sources,
                    weights,
                    out,
                });
            },
            unit: |x, eps, scale| F::run(Unit { x, eps, scale }),
            delta: |delta| F::run(delta),
            open: |x, g| F::run(ZipInPlace(SigmoidMul, x, g)),
            add: |x, y| F::run(ZipInPlace(Add, x, y)),
            integer,
        }
    }
}
