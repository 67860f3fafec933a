//! aarch64 with the dot product instructions: `sdot` multiplies sixteen bytes and adds them in fours to i32.

use super::neon::{Floats, Neon};
use crate::cpu::integer::{IntegerIsa, inherit, integer_kernels};
use crate::cpu::kernels::Kernels;
use std::arch::aarch64::*;

pub(in crate::cpu) static KERNELS: Kernels = Kernels::new::<Floats>(integer_kernels!(
    NeonDotprod,
    NeonDotprod(Neon),
    4,
    4,
    "neon,dotprod"
));

/// Made only in functions that enable the dot product instructions.
#[derive(Clone, Copy)]
struct NeonDotprod(Neon);

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
