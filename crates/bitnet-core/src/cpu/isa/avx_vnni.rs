//! x86-64 with AVX-VNNI: `vpdpbusd` on 256-bit registers, on processors without AVX-512.

use super::avx2::{Avx2, Floats};
use crate::cpu::integer::{IntegerIsa, inherit, kernels, whole_dots};
use std::arch::x86_64::*;

kernels!(
    AvxVnni,
    Floats,
    2,
    4,
    is_x86_feature_detected("avx2", "fma", "f16c", "avxvnni")
);

/// Proof that the machine has AVX2, FMA, F16C and AVX-VNNI.
#[derive(Clone, Copy)]
struct AvxVnni(Avx2);

impl AvxVnni {
    /// Where they are enabled, the machine has them.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
    fn enabled() -> Self {
        Self(Avx2::enabled())
    }

    #[inline(always)]
    fn dot4(self, sums: __m256i, codes: __m256i, q: __m256i) -> __m256i {
        // SAFETY: AVX2 and AVX-VNNI are there by the type.
        unsafe { _mm256_dpbusd_avx_epi32(sums, codes, q) }
    }

    #[inline(always)]
    fn thrice_less(self, a: __m256i, b: __m256i, c: __m256i) -> __m256i {
        // SAFETY: AVX2 and AVX-VNNI are there by the type.
        unsafe {
            let thrice = _mm256_add_epi32(_mm256_add_epi32(a, a), a);
            _mm256_add_epi32(_mm256_sub_epi32(thrice, b), c)
        }
    }
}

impl IntegerIsa for AvxVnni {
    inherit!(__m256i, __m256i, 32);
    whole_dots!(__m256i, __m256i);
}
