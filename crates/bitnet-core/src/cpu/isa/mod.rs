//! Which instruction sets there are kernels for, and which this machine can run.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_vbmi;
#[cfg(target_arch = "x86_64")]
mod avx512_vnni;
#[cfg(target_arch = "x86_64")]
mod avx_vnni;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_dotprod;
#[cfg(target_arch = "aarch64")]
mod neon_i8mm;
#[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
mod relaxed_simd;
mod scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128;
#[cfg(target_arch = "x86_64")]
mod ssse3;

use super::kernels::Kernels;
use super::tuning::Tuning;
use crate::{Error, Result};

/// The environment variable that forces an instruction set.
pub const ISA_VARIABLE: &str = "BITNET_ISA";

/// A set of kernels. All of them compute the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Portable Rust: the reference.
    Scalar,
    /// x86-64 with SSSE3 and SSE4.1.
    Ssse3,
    /// x86-64 with AVX2, FMA and F16C (every CPU with AVX2 has the others).
    Avx2,
    /// x86-64 with AVX2 and AVX-VNNI.
    AvxVnni,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
    /// x86-64 with AVX-512 F, BW, DQ, VL and VNNI.
    Avx512Vnni,
    /// aarch64: NEON.
    Neon,
    /// aarch64: NEON with the dot product instructions.
    NeonDotprod,
    /// aarch64: NEON with the 8-bit matrix instructions.
    NeonI8mm,
    /// WebAssembly compiled with SIMD128.
    Simd128,
    /// WebAssembly compiled with relaxed SIMD.
    RelaxedSimd,
}

impl Isa {
    /// Every kernel set, slowest first.
    pub const ALL: [Self; 11] = [
        Self::Scalar,
        Self::Ssse3,
        Self::Avx2,
        Self::AvxVnni,
        Self::Avx512,
        Self::Avx512Vnni,
        Self::Neon,
        Self::NeonDotprod,
        Self::NeonI8mm,
        Self::Simd128,
        Self::RelaxedSimd,
    ];

    /// The name used by `BITNET_ISA` and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Ssse3 => "ssse3",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avxvnni",
            Self::Avx512 => "avx512",
            Self::Avx512Vnni => "avx512vnni",
            Self::Neon => "neon",
            Self::NeonDotprod => "dotprod",
            Self::NeonI8mm => "i8mm",
            Self::Simd128 => "simd128",
            Self::RelaxedSimd => "relaxed",
        }
    }

    /// What it takes, in words.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Scalar => "portable; the reference for all others",
            Self::Ssse3 => "x86-64 with SSSE3 and SSE4.1",
            Self::Avx2 => "x86-64 with AVX2 and F16C",
            Self::AvxVnni => "x86-64 with AVX2 and AVX-VNNI",
            Self::Avx512 => "x86-64 with AVX-512 F, BW, DQ and VL",
            Self::Avx512Vnni => "x86-64 with AVX-512 F, BW, DQ, VL and VNNI",
            Self::Neon => "aarch64 with NEON",
            Self::NeonDotprod => "aarch64 with NEON and dot products",
            Self::NeonI8mm => "aarch64 with NEON, dot products and 8-bit matrix products",
            Self::Simd128 => "WebAssembly compiled with SIMD128",
            Self::RelaxedSimd => "WebAssembly compiled with relaxed SIMD",
        }
    }

    /// Its kernels, if this machine can run them.
    fn detected(self) -> Option<&'static Kernels> {
        match self {
            Self::Scalar => Some(scalar::kernels()),
            #[cfg(target_arch = "x86_64")]
            Self::Ssse3 => ssse3::kernels(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::kernels(),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => avx_vnni::kernels(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::kernels(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => avx512_vnni::kernels(),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => Some(neon::kernels()),
            #[cfg(target_arch = "aarch64")]
            Self::NeonDotprod => neon_dotprod::kernels(),
            #[cfg(target_arch = "aarch64")]
            Self::NeonI8mm => neon_i8mm::kernels(),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Self::Simd128 => Some(simd128::kernels()),
            #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
            Self::RelaxedSimd => Some(relaxed_simd::kernels()),
            // Sets of other targets.
            _ => None,
        }
    }

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        self.detected().is_some()
    }

    /// Its kernels; the scalar ones if this machine cannot run them.
    pub(super) fn kernels(self) -> &'static Kernels {
        self.detected().unwrap_or_else(scalar::kernels)
    }

    /// The fastest set this machine can run.
    pub fn best() -> Self {
        Self::ALL
            .into_iter()
            .rev()
            .find(|isa| isa.is_available())
            .unwrap_or(Self::Scalar)
    }

    /// The fastest set and its kernels. In WebAssembly a program is compiled for one set, and need not contain the others.
    pub(super) fn fastest() -> (Self, &'static Kernels) {
        #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
        return (Self::RelaxedSimd, relaxed_simd::kernels());
        #[cfg(all(
            target_arch = "wasm32",
            target_feature = "simd128",
            not(target_feature = "relaxed-simd")
        ))]
        return (Self::Simd128, simd128::kernels());
        #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
        {
            let best = Self::best();
            (best, best.kernels())
        }
    }

    /// The set named by `BITNET_ISA`, or the one that the machine's
    /// [`Tuning`] prefers if the variable is not set.
    ///
    /// # Errors
    /// If the variable names no kernel set, or one this machine cannot run.
    pub fn from_environment() -> Result<Self> {
        match std::env::var(ISA_VARIABLE) {
            Ok(name) if !name.is_empty() => name.parse(),
            _ => Ok(Tuning::current().kernels()),
        }
    }
}

impl std::fmt::Display for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Isa {
    type Err = Error;

    /// Parses a name and checks that the machine can run it.
    fn from_str(name: &str) -> Result<Self> {
        let names = |available: bool| {
            let listed = Self::ALL
                .into_iter()
                .filter(|isa| !available || isa.is_available());
            listed.map(Self::name).collect::<Vec<_>>().join(", ")
        };
        let isa = Self::ALL
            .into_iter()
            .find(|isa| isa.name() == name)
            .ok_or_else(|| Error::Unavailable {
                what: format!("instruction set {name:?}"),
                why: format!("known are {}", names(false)),
            })?;
        if isa.is_available() {
            Ok(isa)
        } else {
            Err(Error::Unavailable {
                what: format!("instruction set {name}"),
                why: format!("this CPU has {}", names(true)),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn kernels_agree_with_the_features_that_are_reported() {
        let features = crate::device::machine::features();
        let has = |name| features.iter().any(|f| f.name == name && f.available);
        assert_eq!(super::Isa::Avx2.is_available(), has("avx2") && has("f16c"));
    }
}
