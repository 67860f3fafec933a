//! Where a whole model runs if nobody says, and why.
//!
//! Decoding a token reads every weight once: the device that reads them sooner is the faster one. A GPU with memory of its
//! own reads several times as fast as a processor, but starts more than a hundred kernels for a token, whatever the
//! model's size.

use super::{Adapter, AdapterKind, BUILD_WGPU, Device, grouped};
use serde::Serialize;

/// Weights in bytes from which a GPU is expected to be faster. Starting the kernels of a token takes about a millisecond
/// (a hundred and fifty dependent dispatches take as long on the fastest GPUs), in which a processor reads 20 to 60 MB.
const GPU_FROM: u64 = 64 << 20;

/// Where a model runs, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Placement {
    /// Where.
    pub device: Device,
    /// Why, in a sentence.
    pub because: String,
}

impl Placement {
    /// Where a model with `bytes` of weights runs. `adapters` gives those of the machine, and is not asked where they do not
    /// matter: to look for them takes time.
    pub fn of_model<'a>(bytes: u64, adapters: impl FnOnce() -> &'a [Adapter]) -> Self {
        let cpu = |because| Self {
            device: Device::Cpu,
            because,
        };
        if !Device::Wgpu.is_built() {
            return cpu(if Device::Mlx.is_built() {
                "nobody has measured MLX yet, which runs models when asked for (--device mlx)"
                    .into()
            } else {
                format!("no other is built into this binary ({BUILD_WGPU})")
            });
        }
        if bytes < GPU_FROM {
            return cpu(format!(
                "a processor has read {} bytes of weights before a GPU has started its kernels (GPUs pay from {} on)",
                grouped(bytes),
                grouped(GPU_FROM)
            ));
        }
        Self::of_large(adapters())
    }

    /// Where a model runs that is large enough for a GPU.
    fn of_large(adapters: &[Adapter]) -> Self {
        let kinds = |kind| adapters.iter().find(move |adapter| adapter.kind == kind);
        let because = if let Some(adapter) = kinds(AdapterKind::Discrete) {
            return Self {
                device: Device::Wgpu,
                because: format!("{adapter} has memory of its own, which is read faster"),
            };
        } else if let Some(adapter) = adapters.iter().find(|adapter| adapter.is_hardware()) {
            format!(
                "{adapter} is not known to have faster memory than the processor (--device wgpu uses it)"
            )
        } else if let Some(adapter) = adapters.first() {
            format!("{adapter} is no GPU, but software")
        } else {
            "this machine has no GPU that wgpu finds".into()
        };
        Self {
            device: Device::Cpu,
            because,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, kind: AdapterKind) -> Adapter {
        Adapter {
            name: name.into(),
            backend: "vulkan".into(),
            kind,
            driver: String::new(),
        }
    }

    #[test]
    fn a_large_model_goes_where_memory_is_faster() {
        let soft = adapter("llvmpipe", AdapterKind::Software);
        let shared = adapter("Iris", AdapterKind::Integrated);
        let own = adapter("H200", AdapterKind::Discrete);
        for (adapters, device, reason) in [
            (vec![], Device::Cpu, "no GPU"),
            (vec![soft.clone()], Device::Cpu, "llvmpipe"),
            (vec![soft.clone(), shared.clone()], Device::Cpu, "Iris"),
            (vec![soft, shared, own], Device::Wgpu, "H200"),
        ] {
            let placement = Placement::of_large(&adapters);
            assert_eq!(placement.device, device);
            assert!(placement.because.contains(reason), "{}", placement.because);
        }
    }

    #[test]
    fn adapters_are_not_looked_for_where_they_do_not_matter() {
        let placement = Placement::of_model(1 << 20, || panic!("not needed"));
        assert_eq!(placement.device, Device::Cpu);
        let says = if Device::Wgpu.is_built() {
            "1,048,576"
        } else if Device::Mlx.is_built() {
            "--device mlx"
        } else {
            "--features wgpu"
        };
        assert!(placement.because.contains(says), "{}", placement.because);
    }
}
