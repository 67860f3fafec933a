//! Which graphics adapters there are, and which one is meant.

use crate::device::{Adapter, AdapterKind};
use crate::gpu::GpuOptions;
use crate::{Error, Result};

/// What an adapter tells of itself.
pub(super) fn described(info: &wgpu::AdapterInfo) -> Adapter {
    let name = if info.name.is_empty() {
        "GPU of the browser".to_owned()
    } else {
        info.name.clone()
    };
    Adapter {
        name,
        backend: info.backend.to_str().to_owned(),
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
            wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
            wgpu::DeviceType::Cpu => AdapterKind::Software,
            wgpu::DeviceType::Other => AdapterKind::Unknown,
        },
        driver: format!("{} {}", info.driver, info.driver_info)
            .trim()
            .into(),
    }
}

/// The interfaces that this build can reach adapters by.
const BACKENDS: wgpu::Backends = wgpu::Backends::PRIMARY;

pub(super) fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = BACKENDS;
    descriptor.flags = wgpu::InstanceFlags::empty();
    wgpu::Instance::new(descriptor)
}

/// Every adapter, in the order of their indices. A browser shows the one that it chose, if any.
pub(in crate::gpu) async fn list() -> Vec<Adapter> {
    let adapters = all(&instance()).await;
    let infos = adapters.iter().map(wgpu::Adapter::get_info);
    infos.map(|info| described(&info)).collect()
}

async fn all(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    if cfg!(target_family = "wasm") {
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        let adapter = instance.request_adapter(&options).await;
        return adapter.into_iter().collect();
    }
    instance.enumerate_adapters(BACKENDS).await
}

/// The adapter that `options` ask for: by its index, or by a part of its name, or the most powerful one. Those that compute
/// on the CPU count only if they are asked for.
///
/// # Errors
/// [`Error::Unavailable`], with the adapters there are.
pub(super) async fn choose(
    instance: &wgpu::Instance,
    options: &GpuOptions,
) -> Result<wgpu::Adapter> {
    let adapters = all(instance).await;
    let summaries: Vec<Adapter> = adapters
        .iter()
        .map(|adapter| described(&adapter.get_info()))
        .collect();
    let chosen = match &options.adapter {
        Some(wanted) => chosen_by(wanted, &summaries),
        None => summaries
            .iter()
            .enumerate()
            .filter(|(_, adapter)| options.software || adapter.is_hardware())
            .min_by_key(|(index, _)| (rank(&adapters[*index].get_info()), *index))
            .map(|(index, _)| index),
    };
    // A browser does not say what it computes on, and chose for itself.
    let refused = chosen.is_some_and(|index| !summaries[index].is_hardware() && !options.software);
    match chosen.and_then(|index| adapters.into_iter().nth(index)) {
        Some(adapter) if !refused => Ok(adapter),
        _ => Err(unavailable(options, &summaries)),
    }
}

fn chosen_by(wanted: &str, adapters: &[Adapter]) -> Option<usize> {
    if let Ok(index) = wanted.parse::<usize>() {
        return (index < adapters.len()).then_some(index);
    }
    let wanted = wanted.to_lowercase();
    let names = |adapter: &Adapter| adapter.name.to_lowercase().contains(&wanted);
    adapters.iter().position(names)
}

fn rank(info: &wgpu::AdapterInfo) -> u32 {
    match info.device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

fn unavailable(options: &GpuOptions, adapters: &[Adapter]) -> Error {
    let what = match &options.adapter {
        Some(wanted) => format!("a GPU called {wanted:?}"),
        None => "a GPU".into(),
    };
    let there: Vec<String> = adapters
        .iter()
        .enumerate()
        .map(|(index, adapter)| format!("{index}: {adapter}"))
        .collect();
    let why = if there.is_empty() {
        "no adapter was found (natively Vulkan, Metal or DirectX 12 must be installed; on Debian apt-get install \
         mesa-vulkan-drivers brings Vulkan, on the CPU too; a browser must support WebGPU)"
            .into()
    } else {
        let hint = if adapters.iter().any(|adapter| !adapter.is_hardware()) && !options.software {
            "; those that compute on the CPU are used only when software adapters are allowed"
        } else {
            ""
        };
        format!("there are {}{hint}", there.join(", "))
    };
    Error::Unavailable { what, why }
}
