//! How long batches and kernels took, by the device's own clock, where somebody asked for it.
//!
//! A mark between two kernels would slow them down by more than many of them take. So a batch is marked as a whole, and then
//! the dispatches of each kernel run once more, one after the other, between two marks.

use super::device::Gpu;
use super::kernel::Work;
use super::readback::Readback;
use crate::{Pending, Result};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What batches took since this was last asked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Times {
    /// Batches.
    pub batches: usize,
    /// Dispatches of all of them.
    pub dispatches: usize,
    /// Bytes that came back to the host.
    pub read_back: u64,
    /// Seconds of all of them, from the start of the first kernel of each to the end of its last.
    pub seconds: f64,
    /// Kernels that can run by themselves, the longest first.
    pub kernels: Vec<KernelTime>,
}

/// What one kernel took, over all batches: each time when it waited for the same one before it, for the layer before.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KernelTime {
    /// The kernel's file in `shaders-wgsl/`, and the shape of what it multiplies.
    pub kernel: String,
    /// How many times it ran.
    pub dispatches: usize,
    /// How long.
    pub seconds: f64,
    /// Bytes of weights, keys and values that it had to read.
    pub bytes: u64,
    /// Products that it had to add.
    pub products: u64,
}

/// What the device needs for marks between passes.
pub(super) const FEATURES: wgpu::Features =
    wgpu::Features::TIMESTAMP_QUERY.union(wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS);

/// The most marks of a batch; what comes after is not timed.
const MOST: u32 = 256;

/// Batches whose marks are on their way.
#[derive(Default)]
pub(super) struct Timings(Mutex<Vec<Marked>>);

struct Marked {
    read_back: u64,
    spans: Vec<Span>,
    bytes: Pending<Vec<u8>>,
}

/// What ran between two marks.
pub(super) struct Span {
    /// The batch itself if there is none.
    kernel: Option<String>,
    dispatches: usize,
    /// How often these ran.
    times: usize,
    work: Work,
}

impl Span {
    pub(super) fn batch(dispatches: usize) -> Self {
        Self {
            kernel: None,
            dispatches,
            times: 1,
            work: Work::default(),
        }
    }

    pub(super) fn kernel(label: String, (dispatches, times): (usize, usize), work: Work) -> Self {
        Self {
            kernel: Some(label),
            dispatches,
            times,
            work,
        }
    }
}

/// The marks of a batch that is being put together: two for each span.
pub(super) struct Marks {
    set: wgpu::QuerySet,
    spans: Vec<Span>,
}

impl Marks {
    /// Marks, if the device was opened to make them.
    pub(super) fn new(gpu: &Gpu) -> Option<Self> {
        gpu.device.features().contains(FEATURES).then(|| Self {
            set: gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count: MOST,
            }),
            spans: Vec::new(),
        })
    }

    /// The mark before a span, if there is room for it.
    pub(super) fn mark(&self, encoder: &mut wgpu::CommandEncoder) -> Option<u32> {
        let mark = 2 * self.spans.len() as u32;
        (mark + 1 < MOST).then(|| {
            encoder.write_timestamp(&self.set, mark);
            mark
        })
    }

    /// The mark after it.
    pub(super) fn end(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        start: Option<u32>,
        span: Span,
    ) {
        if let Some(start) = start {
            encoder.write_timestamp(&self.set, start + 1);
            self.spans.push(span);
        }
    }

    /// Brings the marks to the host.
    pub(super) fn read(
        self,
        gpu: &Gpu,
        encoder: &mut wgpu::CommandEncoder,
    ) -> (Vec<Span>, Readback) {
        let count = 2 * self.spans.len() as u32;
        let bytes = u64::from(count) * 8;
        let buffer = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("marks"),
            size: bytes,
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        encoder.resolve_query_set(&self.set, 0..count, &buffer, 0);
        let readback = Readback::record(gpu, encoder, &buffer, 0, bytes);
        (self.spans, readback)
    }
}

impl Timings {
    /// Remembers a batch that brings so many bytes to the host.
    pub(super) fn keep(&self, spans: Vec<Span>, read_back: u64, bytes: Pending<Vec<u8>>) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(Marked {
            read_back,
            spans,
            bytes,
        });
    }

    /// What was remembered, added up.
    ///
    /// # Errors
    /// If the device is lost.
    pub(super) async fn take(&self, gpu: &Gpu) -> Result<Times> {
        let list = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let tick = f64::from(gpu.queue.get_timestamp_period()) / 1e9;
        let mut times = Times::default();
        let mut kernels: BTreeMap<String, KernelTime> = BTreeMap::new();
        for marked in list {
            let (spans, bytes) = (marked.spans, marked.bytes);
            times.read_back += marked.read_back;
            let marks: Vec<[u64; 2]> = bytemuck::pod_collect_to_vec(&bytes.await?);
            for (span, [start, end]) in spans.into_iter().zip(marks) {
                let seconds = end.saturating_sub(start) as f64 * tick / span.times as f64;
                let Some(kernel) = span.kernel else {
                    times.batches += 1;
                    times.dispatches += span.dispatches;
                    times.seconds += seconds;
                    continue;
                };
                let time = kernels.entry(kernel).or_default();
                time.dispatches += span.dispatches;
                time.seconds += seconds;
                time.bytes += span.work.bytes;
                time.products += span.work.products;
            }
        }
        times.kernels = kernels
            .into_iter()
            .map(|(kernel, time)| KernelTime { kernel, ..time })
            .collect();
        let kernels = &mut times.kernels;
        kernels.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        Ok(times)
    }
}
