//! What was measured on a machine, and on which: the content of a calibration file.

use super::{Crossovers, Curve, Operation};
use crate::cpu::Isa;
use crate::device::machine;
use crate::{Error, Result};
use bitnet_quant::Format;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The machine and the program that a measurement holds for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Layout of the file.
    pub schema: u32,
    /// Version of this crate, whose kernels were measured.
    pub version: String,
    /// Brand of the processor, or its architecture if it has none.
    pub processor: String,
    /// Its instruction-set extensions, as far as kernels may use them.
    pub features: Vec<String>,
    /// Threads that may run at once.
    pub threads: usize,
}

/// Times of one kernel set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelTimes {
    /// Its name.
    pub kernels: String,
    /// One thread against all, by work. Empty where there is one thread.
    pub split: BTreeMap<Operation, Curve>,
    /// Packed rows against unpacked tiles, on one thread, by tokens; for each format.
    pub direct: BTreeMap<String, Curve>,
}

/// All that was measured on a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// What it holds for.
    pub identity: Identity,
    /// What measuring took.
    pub seconds: f64,
    /// Every kernel set this machine runs.
    pub kernel_sets: Vec<KernelTimes>,
}

impl Identity {
    /// Layout of the files this version reads and writes.
    pub const SCHEMA: u32 = 1;

    /// This program on this machine.
    pub fn here() -> Self {
        let (vendor, brand) = machine::name();
        let features = machine::features().into_iter().filter(|f| f.available);
        Self {
            schema: Self::SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            processor: brand.or(vendor).unwrap_or(std::env::consts::ARCH.into()),
            features: features.map(|f| f.name.to_owned()).collect(),
            threads: machine::threads(),
        }
    }

    /// The first difference from `other`, in words.
    fn difference(&self, other: &Self) -> Option<String> {
        let differ = |what: &str, a: String, b: String| {
            (a != b).then(|| format!("it was measured for {what} {a}, and this is {b}"))
        };
        differ("layout", self.schema.to_string(), other.schema.to_string())
            .or_else(|| differ("version", self.version.clone(), other.version.clone()))
            .or_else(|| {
                differ(
                    "a processor",
                    self.processor.clone(),
                    other.processor.clone(),
                )
            })
            .or_else(|| {
                differ(
                    "features",
                    self.features.join(" "),
                    other.features.join(" "),
                )
            })
            .or_else(|| {
                differ(
                    "threads",
                    self.threads.to_string(),
                    other.threads.to_string(),
                )
            })
    }

    /// A name for the file, one for each identity: readable parts of it, then a digest of all.
    pub fn file_name(&self) -> String {
        let mut name = String::from("calibration");
        for word in self.processor.split(|c: char| !c.is_ascii_alphanumeric()) {
            if !word.is_empty() && name.len() < 48 {
                name.push('-');
                name.extend(word.chars().take(16).map(|c| c.to_ascii_lowercase()));
            }
        }
        // FNV-1a, with a separator between the parts.
        let parts = [
            self.schema.to_string(),
            self.version.clone(),
            self.processor.clone(),
            self.features.join(" "),
            self.threads.to_string(),
        ];
        let digest = parts
            .join("\n")
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        format!("{name}-{:08x}.json", digest >> 32)
    }
}

impl KernelTimes {
    /// The curve of `format`.
    pub fn direct_curve(&self, format: Format) -> Option<&Curve> {
        self.direct.get(&format.to_string())
    }

    fn validate(&self) -> Result<()> {
        for (operation, curve) in &self.split {
            curve.validate(&format!("{}: {operation}", self.kernels))?;
        }
        for (format, curve) in &self.direct {
            let known = super::crossovers::direct_formats().any(|direct| direct.name() == format);
            if !known {
                return Err(Error::Value {
                    what: format!("{}: direct", self.kernels),
                    expected: "a format with direct kernels".into(),
                    found: format!("{format:?}"),
                });
            }
            curve.validate(&format!("{}: {format}", self.kernels))?;
        }
        Ok(())
    }
}

impl Calibration {
    /// Checks everything a file can have wrong, and that it is for `here`.
    ///
    /// # Errors
    /// [`Error::Value`] naming the first thing that is wrong; [`Error::Unavailable`] if it is another machine's.
    pub fn validate(&self, here: &Identity) -> Result<()> {
        if let Some(why) = self.identity.difference(here) {
            return Err(Error::Unavailable {
                what: "this calibration".into(),
                why,
            });
        }
        if !(self.seconds.is_finite() && self.seconds >= 0.0) {
            return Err(Error::Value {
                what: "seconds".into(),
                expected: "a time".into(),
                found: self.seconds.to_string(),
            });
        }
        for (index, times) in self.kernel_sets.iter().enumerate() {
            let known = Isa::ALL.into_iter().any(|isa| isa.name() == times.kernels);
            let again = self.kernel_sets[..index]
                .iter()
                .any(|earlier| earlier.kernels == times.kernels);
            if !known || again {
                return Err(Error::Value {
                    what: "kernel set".into(),
                    expected: "each of this version's once".into(),
                    found: format!("{:?}", times.kernels),
                });
            }
            times.validate()?;
        }
        Ok(())
    }

    /// The times of a kernel set.
    pub fn of(&self, isa: Isa) -> Option<&KernelTimes> {
        self.kernel_sets
            .iter()
            .find(|times| times.kernels == isa.name())
    }

    /// Where the kernel set changes its ways.
    pub fn crossovers(&self, isa: Isa) -> Crossovers {
        match self.of(isa) {
            Some(times) => Crossovers::measured(isa, times),
            None => Crossovers::built_in(isa),
        }
    }

    /// The kernel set to prefer: the best there is, unless another is a tenth faster at the largest ternary product that
    /// both were measured with.
    pub fn preferred(&self) -> Isa {
        let mut preferred = Isa::best();
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            if let Some((ns, other)) = self.compare(isa, preferred)
                && ns < 0.9 * other
            {
                preferred = isa;
            }
        }
        preferred
    }

    /// Times of both kernel sets on one thread, at the largest ternary product that both were measured with.
    pub fn compare(&self, isa: Isa, other: Isa) -> Option<(f64, f64)> {
        let points = |isa| Some(&self.of(isa)?.split.get(&Operation::TernaryMatmul)?.points);
        let (a, b) = (points(isa)?, points(other)?);
        a.iter().rev().find_map(|a| {
            let b = b.iter().find(|b| b.size == a.size)?;
            Some((a.small_ns, b.small_ns))
        })
    }
}
