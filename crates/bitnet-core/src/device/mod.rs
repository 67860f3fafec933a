//! Where numbers can live and be computed: the devices of this machine.
//!
//! A [`Device`] is a place that memory and operations belong to. [`backends`] says which kinds this program was built
//! with and which of them the machine has.

mod adapter;
mod grouped;
pub(crate) mod machine;
mod placement;

pub use adapter::{Adapter, AdapterChoice, AdapterKind, adapters};
pub use grouped::grouped;
pub use machine::{Caches, Feature, Machine, Memory, Processor};
pub use placement::Placement;

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// A place where models run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The processor and its main memory. Tensors lie here.
    #[default]
    Cpu,
    /// A GPU, through wgpu: Vulkan, Metal, Direct3D 12, or WebGPU in a browser. Needs the feature `wgpu`.
    Wgpu,
    /// A GPU of Apple's, through Metal itself. Needs the feature `metal`, and macOS.
    Metal,
    /// Apple's MLX: the GPU of Apple Silicon. Needs the feature `mlx`, and macOS.
    Mlx,
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
    pub note: String,
}

const NOT_BUILT: &str = "not built into this binary";
/// How to get the backend for GPUs.
pub(crate) const BUILD_WGPU: &str = "cargo build --release --features wgpu builds one for GPUs";
/// How to get the backend for Metal.
const BUILD_METAL: &str = if cfg!(target_os = "macos") {
    "cargo build --release --features metal builds one for Apple's GPUs"
} else {
    "only macOS has Metal"
};

/// How to get the backend for Apple's MLX.
const BUILD_MLX: &str = if cfg!(all(target_os = "macos", target_arch = "aarch64")) {
    "cargo build --release --features mlx builds one with it"
} else {
    "MLX is for macOS on Apple Silicon"
};

/// Every kind of device there is a name for, and whether it can be used. Looks for GPUs, if this program can use them.
pub fn backends() -> Vec<BackendStatus> {
    let cpu = BackendStatus {
        name: Device::Cpu.name(),
        built: true,
        found: true,
        note: "every machine has it".into(),
    };
    let absent = |name, note: String| BackendStatus {
        name,
        built: false,
        found: false,
        note,
    };
    let wgpu = if Device::Wgpu.is_built() {
        let found = adapters().iter().find(|adapter| adapter.is_hardware());
        BackendStatus {
            name: Device::Wgpu.name(),
            built: true,
            found: found.is_some(),
            note: match (found, adapters().first()) {
                (Some(adapter), _) => adapter.to_string(),
                (None, Some(software)) => {
                    format!("no GPU found, but {software}: only when asked for")
                }
                (None, None) => "no GPU found".into(),
            },
        }
    } else {
        absent(Device::Wgpu.name(), format!("{NOT_BUILT}: {BUILD_WGPU}"))
    };
    let metal = if Device::Metal.is_built() {
        let found = metal_gpu();
        BackendStatus {
            name: Device::Metal.name(),
            built: true,
            found: found.is_some(),
            note: found.map_or_else(|| "no GPU found".into(), |gpu| gpu.to_string()),
        }
    } else {
        absent(Device::Metal.name(), format!("{NOT_BUILT}: {BUILD_METAL}"))
    };
    let mlx = match mlx() {
        _ if !Device::Mlx.is_built() => {
            absent(Device::Mlx.name(), format!("{NOT_BUILT}: {BUILD_MLX}"))
        }
        found => BackendStatus {
            name: Device::Mlx.name(),
            built: true,
            found: found.is_ok(),
            note: found.unwrap_or_else(|error| error.to_string()),
        },
    };
    vec![cpu, wgpu, metal, mlx]
}

/// What MLX computes on, in words.
#[cfg(all(
    feature = "mlx",
    any(all(target_os = "macos", target_arch = "aarch64"), mlx_on_linux)
))]
fn mlx() -> Result<String> {
    let backend = crate::mlx::MlxBackend::new()?;
    Ok(match backend.device() {
        "gpu" => "the GPU of this Mac, when asked for".into(),
        device => format!("MLX on the {device}, for tests: when asked for"),
    })
}

