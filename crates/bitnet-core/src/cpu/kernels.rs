//! What an instruction set must provide: one table of functions, chosen once when a backend starts.

use super::isa::Isa;
use crate::simd::{
    Add, Attend, Dot, DotPacked, DotTile, Gated, Quantize, ROWS, RmsNorm, RoundRow, Steps, Unpack,
    WideDot, ZipInPlace,
};
use crate::{Gate, Result};
use bitnet_quant::Format;
use rten_simd::SimdOp;

/// Keys and values, `[position, stride]` each.
pub(super) type KeysValues<'a> = (&'a [f32], &'a [f32]);

/// Rows of weights, and of activations, that one call of `tile_sums` multiplies.
pub(super) const TILE: usize = 4;

/// Runs the definitions of `simd` on one instruction set, named rather than detected, so that `BITNET_ISA` is obeyed.
pub(super) trait FloatIsa {
    fn run<Op: SimdOp>(op: Op) -> Op::Output;
}

/// The kernels of one instruction set. Float kernels are those of `simd`; integer kernels are exact.
pub(super) struct Kernels {
    /// Σ aᵢ·bᵢ.
    pub(super) dot: fn(&[f32], &[f32]) -> f32,
    /// Σ xᵢ·wᵢ of four rows of a dense format.
    pub(super) dot_packed: fn(Format, &[f32], [&[u8]; ROWS]) -> [f32; ROWS],
    /// The weights of a row of a dense format.
    pub(super) unpack: fn(Format, &[u8], &mut [f32]),
    /// Products of four rows of weights with four of activations, `[weights, activations]`.
    pub(super) dot_tile: fn([&[f32]; ROWS], [&[f32]; ROWS]) -> [f32; ROWS * ROWS],
    /// A row to int8, and what that costs.
    pub(super) round_row: fn(&[f32], &mut [i8]) -> Steps,
    /// Σ qᵢ·xᵢ, exact.
    pub(super) wide_dot: fn(&[i8], &[i16]) -> i64,
    /// RMSNorm in place.
    pub(super) rms_norm: fn(&mut [f32], &[f32], f32),
    /// int8 by absmax; returns the scale.
    pub(super) quantize: fn(&[f32], &mut [i8]) -> f32,
    /// gate(g)·u into g.
    pub(super) gate: fn(&mut [f32], &[f32], Gate),
    /// One query head over all positions of `scores`.
    pub(super) attend: fn(&[f32], KeysValues<'_>, (usize, usize), &mut [f32], &mut [f32]),
    /// x += y.
    pub(super) add: fn(&mut [f32], &[f32]),
    /// Straight from a packed ternary row: Σ (tᵢ + 1)·qᵢ over each of `out.len()` equal groups of columns.
    pub(super) packed_sums: fn(Format, &[u8], &[i8], &mut [i32]) -> Result<()>,
    /// A tile of four unpacked rows of codes tᵢ + 1 and four rows of activations: Σ code·q over each group of `group`
    /// columns (a multiple of 64), as `out[16·group index + 4·code row + activation row]`.
    pub(super) tile_sums: fn([&[u8]; TILE], [&[i8]; TILE], usize, &mut [i32]),
}

impl Kernels {
    /// The float kernels run by `F`, and the kernels that each instruction set has of its own.
    pub(super) const fn new<F: FloatIsa>(
        packed_sums: fn(Format, &[u8], &[i8], &mut [i32]) -> Result<()>,
        tile_sums: fn([&[u8]; TILE], [&[i8]; TILE], usize, &mut [i32]),
    ) -> Self {
        Self {
            dot: |a, b| F::run(Dot(a, b)),
            dot_packed: |format, x, rows| F::run(DotPacked { format, x, rows }),
            unpack: |format, row, out| F::run(Unpack { format, row, out }),
            dot_tile: |w, x| F::run(DotTile { x, w }),
            round_row: |w, q| F::run(RoundRow(w, q)),
            wide_dot: |q, x| F::run(WideDot(q, x)),
            rms_norm: |x, gain, eps| F::run(RmsNorm(x, gain, eps)),
            quantize: |x, q| F::run(Quantize(x, q)),
            gate: |g, u, function| F::run(Gated(g, u, function)),
            attend: |q, keys_values, place, scores, out| {
                F::run(Attend {
                    q,
                    keys_values,
                    place,
                    scores,
                    out,
                });
            },
            add: |x, y| F::run(ZipInPlace(Add, x, y)),
            packed_sums,
            tile_sums,
        }
    }
}

/// The kernels of `isa`, which the caller knows to be available.
pub(super) fn of(isa: Isa) -> &'static Kernels {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if isa.is_available() => &super::avx2::KERNELS,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni if isa.is_available() => &super::avx512::KERNELS,
        _ => &super::scalar::KERNELS,
    }
}
