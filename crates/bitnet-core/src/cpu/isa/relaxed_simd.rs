//! WebAssembly compiled with relaxed SIMD: an instruction for dots, whose result is the same on every machine as long
//! as the codes have at most seven bits.

use super::simd128::{Floats, Simd128, signed_base3_dots};
use crate::cpu::integer::{BASE3_PLANES, IntegerIsa, inherit, kernels};
use std::arch::wasm32::*;

kernels!(RelaxedSimd, Floats, 2, 4);

/// Relaxed SIMD, without which this file is not compiled.
#[derive(Clone, Copy)]
struct RelaxedSimd(Simd128);

impl RelaxedSimd {
    const fn enabled() -> Self {
        Self(Simd128::enabled())
    }
}

impl IntegerIsa for RelaxedSimd {
    inherit!(v128, v128, 16);
    type Open = v128;
    const RUN: usize = usize::MAX;

    #[inline(always)]
    fn open(self, sums: v128) -> v128 {
        sums
    }

    #[inline(always)]
    fn dot(self, open: v128, codes: v128, q: v128) -> v128 {
        i32x4_relaxed_dot_i8x16_i7x16_add(q, codes, open)
    }

    #[inline(always)]
    fn base3_dots(self, sums: v128, bytes: v128, q: [v128; BASE3_PLANES]) -> v128 {
        signed_base3_dots(self, sums, bytes, q)
    }

    #[inline(always)]
    fn close(self, _: v128, open: v128) -> v128 {
        open
    }
}
