//! Whether subgroups are what the kernels take them for: a fixed number of neighbouring invocations.
//!
//! WGSL promises neither the size nor which invocations a subgroup has. So the device is asked, once, with one workgroup.

use super::WgpuDriver;
use super::readback::Readback;
use crate::gpu::driver::Driver;
use crate::gpu::kernel::Kernel;
use crate::gpu::lanes::Lanes;
use crate::{Error, Result};

/// Invocations of the probe's workgroup.
const THREADS: usize = 256;
/// Whether module texts must say that they use subgroups: WebGPU wants it, and natively it is not known.
const DECLARES_SUBGROUPS: bool = cfg!(target_family = "wasm");

/// Lanes that are subgroups of the device if these are regular, else `plain` ones, through workgroup memory.
pub(super) async fn lanes(
    driver: &WgpuDriver,
    info: &wgpu::AdapterInfo,
    plain: Lanes,
) -> Result<Lanes> {
    let seen = look(driver, plain).await?;
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
            declared: DECLARES_SUBGROUPS,
            ..plain
        })
    } else {
        tracing::debug!(size, regular, fixed, "subgroups are not used");
        Ok(plain)
    }
}

async fn look(driver: &WgpuDriver, plain: Lanes) -> Result<Vec<u8>> {
    let declared = Lanes {
        declared: DECLARES_SUBGROUPS,
        ..plain
    };
    let compiled = driver.compiled(&Kernel::Probe.source(declared));
    let bytes = 16 * THREADS;
    let seen = driver.reserve(bytes).ok_or_else(|| Error::OutOfMemory {
        what: "the GPU".into(),
        bytes,
        in_use: 0,
        limit: None,
    })?;
    let seen: &wgpu::Buffer = seen.object.get()?;
    let device = &driver.device;
    let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &compiled.layout,
        entries: &[wgpu::BindGroupEntry {
            binding: 0,
            resource: seen.as_entire_binding(),
        }],
    });
    let mut encoder = device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    pass.set_pipeline(&compiled.pipeline);
    pass.set_bind_group(0, &group, &[]);
    pass.dispatch_workgroups(1, 1, 1);
    drop(pass);
    let readback = Readback::record(driver, &mut encoder, seen, bytes as u64);
    let submission = driver.queue.submit([encoder.finish()]);
    readback.map(driver, submission).await
}
