//! aarch64 with the dot product instructions: `sdot` multiplies sixteen bytes and adds them in fours to i32.

use super::neon::{Floats, Neon};
use crate::cpu::integer::{IntegerIsa, inherit, kernels};
use std::arch::aarch64::*;

kernels!(
    NeonDotprod,
    Floats,
    4,
    4,
    is_aarch64_feature_detected("neon", "dotprod")
);

/// Proof that the machine has the dot product instructions.
#[derive(Clone, Copy)]
struct NeonDotprod(Neon);

impl NeonDotprod {
    /// Where they are enabled, the machine has them.
    #[inline]
    #[target_feature(enable = "neon,dotprod")]
    fn enabled() -> Self {
        Self(Neon::enabled())
    }
}

/// `sums` and the dots of signed bytes. The standard library has no stable name for the instruction.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot(mut sums: int32x4_t, a: uint8x16_t, b: uint8x16_t) -> int32x4_t {
    // SAFETY: registers are all that is touched.
    unsafe {
        std::arch::asm!(
            "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) sums,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

impl IntegerIsa for NeonDotprod {
    inherit!(uint8x16_t, int32x4_t, 16);
    type Open = int32x4_t;
    const RUN: usize = usize::MAX;

    #[inline(always)]
    fn open(self, sums: int32x4_t) -> int32x4_t {
        sums
    }

    #[inline(always)]
    fn dot(self, open: int32x4_t, codes: uint8x16_t, q: uint8x16_t) -> int32x4_t {
        // SAFETY: the instructions are there by the type.
        unsafe { sdot(open, codes, q) }
    }

    #[inline(always)]
    fn close(self, _: int32x4_t, open: int32x4_t) -> int32x4_t {
        open
    }
}