#[cfg(not(all(
    feature = "mlx",
    any(all(target_os = "macos", target_arch = "aarch64"), mlx_on_linux)
)))]
fn mlx() -> Result<String> {
    Err(Device::Mlx.not_built())
}

/// The GPU that Metal takes if nobody chooses.
fn metal_gpu() -> Option<Adapter> {
    #[cfg(all(feature = "metal", target_os = "macos"))]
    return crate::gpu::metal_adapters().into_iter().next();
    #[cfg(not(all(feature = "metal", target_os = "macos")))]
    None
}

impl Device {
    /// Every device.
    pub(crate) const ALL: [Self; 4] = [Self::Cpu, Self::Wgpu, Self::Metal, Self::Mlx];

    /// The devices of this machine that this program can use, the preferred one first. Looks for GPUs, if this program can
    /// use them.
    pub fn available() -> Vec<Self> {
        let mut list = vec![Self::Cpu];
        if adapters().iter().any(Adapter::is_hardware) {
            list.push(Self::Wgpu);
        }
        if metal_gpu().is_some() {
            list.push(Self::Metal);
        }
        if mlx().is_ok() {
            list.push(Self::Mlx);
        }
        let auto = Self::auto();
        list.sort_by_key(|device| *device != auto);
        list
    }

    /// The device that is expected to run a large model fastest: [`Placement`] says why.
    pub fn auto() -> Self {
        Placement::of_model(u64::MAX, adapters).device
    }

    /// Whether this program was built to use it.
    pub const fn is_built(self) -> bool {
        match self {
            Self::Cpu => true,
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Metal => cfg!(all(feature = "metal", target_os = "macos")),
            Self::Mlx => cfg!(all(
                feature = "mlx",
                any(
                    all(target_os = "macos", target_arch = "aarch64"),
                    mlx_on_linux
                )
            )),
        }
    }

    /// Its name: what `--device` takes and [`Display`](std::fmt::Display) writes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Wgpu => "wgpu",
            Self::Metal => "metal",
            Self::Mlx => "mlx",
        }
    }

    /// The error for a device that this program was not built to use.
    pub fn not_built(self) -> Error {
        let how = match self {
            Self::Cpu | Self::Wgpu => BUILD_WGPU,
            Self::Metal => BUILD_METAL,
            Self::Mlx => BUILD_MLX,
        };
        unavailable(self.name(), &format!("{NOT_BUILT}: {how}"))
    }
}

/// The error for a device that cannot be used.
fn unavailable(name: &str, why: &str) -> Error {
    let built = Device::ALL.into_iter();
    let built: Vec<_> = built.filter(|d| d.is_built()).map(Device::name).collect();
    Error::Unavailable {
        what: format!("device {name:?}"),
        why: format!("{why}; there is auto, {}", built.join(", ")),
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Device {
    type Err = Error;

    /// Parses a name; `auto` is [`Device::auto`]. Whether the machine has the device is not looked at.
    ///
    /// # Errors
    /// [`Error::Unavailable`] for a device that is unknown or not built in; it says which ones there are.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::auto()),
            "cpu" => Ok(Self::Cpu),
            "wgpu" if Self::Wgpu.is_built() => Ok(Self::Wgpu),
            "wgpu" => Err(Self::Wgpu.not_built()),
            "metal" if Self::Metal.is_built() => Ok(Self::Metal),
            "metal" => Err(Self::Metal.not_built()),
            "mlx" if Self::Mlx.is_built() => Ok(Self::Mlx),
            "mlx" => Err(Self::Mlx.not_built()),
            _ => Err(unavailable(name, "no device has that name")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_and_written_alike() {
        for device in Device::available() {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        }
        assert_eq!("auto".parse::<Device>().unwrap(), Device::auto());
        assert_eq!(Device::available()[0], Device::auto());
        assert_eq!(Device::default(), Device::Cpu);
        assert_eq!(format!("{:<5}|", Device::Cpu), "cpu  |");
    }

    #[test]
    fn an_absent_device_is_refused_with_what_there_is() {
        for name in ["metal", "wgpu", "mlx"] {
            let Err(error) = name.parse::<Device>() else {
                let device = Device::ALL.into_iter().find(|device| device.name() == name);
                assert!(device.is_some_and(Device::is_built), "{name}");
                continue;
            };
            let error = error.to_string();
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
