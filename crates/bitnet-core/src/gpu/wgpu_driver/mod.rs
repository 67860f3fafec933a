//! The driver for wgpu: Vulkan, Metal and DirectX 12 natively, WebGPU in a browser, with the kernels of `shaders-wgsl/`.

mod adapters;
mod encoding;
#[cfg(not(target_arch = "wasm32"))]
mod kept;
mod listener;
mod marks;
mod matrices;
mod probe;
mod readback;
mod timings;

use super::GpuOptions;
use super::driver::{Batch, Command, Driver, Limits, Object, Opened, Part, Pipeline, RawBuffer};
use super::failure::Failures;
use super::kernel::{Access, GemmTile, Source};
use super::lanes::Lanes;
use super::timing::Times;
use crate::{Error, Pending, Result, pending};
use encoding::Encoding;
use readback::Staging;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use timings::Timings;

pub(super) use adapters::list;

/// A kernel compiled by wgpu.
struct Compiled {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

/// A device of wgpu.
struct WgpuDriver {
    device: wgpu::Device,
    queue: wgpu::Queue,
    failures: Arc<Failures>,
    timings: Timings,
    /// The most bytes of a buffer.
    largest: usize,
    /// Whether kernels check every index.
    checked: bool,
    /// Memory that the host can read, to be used again.
    staging: Arc<Staging>,
    /// What was compiled by programs before.
    #[cfg(not(target_arch = "wasm32"))]
    kept: Option<kept::Kept>,
}

/// Opens the device that `options` ask for.
///
/// # Errors
/// [`Error::Unavailable`] if there is none, or it lacks what the kernels need.
pub(super) async fn open(options: &GpuOptions) -> Result<Opened> {
    let instance = adapters::instance();
    let adapter = adapters::choose(&instance, options).await?;
    let info = adapter.get_info();
    let summary = adapters::described(&info);
    let unavailable = |why: String| Error::Unavailable {
        what: summary.to_string(),
        why,
    };
    let limits = limits(&adapter, options).map_err(unavailable)?;
    let mut wanted = wgpu::Features::SUBGROUP;
    let matrices = if options.subgroups {
        matrices::side(&adapter)
    } else {
        0
    };
    if matrices > 0 {
        wanted |= matrices::FEATURES;
    }
    #[cfg(not(target_arch = "wasm32"))]
    wanted.insert(kept::FEATURES);
    if options.timed && adapter.features().contains(marks::FEATURES) {
        wanted |= marks::FEATURES;
    }
    let (device, queue) = adapter
        .request_device(&wgpu::DeviceDescriptor {
            label: None,
            required_features: adapter.features() & wanted,
            required_limits: limits.clone(),
            experimental_features: matrices::allowed(matrices),
            ..Default::default()
        })
        .await
        .map_err(|error| unavailable(error.to_string()))?;
    let failures = listener::listen(&device);
    let packed_dot = instance
        .wgsl_language_features()
        .contains(wgpu::WgslLanguageFeatures::Packed4x8IntegerDotProduct);
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let driver = WgpuDriver {
        failures: Arc::clone(&failures),
        timings: Timings::default(),
        largest: bytes(device.limits().max_buffer_size),
        checked: options.checked,
        staging: Arc::default(),
        #[cfg(not(target_arch = "wasm32"))]
        kept: kept::Kept::of(&device, &info),
        device,
        queue,
    };
    let mut lanes = Lanes::through_memory(packed_dot && options.packed_dot);
    let has_subgroups = driver.device.features().contains(wgpu::Features::SUBGROUP);
    if has_subgroups && options.subgroups {
        lanes = probe::lanes(&driver, &info, lanes).await?;
        let memory = limits.max_compute_workgroup_storage_size;
        if lanes.subgroups && memory >= GemmTile::memory(matrices) {
            lanes.matrices = matrices;
        }
    }
    Ok(Opened {
        limits: Limits {
            buffer: driver.largest,
            binding: bytes(limits.max_storage_buffer_binding_size),
            workgroups: limits.max_compute_workgroups_per_dimension,
            invocations: limits
                .max_compute_invocations_per_workgroup
                .min(limits.max_compute_workgroup_size_x),
            workgroup_memory: limits.max_compute_workgroup_storage_size,
        },
        driver: Arc::new(driver),
        summary,
        lanes,
        failures,
    })
}

impl Driver for WgpuDriver {
    fn name(&self) -> &'static str {
        "wgpu"
    }

    fn reserve(&self, bytes: usize) -> Option<RawBuffer> {
        if bytes > self.largest {
            return None;
        }
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes as u64,
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::UNIFORM
                | wgpu::BufferUsages::COPY_SRC
                | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        // Natively the scope knows at once. A browser tells later: the buffer is then refused where it is used.
        let error = pending::poll_once(scope.pop());
        match error {
            Some(Some(_)) => None,
            _ => Some(RawBuffer {
                object: Object::new(buffer),
                bytes,
            }),
        }
    }

    fn write(&self, buffer: &RawBuffer, at: usize, bytes: &[u8]) -> Result<()> {
        let buffer: &wgpu::Buffer = buffer.object.get()?;
        self.queue.write_buffer(buffer, at as u64, bytes);
        Ok(())
    }

