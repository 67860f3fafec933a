//! aarch64 with the 8-bit matrix instructions: `usdot` takes unsigned bytes of any size against signed ones.

use super::neon::{Floats, Neon};
use crate::cpu::integer::{IntegerIsa, inherit, integer_kernels, whole_dots};
use crate::cpu::kernels::Kernels;
use std::arch::aarch64::*;

pub(in crate::cpu) static KERNELS: Kernels = Kernels::new::<Floats>(integer_kernels!(
    NeonI8mm,
    NeonI8mm(Neon),
    4,
    4,
    "neon,dotprod,i8mm"
));

/// Made only in functions that enable the 8-bit matrix instructions.
#[derive(Clone, Copy)]
struct NeonI8mm(Neon);

/// `sums` and the dots of unsigned bytes with signed ones. The standard library has no stable name for the instruction.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn usdot(mut sums: int32x4_t, codes: uint8x16_t, q: uint8x16_t) -> int32x4_t {
    // SAFETY: registers are all that is touched.
    unsafe {
        std::arch::asm!(
            "usdot {sums:v}.4s, {codes:v}.16b, {q:v}.16b",
            sums = inout(vreg) sums,
            codes = in(vreg) codes,
            q = in(vreg) q,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

impl NeonI8mm {
    #[inline(always)]
    fn dot4(self, sums: int32x4_t, codes: uint8x16_t, q: uint8x16_t) -> int32x4_t {
        // SAFETY: the instructions are there by the type.
        unsafe { usdot(sums, codes, q) }
    }

    #[inline(always)]
    fn thrice_less(self, a: int32x4_t, b: int32x4_t, c: int32x4_t) -> int32x4_t {
        // SAFETY: NEON is part of aarch64.
        unsafe { vaddq_s32(vsubq_s32(vmulq_n_s32(a, 3), b), c) }
    }
}

impl IntegerIsa for NeonI8mm {
    inherit!(uint8x16_t, int32x4_t, 16);
    whole_dots!(uint8x16_t, int32x4_t);
}
