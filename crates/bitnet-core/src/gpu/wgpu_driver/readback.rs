//! Bytes on their way from the device to the host.

use super::WgpuDriver;
use crate::gpu::failure::Failures;
use crate::pending::Waiting;
use crate::{Error, Pending, Result};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A copy that a command buffer will make into memory that the host can read.
pub(super) struct Readback {
    staging: wgpu::Buffer,
}

/// Memory of up to [`SMALL`] bytes that the host can read, kept for the next answer of that size.
#[derive(Default)]
pub(super) struct Staging(Mutex<Vec<wgpu::Buffer>>);

/// Answers up to this size are read through memory that is kept.
const SMALL: u64 = 64 << 10;
/// Buffers that are kept.
const MOST: usize = 16;

impl Staging {
    fn take(&self, device: &wgpu::Device, bytes: u64) -> wgpu::Buffer {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = free.iter().position(|buffer| buffer.size() == bytes);
        match place {
            Some(place) => free.swap_remove(place),
            None => device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("readback"),
                size: bytes,
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            }),
        }
    }

    fn put(&self, buffer: wgpu::Buffer) {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.size() <= SMALL && free.len() < MOST {
            free.push(buffer);
        }
    }
}

/// What the callback of a mapping knows.
#[derive(Default)]
struct Mapped {
    outcome: Option<bool>,
    waker: Option<Waker>,
}

struct Arriving {
    device: wgpu::Device,
    failures: Arc<Failures>,
    staging: wgpu::Buffer,
    kept: Arc<Staging>,
    submission: wgpu::SubmissionIndex,
    mapped: Arc<Shared>,
}

/// What the callback of a mapping tells, and how it wakes a thread.
#[derive(Default)]
struct Shared {
    mapped: Mutex<Mapped>,
    told: Condvar,
}

/// How often a thread looks again after the device, and how long it waits in between.
const LOOKS: usize = 200;
const PAUSE: Duration = Duration::from_millis(50);

impl Readback {
    /// Records the copy of the first `bytes` of `buffer`.
    pub(super) fn record(
        driver: &WgpuDriver,
        encoder: &mut wgpu::CommandEncoder,
        buffer: &wgpu::Buffer,
        bytes: u64,
    ) -> Self {
        let staging = driver.staging.take(&driver.device, bytes);
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, bytes);
        Self { staging }
    }

    /// The bytes, once `submission`, which makes the copy, is done.
    pub(super) fn map(
        self,
        driver: &WgpuDriver,
        submission: wgpu::SubmissionIndex,
    ) -> Pending<Vec<u8>> {
        let mapped = Arc::<Shared>::default();
        let shared = Arc::clone(&mapped);
        self.staging
            .map_async(wgpu::MapMode::Read, .., move |outcome| {
                let mut mapped = shared.lock();
                mapped.outcome = Some(outcome.is_ok());
                if let Some(waker) = mapped.waker.take() {
                    waker.wake();
                }
                shared.told.notify_all();
            });
        Pending::waiting(Box::new(Arriving {
            device: driver.device.clone(),
            failures: Arc::clone(&driver.failures),
            staging: self.staging,
            kept: Arc::clone(&driver.staging),
            submission,
            mapped,
        }))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Mapped> {
        self.mapped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arriving {
    /// Waits for the device. The callback may be under way in another thread, which waited for the device, too.
    fn outcome(&self) -> Option<bool> {
        for _ in 0..LOOKS {
            if let Some(outcome) = self.mapped.lock().outcome {
                return Some(outcome);
            }
            let _ = self.device.poll(wgpu::PollType::Wait {
                submission_index: Some(self.submission.clone()),
                timeout: None,
            });
            let mapped = self.mapped.lock();
            if mapped.outcome.is_none() {
                let waited = self.mapped.told.wait_timeout(mapped, PAUSE);
                drop(waited.unwrap_or_else(PoisonError::into_inner));
            }
        }
        None
    }

    /// Whether the callback came; if not, `waker` will be told.
    fn look(&self, waker: &Waker) -> Option<bool> {
        let mut mapped = self.mapped.lock();
        if mapped.outcome.is_none() {
            mapped.waker = Some(waker.clone());
        }
        mapped.outcome
    }

    /// What to say when the device gave no answer.
    fn silent(&self, what: &str) -> Error {
        match self.failures.check() {
            Err(error) => error,
            Ok(()) => Error::DeviceLost { why: what.into() },
        }
    }

    fn read(&self) -> Result<Vec<u8>> {
        let view = self.staging.get_mapped_range(..);
        let bytes = view.map(|view| view.to_vec());
        self.staging.unmap();
        if bytes.is_ok() {
            self.kept.put(self.staging.clone());
        }
        bytes.map_err(|error| self.silent(&error.to_string()))
    }
}

impl Waiting<Vec<u8>> for Arriving {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>>> {
        // A browser's GPU calls back by itself, and nobody may wait for it.
        let outcome = if cfg!(target_family = "wasm") {
            self.look(cx.waker())
        } else {
            self.outcome()
        };
        match outcome {
            Some(true) => Poll::Ready(self.read()),
            Some(false) => Poll::Ready(Err(self.silent("what it computed cannot be read"))),
            None if cfg!(target_family = "wasm") => Poll::Pending,
            None => Poll::Ready(Err(self.silent("it does not answer"))),
        }
    }
}
