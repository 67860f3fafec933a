//! How long the kernels took, by the device's own clock, where somebody asked for it.

use super::device::Gpu;
use super::readback::Readback;
use crate::{Pending, Result};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What one kernel took, over all batches that were timed.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelTime {
    /// The kernel's file in `shaders-wgsl/`, and its workgroups.
    pub kernel: String,
    /// How many times it ran.
    pub dispatches: usize,
    /// How long, from the end of the kernel before to its own end.
    pub seconds: f64,
}

/// The most marks of a batch; what comes after is not timed.
const MOST: u32 = wgpu::QUERY_SET_MAX_QUERIES;

/// What the device needs for marks in the middle of a pass.
pub(super) const FEATURES: wgpu::Features = wgpu::Features::TIMESTAMP_QUERY
    .union(wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS)
    .union(wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES);

/// Batches whose marks are on their way.
#[derive(Default)]
pub(super) struct Timings(Mutex<Vec<Marked>>);

struct Marked {
    kernels: Vec<String>,
    bytes: Pending<Vec<u8>>,
}

/// The marks of a batch that is being put together: one before the first kernel and one after each.
pub(super) struct Marks {
    set: wgpu::QuerySet,
    kernels: Vec<String>,
}

impl Marks {
    /// Marks for `dispatches` kernels, if the device was opened to make them.
    pub(super) fn new(gpu: &Gpu, dispatches: usize) -> Option<Self> {
        if !gpu.device.features().contains(FEATURES) || dispatches == 0 {
            return None;
        }
        let count = u32::try_from(dispatches + 1).unwrap_or(MOST).min(MOST);
        let set = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: None,
            ty: wgpu::QueryType::Timestamp,
            count,
        });
        Some(Self {
            set,
            kernels: Vec::new(),
        })
    }

    /// The mark before the first kernel.
    pub(super) fn begin(&self, pass: &mut wgpu::ComputePass<'_>) {
        if self.kernels.is_empty() {
            pass.write_timestamp(&self.set, 0);
        }
    }

    /// The mark after `kernel`.
    pub(super) fn after(&mut self, pass: &mut wgpu::ComputePass<'_>, kernel: String) {
        let mark = self.kernels.len() as u32 + 1;
        if mark < MOST {
            pass.write_timestamp(&self.set, mark);
            self.kernels.push(kernel);
        }
    }

    /// Brings the marks to the host.
    pub(super) fn read(
        self,
        gpu: &Gpu,
        encoder: &mut wgpu::CommandEncoder,
    ) -> (Vec<String>, Readback) {
        let count = self.kernels.len() as u32 + 1;
        let bytes = u64::from(count) * 8;
        let buffer = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("marks"),
            size: bytes,
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        encoder.resolve_query_set(&self.set, 0..count, &buffer, 0);
        let readback = Readback::record(gpu, encoder, &buffer, 0, bytes);
        (self.kernels, readback)
    }
}

impl Timings {
    /// Remembers a batch.
    pub(super) fn keep(&self, kernels: Vec<String>, bytes: Pending<Vec<u8>>) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(Marked { kernels, bytes });
    }

    /// What the kernels took since this was last asked, the longest first.
    ///
    /// # Errors
    /// If the device is lost.
    pub(super) async fn take(&self, gpu: &Gpu) -> Result<Vec<KernelTime>> {
        let list = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let tick = f64::from(gpu.queue.get_timestamp_period()) / 1e9;
        let mut times: BTreeMap<String, (usize, f64)> = BTreeMap::new();
        for Marked { kernels, bytes } in list {
            let marks: Vec<u64> = bytemuck::pod_collect_to_vec(&bytes.await?);
            for (kernel, marks) in kernels.into_iter().zip(marks.windows(2)) {
                let (count, seconds) = times.entry(kernel).or_default();
                *count += 1;
                *seconds += marks[1].saturating_sub(marks[0]) as f64 * tick;
            }
        }
        let mut times: Vec<KernelTime> = times
            .into_iter()
            .map(|(kernel, (dispatches, seconds))| KernelTime {
                kernel,
                dispatches,
                seconds,
            })
            .collect();
        times.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        Ok(times)
    }
}