    fn flush(&self) {
        let index = self.queue.submit([]);
        let _ = self.device.poll(wgpu::PollType::Wait {
            submission_index: Some(index),
            timeout: None,
        });
    }

    fn compile(&self, source: &Source) -> Result<Object> {
        Ok(Object::new(self.compiled(source)))
    }

    fn bind(&self, pipeline: &Pipeline, parts: &[Part<'_>]) -> Result<Object> {
        let compiled: &Compiled = pipeline.object.get()?;
        let mut entries = Vec::with_capacity(parts.len());
        for (part, binding) in parts.iter().zip(0..) {
            entries.push(wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: part.buffer.object.get()?,
                    offset: part.at as u64,
                    size: NonZeroU64::new(part.bytes as u64),
                }),
            });
        }
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(pipeline.kernel.name()),
            layout: &compiled.layout,
            entries: &entries,
        });
        Ok(Object::new(group))
    }

    fn submit(&self, commands: &[Command], batch: Batch) -> Result<Vec<Pending<Vec<u8>>>> {
        Encoding::new(self).run(commands, batch)
    }

    fn times(&self) -> Pin<Box<dyn Future<Output = Result<Times>> + Send + '_>> {
        Box::pin(self.timings.take())
    }

    fn keep(&self) {
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(kept) = &self.kept {
            kept.store();
        }
    }

    fn destroy(&self) {
        self.device.destroy();
    }
}

impl WgpuDriver {
    /// What helps to compile.
    fn cache(&self) -> Option<&wgpu::PipelineCache> {
        #[cfg(not(target_arch = "wasm32"))]
        return self.kept.as_ref().map(kept::Kept::cache);
        #[cfg(target_arch = "wasm32")]
        None
    }

    fn compiled(&self, source: &Source) -> Compiled {
        let entries: Vec<wgpu::BindGroupLayoutEntry> = source
            .bindings
            .iter()
            .zip(0..)
            .map(|(access, binding)| entry(*access, binding))
            .collect();
        let layout = self
            .device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(source.name),
                entries: &entries,
            });
        let pipeline_layout = self
            .device
            .create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(source.name),
                bind_group_layouts: &[Some(&layout)],
                immediate_size: 0,
            });
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(source.name),
            source: wgpu::ShaderSource::Wgsl(source.text.as_str().into()),
        };
        let module = if self.checked {
            self.device.create_shader_module(descriptor)
        } else {
            // SAFETY: every index of these kernels is below the length of what it indexes: rows, columns, tokens and
            // positions past the end are replaced by the last one or left out, in each file beside the index, and the
            // sizes of what is bound follow from the same constants. Loops end: their bounds are constants, or the counts
            // that the host wrote. Tests run the kernels with the checks on.
            unsafe {
                self.device.create_shader_module_trusted(
                    descriptor,
                    wgpu::ShaderRuntimeChecks::unchecked(),
                )
            }
        };
        let pipeline = self
            .device
            .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(source.name),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &[],
                    // Kernels write what they read.
                    zero_initialize_workgroup_memory: false,
                },
                cache: self.cache(),
            });
        Compiled { pipeline, layout }
    }
}

fn entry(access: Access, binding: u32) -> wgpu::BindGroupLayoutEntry {
    let ty = match access {
        Access::Uniform => wgpu::BufferBindingType::Uniform,
        Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
        Access::Write => wgpu::BufferBindingType::Storage { read_only: false },
    };
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty,
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    }
}

/// The limits to ask `adapter` for, or why they are too low.
fn limits(adapter: &wgpu::Adapter, options: &GpuOptions) -> Result<wgpu::Limits, String> {
    let has = adapter.limits();
    let needs = wgpu::Limits::downlevel_defaults();
    let mut limits = wgpu::Limits {
        max_storage_buffers_per_shader_stage: 8,
        max_compute_workgroup_storage_size: has.max_compute_workgroup_storage_size.min(48 << 10),
        max_compute_invocations_per_workgroup: has.max_compute_invocations_per_workgroup.min(1024),
        max_compute_workgroup_size_x: has.max_compute_workgroup_size_x.min(1024),
        max_compute_workgroups_per_dimension: has.max_compute_workgroups_per_dimension,
        max_storage_buffer_binding_size: has.max_storage_buffer_binding_size,
        max_buffer_size: has.max_buffer_size,
        ..needs
    };
    for (what, found, needed) in [
        (
            "storage buffers of a shader",
            u64::from(has.max_storage_buffers_per_shader_stage),
            u64::from(limits.max_storage_buffers_per_shader_stage),
        ),
        (
            "invocations of a workgroup",
            u64::from(has.max_compute_invocations_per_workgroup),
            256,
        ),
        (
            "invocations along a side of a workgroup",
            u64::from(has.max_compute_workgroup_size_x),
            256,
        ),
        (
            "bytes of workgroup memory",
            u64::from(has.max_compute_workgroup_storage_size),
            16 << 10,
        ),
    ] {
        if found < needed {
            return Err(format!("it has {found} {what}, and {needed} are needed"));
        }
    }
    if let Some(limit) = options.binding_limit {
        limits.max_storage_buffer_binding_size = limits.max_storage_buffer_binding_size.min(limit);
    }
    Ok(limits)
}
