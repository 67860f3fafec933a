//! Which backend an opened file is loaded on.

use super::{Model, ModelOptions};
use crate::file::ModelFile;
use crate::{Error, Result};
use bitnet_core::cpu::CpuBackend;
use bitnet_core::device::{Placement, adapters};
use bitnet_core::{Device, HybridMemoryPool};

impl Model {
    /// Loads an opened file on the device that the options ask for. Where they leave that open, a GPU that turns out not to
    /// do is warned of, and the processor taken.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub fn from_file(
        file: &ModelFile,
        options: &ModelOptions,
        progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        Self::place(file, options.pool(), options, progress)
    }

    /// [`from_file`](Self::from_file), with memory of `pool`.
    pub(super) fn place(
        file: &ModelFile,
        pool: HybridMemoryPool,
        options: &ModelOptions,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Self> {
        match options.device {
            Some(Device::Cpu) => on_cpu(file, pool, options, progress),
            Some(Device::Wgpu) => on_gpu(file, pool, options, &mut progress),
            Some(Device::Metal) => on_metal(file, pool, options, &mut progress),
            Some(Device::Mlx) => on_mlx(file, pool, options, &mut progress),
            None if !options.adapter.is_default() => on_gpu(file, pool, options, &mut progress),
            None if options.threads.is_some() || options.isa.is_some() => {
                on_cpu(file, pool, options, progress)
            }
            None => {
                let placement = Placement::of_model(file.tensor_bytes(), adapters);
                tracing::debug!("device {}: {}", placement.device, placement.because);
                if placement.device == Device::Wgpu {
                    match on_gpu(file, pool.clone(), options, &mut progress) {
                        Err(Error::Backend(error)) => {
                            tracing::warn!("{error}; the model runs on the processor instead");
                        }
                        outcome => return outcome,
                    }
                }
                on_cpu(file, pool, options, progress)
            }
        }
    }
}

fn on_cpu(
    file: &ModelFile,
    pool: HybridMemoryPool,
    options: &ModelOptions,
    progress: impl FnMut(usize, usize),
) -> Result<Model> {
    let backend = CpuBackend::with_pool(options.threads, options.isa, pool)?;
    Model::from_file_on(file, backend, options, progress)
}

#[cfg(all(feature = "wgpu", not(target_arch = "wasm32")))]
fn on_gpu(
    file: &ModelFile,
    pool: HybridMemoryPool,
    options: &ModelOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Model> {
    use bitnet_core::KvType;
    use bitnet_core::gpu::{GpuOptions, WgpuBackend};

    let backend = WgpuBackend::new(&GpuOptions {
        adapter: options.adapter.name.clone(),
        software: options.adapter.software,
        half_cache: options.kv != Some(KvType::F32),
        pool,
        ..GpuOptions::default()
    })?;
    Model::from_file_on(file, backend, options, progress)
}

#[cfg(all(feature = "wgpu", target_arch = "wasm32"))]
fn on_gpu(
    _: &ModelFile,
    _: HybridMemoryPool,
    _: &ModelOptions,
    _: &mut dyn FnMut(usize, usize),
) -> Result<Model> {
    Err(Error::Backend(bitnet_core::Error::Unavailable {
        what: "device \"wgpu\"".into(),
        why: "a browser's GPU must be awaited: open a WgpuBackend, then use Model::from_file_on"
            .into(),
    }))
}

#[cfg(not(feature = "wgpu"))]
fn on_gpu(
    _: &ModelFile,
    _: HybridMemoryPool,
    _: &ModelOptions,
    _: &mut dyn FnMut(usize, usize),
) -> Result<Model> {
    Err(Device::Wgpu.not_built().into())
}

#[cfg(all(feature = "metal", target_os = "macos"))]
fn on_metal(
    file: &ModelFile,
    pool: HybridMemoryPool,
    options: &ModelOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Model> {
    use bitnet_core::KvType;
    use bitnet_core::gpu::{GpuBackend, GpuInterface, GpuOptions};

    let backend = GpuBackend::new(&GpuOptions {
        interface: GpuInterface::Metal,
        adapter: options.adapter.name.clone(),
        half_cache: options.kv != Some(KvType::F32),
        pool,
        ..GpuOptions::default()
    })?;
    Model::from_file_on(file, backend, options, progress)
}

#[cfg(not(all(feature = "metal", target_os = "macos")))]
fn on_metal(
    _: &ModelFile,
    _: HybridMemoryPool,
    _: &ModelOptions,
    _: &mut dyn FnMut(usize, usize),
) -> Result<Model> {
    Err(Device::Metal.not_built().into())
}

#[cfg(all(
    feature = "mlx",
    any(all(target_os = "macos", target_arch = "aarch64"), mlx_on_linux)
))]
fn on_mlx(
    file: &ModelFile,
    pool: HybridMemoryPool,
    options: &ModelOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Model> {
    let backend = bitnet_core::mlx::MlxBackend::with_pool(pool)?;
    Model::from_file_on(file, backend, options, progress)
}

#[cfg(not(all(
    feature = "mlx",
    any(all(target_os = "macos", target_arch = "aarch64"), mlx_on_linux)
)))]
fn on_mlx(
    _: &ModelFile,
    _: HybridMemoryPool,
    _: &ModelOptions,
    _: &mut dyn FnMut(usize, usize),
) -> Result<Model> {
    Err(Device::Mlx.not_built().into())
}
