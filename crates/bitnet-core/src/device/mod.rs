//! Where numbers can live and be computed: the devices of this machine.
//!
//! A [`Device`] is a place that memory and operations belong to. [`backends`] says which kinds this program was built
//! with and which of them the machine has.

mod calibration;
mod crossover;
mod crossovers;
#[cfg(not(target_arch = "wasm32"))]
pub mod file;
mod machine;
#[cfg(not(target_arch = "wasm32"))]
mod measure;
mod routing;

pub use calibration::{Calibration, Identity, KernelTimes};
pub use crossover::{Curve, Cut, Point};
pub use crossovers::Crossovers;
pub use machine::{Caches, Feature, Machine, Memory, Processor};
#[cfg(not(target_arch = "wasm32"))]
pub use measure::{calibrate, foreign_load};
pub use routing::{Operation, Origin, Reasons, Request, Route, RoutingTable, grouped};

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// A place where tensors lie and operations run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The processor and its main memory.
    Cpu,
}

/// A kind of device: whether this program can use it, and why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackendStatus {
    /// The name that `--device` takes.
    pub name: &'static str,
    /// Whether it is compiled into this program.
    pub built: bool,
    /// Whether this machine has it. Never true for what is not built: nothing looked for it.
    pub found: bool,
    /// What it is, or why it cannot be used.
    pub note: &'static str,
}

const NOT_BUILT: &str = "not built into this binary";

/// Every kind of device there is a name for, those that can be used first.
pub fn backends() -> Vec<BackendStatus> {
    let absent = |name| BackendStatus {
        name,
        built: false,
        found: false,
        note: NOT_BUILT,
    };
    let cpu = BackendStatus {
        name: Device::Cpu.name(),
        built: true,
        found: true,
        note: "every machine has it",
    };
    vec![cpu, absent("wgpu"), absent("metal"), absent("mlx")]
}

impl Device {
    /// The devices of this machine that this program can use, the preferred one first.
    pub const fn available() -> &'static [Self] {
        &[Self::Cpu]
    }

    /// The fastest device that is there.
    pub const fn auto() -> Self {
        Self::Cpu
    }

    /// Its name: what `--device` takes and [`Display`](std::fmt::Display) writes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
        }
    }
}

impl Default for Device {
    fn default() -> Self {
        Self::auto()
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Device {
    type Err = Error;

    /// Parses a name; `auto` is [`Device::auto`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] for a device that is unknown, not built in or not found; it says which ones are there.
    fn from_str(name: &str) -> Result<Self> {
        if name == "auto" {
            return Ok(Self::auto());
        }
        if let Some(device) = Self::available().iter().find(|d| d.name() == name) {
            return Ok(*device);
        }
        let there: Vec<_> = Self::available().iter().map(|d| d.name()).collect();
        let there = format!("there is auto, {}", there.join(", "));
        Err(match backends().iter().find(|known| known.name == name) {
            Some(known) => Error::Unavailable {
                what: format!("device {name}"),
                why: format!("{}; {there}", known.note),
            },
            None => Error::Unavailable {
                what: format!("device {name:?}"),
                why: format!("no device has that name; {there}"),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_and_written_alike() {
        for device in Device::available() {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), *device);
        }
        assert_eq!("auto".parse::<Device>().unwrap(), Device::auto());
        assert_eq!(Device::default(), Device::auto());
        assert_eq!(format!("{:<5}|", Device::Cpu), "cpu  |");
    }

    #[test]
    fn an_absent_device_is_refused_with_what_there_is() {
        for name in ["metal", "wgpu", "mlx"] {
            let error = name.parse::<Device>().unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(NOT_BUILT), "{error}");
            assert!(error.contains("auto, cpu"), "{error}");
        }
        for name in ["", "CPU", "abacus", "cpu "] {
            let error = name.parse::<Device>().unwrap_err().to_string();
            assert!(error.contains("no device has that name"), "{error}");
            assert!(error.contains("auto, cpu"), "{error}");
        }
    }

    #[test]
    fn what_can_be_used_is_built_and_found() {
        for status in backends() {
            let usable = Device::available()
                .iter()
                .any(|device| device.name() == status.name);
            assert_eq!(usable, status.built && status.found);
        }
    }
}
