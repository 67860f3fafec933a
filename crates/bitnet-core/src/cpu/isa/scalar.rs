//! The reference: portable Rust, no intrinsics.

use crate::cpu::integer::{IntegerIsa, kernels};
use crate::cpu::kernels::FloatIsa;
use rten_simd::SimdOp;
use rten_simd::isa::GenericIsa;

/// The fallback of the SIMD library: arrays of four, no intrinsics.
pub(super) struct Portable;

impl FloatIsa for Portable {
    fn run<Op: SimdOp>(op: Op) -> Op::Output {
        // Where the compiler may use relaxed SIMD, it makes a relaxed maximum of `if x > y { x } else { y }` over an array,
        // which may give NaN where this gives y. What is written with intrinsics it leaves alone.
        #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
        if let Some(isa) = rten_simd::isa::Wasm32Isa::new() {
            return op.eval(isa);
        }
        op.eval(GenericIsa::new())
    }
}

kernels!(Arrays, Portable, 2, 2);

/// Arrays of bytes, which compilers turn into whatever registers the target always has.
#[derive(Clone, Copy)]
struct Arrays;

impl Arrays {
    const fn enabled() -> Self {
        Self
    }
}

impl IntegerIsa for Arrays {
    type Bytes = [u8; 16];
    type Sums = [i32; 4];
    type Open = [i32; 4];

    const WIDTH: usize = 16;
    const RUN: usize = usize::MAX;

    #[inline(always)]
    fn load(self, bytes: &[u8]) -> [u8; 16] {
        let mut loaded = [0; 16];
        loaded.copy_from_slice(&bytes[..16]);
        loaded
    }

    #[inline(always)]
    fn load_parts(self, parts: [&[u8; 16]; 4]) -> [u8; 16] {
        *parts[0]
    }

    #[inline(always)]
    fn transpose(self, four: [[u8; 16]; 4]) -> [[u8; 16]; 4] {
        let words: [[[u8; 4]; 4]; 4] = bytemuck::cast(four);
        let word = |i: usize| [words[0][i], words[1][i], words[2][i], words[3][i]];
        bytemuck::cast([word(0), word(1), word(2), word(3)])
    }

    #[inline(always)]
    fn store(self, bytes: [u8; 16], out: &mut [u8]) {
        out[..16].copy_from_slice(&bytes);
    }

    #[inline(always)]
    fn splat(self, four: &[i8; 4]) -> [u8; 16] {
        bytemuck::cast([*four; 4])
    }

    #[inline(always)]
    fn pair<const SHIFT: i32>(self, bytes: [u8; 16]) -> [u8; 16] {
        bytes.map(|byte| byte >> SHIFT & 3)
    }

    #[inline(always)]
    fn digit(self, bytes: [u8; 16]) -> [u8; 16] {
        bytes.map(|byte| u8::from(byte >= 86) + u8::from(byte >= 171))
    }

    #[inline(always)]
    fn triple(self, bytes: [u8; 16]) -> [u8; 16] {
        bytes.map(|byte| byte.wrapping_mul(3))
    }

    #[inline(always)]
    fn zero(self) -> [i32; 4] {
        [0; 4]
    }

    #[inline(always)]
    fn open(self, sums: [i32; 4]) -> [i32; 4] {
        sums
    }

    #[inline(always)]
    fn dot(self, mut open: [i32; 4], codes: [u8; 16], q: [u8; 16]) -> [i32; 4] {
        // Products and their sums in i16, two neighbours at a time: at most 3·128·4.
        for (sum, i) in open.iter_mut().zip([0, 4, 8, 12]) {
            let product = |k: usize| i16::from(codes[i + k]) * i16::from(q[i + k] as i8);
            *sum += i32::from(product(0) + product(1)) + i32::from(product(2) + product(3));
        }
        open
    }

    #[inline(always)]
    fn close(self, _: [i32; 4], open: [i32; 4]) -> [i32; 4] {
        open
    }

    #[inline(always)]
    fn sum_lanes(self, four: [[i32; 4]; 4]) -> [i32; 4] {
        four.map(|sums| sums.iter().sum())
    }

    #[inline(always)]
    fn store_sums(self, sums: [i32; 4], out: &mut [i32]) {
        out[..4].copy_from_slice(&sums);
    }
}
