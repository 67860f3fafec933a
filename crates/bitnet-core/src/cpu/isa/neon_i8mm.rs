//! aarch64 with the 8-bit matrix instructions: `usdot` takes unsigned bytes of any size against signed ones, and `smmla`
//! multiplies two rows of eight bytes with two others, twice what a dot does.
//!
//! Many tokens meet pairs of rows and steps: a panel is settled as `[pair of steps, rows 0 and 1 of each four | rows 2
//! and 3, 8]`, a last step without a partner as it was.

use super::neon::{Floats, Neon};
use crate::cpu::integer::{IntegerIsa, inherit, kernels, whole_dots};
use std::arch::aarch64::*;

kernels!(
    NeonI8mm,
    Floats,
    4,
    4,
    is_aarch64_feature_detected("neon", "dotprod", "i8mm")
);

/// Proof that the machine has the dot product instructions and the 8-bit matrix instructions.
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

/// `sums`, 2 × 2, and the products of the two rows of eight bytes in `a` with those in `b`. The standard library has no
/// stable name for the instruction.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn smmla(mut sums: int32x4_t, a: uint8x16_t, b: uint8x16_t) -> int32x4_t {
    // SAFETY: registers are all that is touched.
    unsafe {
        std::arch::asm!(
            "smmla {sums:v}.4s, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) sums,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sums
}

/// Products of four rows with two tokens: of the first two rows and of the others.
type Block = [int32x4_t; 2];

impl NeonI8mm {
    /// Where they are enabled, the machine has them.
    #[inline]
    #[target_feature(enable = "neon,dotprod,i8mm")]
    fn enabled() -> Self {
        Self(Neon::enabled())
    }

    /// Two steps of four rows, as two registers of two rows each.
    #[inline(always)]
    fn rows(self, [first, second]: [uint8x16_t; 2]) -> [uint8x16_t; 2] {
        // SAFETY: NEON is part of aarch64.
        unsafe {
            let words = [vreinterpretq_u32_u8(first), vreinterpretq_u32_u8(second)];
            [
                vreinterpretq_u8_u32(vzip1q_u32(words[0], words[1])),
                vreinterpretq_u8_u32(vzip2q_u32(words[0], words[1])),
            ]
        }
    }

    /// Two steps of a pair of tokens, or of the last one and zeros.
    #[inline(always)]
    fn tokens<const TOKENS: usize>(
        self,
        steps: [&[[i8; 4]; TOKENS]; 2],
        pair: usize,
    ) -> uint8x16_t {
        // SAFETY: NEON is part of aarch64.
        let mut registers = [unsafe { vdupq_n_u8(0) }; 2];
        for (register, step) in registers.iter_mut().zip(steps) {
            let two = step[2 * pair..TOKENS.min(2 * pair + 2)].as_flattened();
            let mut bytes = [0; 8];
            bytes[..two.len()].copy_from_slice(bytemuck::cast_slice(two));
            // SAFETY: as above.
            *register = unsafe { vcombine_u8(vcreate_u8(u64::from_le_bytes(bytes)), vdup_n_u8(0)) };
        }
        self.rows(registers)[0]
    }

    /// Adds the products of two steps: `codes` are registers of two rows, `q` the tokens of each step.
    #[inline(always)]
    fn add_steps<const VECTORS: usize, const TOKENS: usize>(
        self,
        blocks: &mut [[Block; VECTORS]; TOKENS],
        codes: &[[uint8x16_t; 2]; VECTORS],
        q: [&[[i8; 4]; TOKENS]; 2],
    ) {
        let pairs = blocks.iter_mut().take(TOKENS.div_ceil(2));
        for (pair, blocks) in pairs.enumerate() {
            let tokens = self.tokens(q, pair);
            for (block, codes) in blocks.iter_mut().zip(codes) {
                let [low, high] = *block;
                // SAFETY: the instructions are there by the type.
                *block = unsafe { [smmla(low, codes[0], tokens), smmla(high, codes[1], tokens)] };
            }
        }
    }

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

    #[inline(always)]
    fn settle<const VECTORS: usize>(self, codes: &mut [u8]) {
        let step = VECTORS * Self::WIDTH;
        for steps in codes.chunks_exact_mut(2 * step) {
            for vector in 0..VECTORS {
                let at = [vector * Self::WIDTH, step + vector * Self::WIDTH];
                let [low, high] =
                    self.rows([self.load(&steps[at[0]..]), self.load(&steps[at[1]..])]);
                self.store(low, &mut steps[at[0]..]);
                self.store(high, &mut steps[at[1]..]);
            }
        }
    }

    #[inline(always)]
    fn panel_sums<const VECTORS: usize, const TOKENS: usize>(
        self,
        codes: &[u8],
        q: &[i8],
    ) -> [[int32x4_t; VECTORS]; TOKENS] {
        let step = VECTORS * Self::WIDTH;
        // Of pairs of tokens: the second half of them stays unused.
        let mut blocks = [[[self.zero(); 2]; VECTORS]; TOKENS];
        // SAFETY: NEON is part of aarch64.
        let zero = unsafe { vdupq_n_u8(0) };
        let mut registers = [[zero; 2]; VECTORS];
        let mut pairs = codes.chunks_exact(2 * step);
        let (q_pairs, q_last) = q
            .as_chunks::<4>()
            .0
            .as_chunks::<TOKENS>()
            .0
            .as_chunks::<2>();
        for (codes, [now, next]) in (&mut pairs).zip(q_pairs) {
            for (vector, registers) in registers.iter_mut().enumerate() {
                let at = vector * Self::WIDTH;
                *registers = [self.load(&codes[at..]), self.load(&codes[step + at..])];
            }
            self.add_steps(&mut blocks, &registers, [now, next]);
        }
        if let [now] = q_last {
            let codes = pairs.remainder();
            for (vector, registers) in registers.iter_mut().enumerate() {
                *registers = self.rows([self.load(&codes[vector * Self::WIDTH..]), zero]);
            }
            self.add_steps(&mut blocks, &registers, [now, now]);
        }
        let mut sums = [[self.zero(); VECTORS]; TOKENS];
        for (token, sums) in sums.iter_mut().enumerate() {
            for (sums, [low, high]) in sums.iter_mut().zip(blocks[token / 2]) {
                // SAFETY: NEON is part of aarch64.
                unsafe {
                    *sums = if token % 2 == 0 {
                        vuzp1q_s32(low, high)
                    } else {
                        vuzp2q_s32(low, high)
                    };
                }
            }
        }
        sums
    }
}
