//! Whether subgroups are what the kernels take them for: a fixed number of neighbouring invocations.
//!
//! WGSL promises neither the size nor which invocations a subgroup has. So the device is asked, once, with one workgroup.

use super::device::{Gpu, Lanes};
use super::kernel::Kernel;
use super::readback::Readback;
use crate::{Result, Tag};

/// Invocations of the probe's workgroup.
const THREADS: usize = 256;

/// Lanes that are subgroups of `gpu` if these are regular, else lanes through workgroup memory.
pub(super) async fn lanes(gpu: &Gpu, info: &wgpu::AdapterInfo) -> Result<Lanes> {
    let seen = look(gpu).await?;
    let sizes: Vec<[u32; 4]> = bytemuck::pod_collect_to_vec(&seen);
    let size = sizes.first().map_or(0, |seen| seen[0]);
    let regular = sizes.iter().zip(0u32..).all(|(seen, index)| {
        let first = index / size.max(1) * size;
        *seen == [size, first, first + size.max(1) - 1, 0]
    });
    // Where the driver may choose another size for another kernel, one kernel's proves nothing.
    let fixed = info.subgroup_min_size == info.subgroup_max_size;
    if regular && fixed && size.is_power_of_two() && (4..=64).contains(&size) {
        Ok(Lanes {
            size,
            subgroups: true,
            declared: Gpu::DECLARES_SUBGROUPS,
            ..gpu.lanes
        })
    } else {
        tracing::debug!(size, regular, fixed, "subgroups are not used");
        Ok(gpu.lanes)
    }
}

async fn look(gpu: &Gpu) -> Result<Vec<u8>> {
    let declared = Lanes {
        declared: Gpu::DECLARES_SUBGROUPS,
        ..gpu.lanes
    };
    let pipeline = gpu.compile(Kernel::Probe, declared, u64::MAX);
    let seen = gpu.memory.take(16 * THREADS, Tag::Scratch)?;
    let Some(raw) = seen.raw() else {
        return Ok(Vec::new());
    };
    let group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.layout,
        entries: &[wgpu::BindGroupEntry {
            binding: 0,
            resource: raw.as_entire_binding(),
        }],
    });
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    pass.set_pipeline(&pipeline.pipeline);
    pass.set_bind_group(0, &group, &[]);
    pass.dispatch_workgroups(1, 1, 1);
    drop(pass);
    let readback = Readback::record(gpu, &mut encoder, raw, 0, 16 * THREADS as u64);
    let submission = gpu.queue.submit([encoder.finish()]);
    readback.map(gpu, submission).await
}
