//! x86-64 with AVX-512 VNNI: `vpdpbusd` multiplies 64 unsigned codes by 64 signed activations and adds them in fours to i32.

use super::avx512::{Avx512, Floats};
use crate::cpu::integer::{IntegerIsa, inherit, kernels, whole_dots};
use std::arch::x86_64::*;

kernels!(
    Avx512Vnni,
    Floats,
    2,
    8,
    is_x86_feature_detected(
        "avx512f",
        "avx512bw",
        "avx512dq",
        "avx512vl",
        "avx512vnni",
        "f16c"
    )
);

/// Proof that the machine has AVX-512 F, BW, DQ, VL and VNNI, and F16C.
#[derive(Clone, Copy)]
struct Avx512Vnni(Avx512);

impl Avx512Vnni {
    /// Where they are enabled, the machine has them.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
    fn enabled() -> Self {
        Self(Avx512::enabled())
    }

    #[inline(always)]
    fn dot4(self, sums: __m512i, codes: __m512i, q: __m512i) -> __m512i {
        // SAFETY: AVX-512 F, BW and VNNI are there by the type.
        unsafe { _mm512_dpbusd_epi32(sums, codes, q) }
    }

    #[inline(always)]
    fn thrice_less(self, a: __m512i, b: __m512i, c: __m512i) -> __m512i {
        // SAFETY: AVX-512 F, BW and VNNI are there by the type.
        unsafe {
            let thrice = _mm512_add_epi32(_mm512_add_epi32(a, a), a);
            _mm512_add_epi32(_mm512_sub_epi32(thrice, b), c)
        }
    }
}

impl IntegerIsa for Avx512Vnni {
    inherit!(__m512i, __m512i, 64);
    whole_dots!(__m512i, __m512i);
}
