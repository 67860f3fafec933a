//! What the marks of batches say once they are there.
//!
//! A mark between two kernels would slow them down by more than many of them take. So a batch is marked as a whole, and then
//! the dispatches of each kernel run once more, one after the other, between two marks.

use crate::gpu::kernel::Work;
use crate::gpu::{KernelTime, Times};
use crate::{Pending, Result};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Batches whose marks are on their way.
#[derive(Default)]
pub(super) struct Timings(Mutex<Vec<Marked>>);

struct Marked {
    read_back: u64,
    spans: Vec<Span>,
    bytes: Pending<Vec<u8>>,
    /// Seconds of a count of the clock.
    tick: f64,
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

impl Timings {
    /// Remembers a batch that brings so many bytes to the host: for each span the clock at its start and its end, u64s, with
    /// `tick` seconds to a count.
    pub(super) fn keep(
        &self,
        spans: Vec<Span>,
        read_back: u64,
        (bytes, tick): (Pending<Vec<u8>>, f64),
    ) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(Marked {
            read_back,
            spans,
            bytes,
            tick,
        });
    }

    /// What was remembered, added up.
    ///
    /// # Errors
    /// If the device is lost.
    pub(super) async fn take(&self) -> Result<Times> {
        let list = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut times = Times::default();
        let mut kernels: BTreeMap<String, KernelTime> = BTreeMap::new();
        for marked in list {
            let (spans, bytes, tick) = (marked.spans, marked.bytes, marked.tick);
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
