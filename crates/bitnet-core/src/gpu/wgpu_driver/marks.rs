//! Marks of the device's clock around what is timed.

use super::WgpuDriver;
use super::readback::Readback;
use super::timings::Span;

/// What the device needs for marks between passes.
pub(super) const FEATURES: wgpu::Features =
    wgpu::Features::TIMESTAMP_QUERY.union(wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS);

/// The most marks of a batch; what comes after is not timed.
const MOST: u32 = 256;

/// The marks of a batch that is being put together: two for each span.
pub(super) struct Marks {
    set: wgpu::QuerySet,
    spans: Vec<Span>,
}

impl Marks {
    /// Marks, if the device was opened to make them.
    pub(super) fn new(driver: &WgpuDriver) -> Option<Self> {
        driver.device.features().contains(FEATURES).then(|| Self {
            set: driver.device.create_query_set(&wgpu::QuerySetDescriptor {
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
        driver: &WgpuDriver,
        encoder: &mut wgpu::CommandEncoder,
    ) -> (Vec<Span>, Readback) {
        let count = 2 * self.spans.len() as u32;
        let bytes = u64::from(count) * 8;
        let buffer = driver.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("marks"),
            size: bytes,
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        encoder.resolve_query_set(&self.set, 0..count, &buffer, 0);
        let readback = Readback::record(driver, encoder, &buffer, bytes);
        (self.spans, readback)
    }
}
