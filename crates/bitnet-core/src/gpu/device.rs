//! One opened device: what it can do, its memory, and the kernels compiled for it.

use super::driver::{Driver, Limits, Opened, Pipeline};
use super::failure::Failures;
use super::kernel::{Kernel, Teams, TernaryRow};
use super::lanes::Lanes;
use super::memory::{GpuBuffer, GpuMemory};
use super::outbox::Outbox;
use super::{GpuInterface, GpuOptions};
use crate::device::Adapter;
use crate::{Error, Result, Tag};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// An opened device.
pub(super) struct Gpu {
    /// First, so that it is emptied before anything else goes.
    pub(super) outbox: Outbox,
    pub(super) driver: Arc<dyn Driver>,
    pub(super) summary: Adapter,
    pub(super) lanes: Lanes,
    pub(super) memory: Arc<GpuMemory>,
    pub(super) failures: Arc<Failures>,
    pub(super) limits: Limits,
    /// Whether keys and values are binary16.
    pub(super) half_cache: bool,
    pipelines: Mutex<HashMap<Kernel, Arc<Pipeline>>>,
}

impl Gpu {
    /// Opens the device that `options` ask for.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if there is none, it lacks what the kernels need, or this program
    /// was not built for its interface.
    pub(super) async fn open(options: &GpuOptions) -> Result<Self> {
        let opened = match options.interface {
            #[cfg(feature = "wgpu")]
            GpuInterface::Wgpu => super::wgpu_driver::open(options).await?,
            #[cfg(all(feature = "metal", target_os = "macos"))]
            GpuInterface::Metal => super::metal_driver::open(options)?,
            #[cfg(all(feature = "metal-shim", target_os = "linux"))]
            GpuInterface::MetalShim => super::shim_driver::open(options)?,
            interface => return Err(interface.not_built()),
        };
        let Opened {
            driver,
            summary,
            lanes,
            limits,
            failures,
        } = opened;
        let limit = options.pool.options().hard_limit;
        let memory = GpuMemory::new(&driver, &failures, &summary.name, limits.buffer, limit);
        failures.check()?;
        Ok(Self {
            outbox: Outbox::default(),
            driver,
            summary,
            lanes,
            memory,
            failures,
            limits,
            half_cache: options.half_cache,
            pipelines: Mutex::default(),
        })
    }

    /// The compiled `kernel`.
    ///
    /// # Errors
    /// [`Error::Refused`] if the device does not take it.
    pub(super) fn pipeline(&self, kernel: Kernel) -> Result<Arc<Pipeline>> {
        let mut pipelines = self
            .pipelines
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = pipelines.get(&kernel) {
            return Ok(Arc::clone(pipeline));
        }
        let source = kernel.source(self.lanes);
        if source.threads > self.limits.invocations {
            return Err(Error::Refused {
                why: format!(
                    "the kernel {} needs {} invocations in a workgroup, and the GPU takes {}",
                    source.name, source.threads, self.limits.invocations
                ),
            });
        }
        let pipeline = Arc::new(Pipeline {
            kernel,
            object: self.driver.compile(&source)?,
            id: pipelines.len() as u64,
        });
        self.failures.check()?;
        pipelines.insert(kernel, Arc::clone(&pipeline));
        Ok(pipeline)
    }

    /// [`Teams::most`] here.
    pub(super) fn most_teams(&self, row: TernaryRow) -> u32 {
        let limits = self.limits;
        Teams::most(row, self.lanes, limits.invocations, limits.workgroup_memory)
    }

    /// A buffer that holds `bytes`.
    ///
    /// # Errors
    /// As [`GpuMemory::take`].
    pub(super) fn upload(&self, bytes: &[u8], tag: Tag) -> Result<Arc<GpuBuffer>> {
        let buffer = self.memory.take(bytes.len().max(16), tag)?;
        self.write(&buffer, 0, bytes)?;
        Ok(buffer)
    }

    /// Writes `bytes`, a multiple of four, into `buffer` from byte `at` on, before what is submitted next.
    ///
    /// # Errors
    /// As [`Driver::write`].
    pub(super) fn write(&self, buffer: &GpuBuffer, at: usize, bytes: &[u8]) -> Result<()> {
        self.driver.write(buffer.raw()?, at, bytes)
    }

    /// Sends what was written so far on its way, and natively waits until it arrived and the host's copies are free.
    ///
    /// # Errors
    /// [`Error::DeviceLost`] and others.
    pub(super) fn flush(&self) -> Result<()> {
        self.outbox.settle()?;
        self.driver.flush();
        self.failures.check()
    }
}
