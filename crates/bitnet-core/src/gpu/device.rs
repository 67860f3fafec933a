//! One opened device: what it can do, its memory, its queue and the kernels compiled for it.

use super::adapters;
use super::failure::Failures;
use super::kernel::{Access, Kernel, Teams, TernaryRow};
use super::memory::{GpuBuffer, GpuMemory};
use super::pipelines::{self, Pipelines};
use super::readback::Staging;
use super::timing::{self, Timings};
use super::{GpuOptions, probe};
use crate::device::Adapter;
use crate::{Error, Result, Tag};
use std::sync::Arc;

/// How invocations work together on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lanes {
    /// Invocations that share a row: a subgroup, if these are used.
    pub(super) size: u32,
    /// Whether sums go through subgroup operations.
    pub(super) subgroups: bool,
    /// Whether WGSL must declare that it uses subgroups.
    pub(super) declared: bool,
    /// Whether WGSL has `dot4I8Packed`.
    pub(super) packed_dot: bool,
}

impl Lanes {
    /// Lanes for every device.
    pub(super) const fn through_memory(packed_dot: bool) -> Self {
        Self {
            size: 32,
            subgroups: false,
            declared: false,
            packed_dot,
        }
    }
}

/// A kernel compiled.
pub(super) struct Pipeline {
    pub(super) name: &'static str,
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
    /// Never used twice.
    pub(super) id: u64,
}

/// An opened device.
pub(super) struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) summary: Adapter,
    pub(super) lanes: Lanes,
    pub(super) memory: Arc<GpuMemory>,
    pub(super) failures: Arc<Failures>,
    /// The most bytes of a binding.
    pub(super) binding_limit: usize,
    /// The most workgroups along a dimension.
    pub(super) workgroup_limit: u32,
    /// The most invocations of a workgroup.
    pub(super) invocation_limit: u32,
    /// Bytes of workgroup memory.
    pub(super) workgroup_memory: u32,
    /// Whether keys and values are binary16.
    pub(super) half_cache: bool,
    checked: bool,
    pub(super) timings: Timings,
    /// Memory that the host can read, to be used again.
    pub(super) staging: Arc<Staging>,
    pub(super) pipelines: Pipelines,
}

impl Gpu {
    /// Opens the device that `options` ask for.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if there is none, or it lacks what the kernels need.
    pub(super) async fn open(options: &GpuOptions) -> Result<Self> {
        let instance = adapters::instance();
        let adapter = adapters::choose(&instance, options).await?;
        let info = adapter.get_info();
        let summary = adapters::described(&info);
        let unavailable = |why: String| Error::Unavailable {
            what: summary.to_string(),
            why,
        };
        let limits = limits(&adapter, options).map_err(unavailable)?;
        let mut wanted = wgpu::Features::SUBGROUP | pipelines::FEATURES;
        if options.timed && adapter.features().contains(timing::FEATURES) {
            wanted |= timing::FEATURES;
        }
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: None,
                required_features: adapter.features() & wanted,
                required_limits: limits.clone(),
                ..Default::default()
            })
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        let failures = Failures::of(&device);
        let limit = options.pool.options().hard_limit;
        let memory = GpuMemory::new(&device, &failures, &summary.name, limit);
        let packed_dot = instance
            .wgsl_language_features()
            .contains(wgpu::WgslLanguageFeatures::Packed4x8IntegerDotProduct);
        let pipelines = Pipelines::of(&device, &info);
        let mut gpu = Self {
            lanes: Lanes::through_memory(packed_dot && options.packed_dot),
            device,
            queue,
            memory,
            failures,
            binding_limit: usize::try_from(limits.max_storage_buffer_binding_size)
                .unwrap_or(usize::MAX),
            workgroup_limit: limits.max_compute_workgroups_per_dimension,
            invocation_limit: limits
                .max_compute_invocations_per_workgroup
                .min(limits.max_compute_workgroup_size_x),
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            half_cache: options.half_cache,
            checked: options.checked,
            timings: Timings::default(),
            staging: Arc::default(),
            pipelines,
            summary,
        };
        let has_subgroups = gpu.device.features().contains(wgpu::Features::SUBGROUP);
        if has_subgroups && options.subgroups {
            gpu.lanes = probe::lanes(&gpu, &info).await?;
            // What was compiled for other lanes is of no use.
            gpu.pipelines.clear();
        }
        gpu.failures.check()?;
        Ok(gpu)
    }

    /// Whether module texts must say that they use subgroups: WebGPU wants it, and natively it is not known.
    pub(super) const DECLARES_SUBGROUPS: bool = cfg!(target_family = "wasm");

    /// The compiled `kernel`.
    ///
    /// # Errors
    /// [`Error::Refused`] if the device does not take it.
    pub(super) fn pipeline(&self, kernel: Kernel) -> Result<Arc<Pipeline>> {
        self.pipelines.get(kernel, |id| {
            let pipeline = self.compile(kernel, self.lanes, id);
            self.failures.check()?;
            Ok(pipeline)
        })
    }

    /// Compiles a kernel for `lanes`.
    pub(super) fn compile(&self, kernel: Kernel, lanes: Lanes, id: u64) -> Pipeline {
        let source = kernel.source(lanes);
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
            source: wgpu::ShaderSource::Wgsl(source.wgsl.into()),
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
                cache: self.pipelines.cache(),
            });
        Pipeline {
            name: source.name,
            pipeline,
            layout,
            id,
        }
    }

    /// [`Teams::most`] here.
    pub(super) fn most_teams(&self, row: TernaryRow) -> u32 {
        let (threads, memory) = (self.invocation_limit, self.workgroup_memory);
        Teams::most(row, self.lanes, threads, memory)
    }

    /// A buffer that holds `bytes`.
    ///
    /// # Errors
    /// As [`GpuMemory::take`].
    pub(super) fn upload(&self, bytes: &[u8], tag: Tag) -> Result<Arc<GpuBuffer>> {
        let buffer = self.memory.take(bytes.len().max(16), tag)?;
        self.write(&buffer, 0, bytes);
        Ok(buffer)
    }

    /// Writes `bytes`, a multiple of four, into `buffer` from byte `at` on, before what is submitted next.
    pub(super) fn write(&self, buffer: &GpuBuffer, at: usize, bytes: &[u8]) {
        if let Some(buffer) = buffer.raw() {
            self.queue.write_buffer(buffer, at as u64, bytes);
        }
    }

    /// Sends what was written so far on its way, and natively waits until it arrived and the host's copies are free.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and others.
    pub(super) fn flush(&self) -> Result<()> {
        let index = self.queue.submit([]);
        let _ = self.device.poll(wgpu::PollType::Wait {
            submission_index: Some(index),
            timeout: None,
        });
        self.failures.check()
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
