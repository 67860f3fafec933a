//! Which instruction sets there are kernels for, and which this machine can run.

use crate::device::RoutingTable;
use crate::{Error, Result};

/// The environment variable that forces an instruction set.
pub const ISA_VARIABLE: &str = "BITNET_ISA";

/// A set of kernels. All of them compute the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Portable Rust: the reference.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C (every CPU with AVX2 has the others).
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ, VL and VNNI.
    Avx512Vnni,
}

impl Isa {
    /// Every kernel set, slowest first.
    pub const ALL: [Self; 3] = [Self::Scalar, Self::Avx2, Self::Avx512Vnni];

    /// The name used by `BITNET_ISA` and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512Vnni => "avx512vnni",
        }
    }

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512Vnni => false,
        }
    }

    /// The fastest set this machine can run.
    pub fn best() -> Self {
        Self::ALL
            .into_iter()
            .rev()
            .find(|isa| isa.is_available())
            .unwrap_or(Self::Scalar)
    }

    /// The set named by `BITNET_ISA`, or the one that the machine's
    /// [`RoutingTable`] prefers if the variable is not set.
    ///
    /// # Errors
    /// If the variable names no kernel set, or one this machine cannot run.
    pub fn from_environment() -> Result<Self> {
        match std::env::var(ISA_VARIABLE) {
            Ok(name) if !name.is_empty() => name.parse(),
            _ => Ok(RoutingTable::current().kernels()),
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
