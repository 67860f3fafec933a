//! What no kernel can be faster than: reading memory, copying it, and starting.

use super::GpuBackend;
use super::kernel::Kernel;
use super::memory::GpuBuffer;
use super::recording::Recording;
use super::scratch::{Bound, Scratch};
use crate::{Error, Result, Tag};
use std::sync::Arc;

/// The floors under the times of a device's kernels, measured by its own clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Floors {
    /// Bytes read in a second.
    pub read: f64,
    /// Bytes copied in a second, counted twice: as read, and as written.
    pub copy: f64,
    /// Seconds from one kernel to the next that waits for it, when both have next to nothing to do.
    pub dispatch: f64,
}

/// Kernels in a row.
const CHAIN: usize = 32;
/// Times that is done, of which the fastest counts: the clock of a device rises under load.
const TURNS: usize = 8;
/// Workgroups that read.
const GROUPS: u32 = 2048;
/// Invocations of these.
const THREADS: usize = 256;

impl GpuBackend {
    /// Measures with buffers of up to `bytes` bytes, which should be several times the device's caches.
    ///
    /// # Errors
    /// [`Error::Unavailable`] unless the backend was opened [timed](super::GpuOptions::timed) on a device that can tell;
    /// [`Error::OutOfMemory`], [`Error::DeviceLost`].
    pub async fn floors(&self, bytes: usize) -> Result<Floors> {
        let scratch = Arc::new(Scratch::new(&self.gpu, false)?);
        let bytes = bytes.min(self.gpu.limits.binding).max(1 << 16) / 4096 * 4096;
        let source = self.gpu.memory.take(bytes, Tag::Scratch)?;
        let target = self
            .gpu
            .memory
            .take(bytes.max(16 * THREADS * GROUPS as usize), Tag::Scratch)?;
        let both = [&source, &target];
        let vectors = bytes as u32 / 16;
        let read = self
            .stream(&scratch, both, (vectors, false), GROUPS)
            .await?;
        let copy = self.stream(&scratch, both, (vectors, true), GROUPS).await?;
        let dispatch = self.stream(&scratch, both, (1, false), 1).await?;
        Ok(Floors {
            read: bytes as f64 / read,
            copy: 2.0 * bytes as f64 / copy,
            dispatch,
        })
    }

    /// Seconds of one kernel.
    async fn stream(
        &self,
        scratch: &Arc<Scratch>,
        [source, target]: [&Arc<GpuBuffer>; 2],
        (vectors, copies): (u32, bool),
        groups: u32,
    ) -> Result<f64> {
        let kernel = Kernel::Stream { vectors, copies };
        let mut least = f64::INFINITY;
        for _ in 0..TURNS {
            self.times().await?;
            let mut recording = Recording::new(&self.gpu, scratch, 1);
            for _ in 0..CHAIN {
                let bound = [Bound::whole(source), Bound::whole(target)];
                recording.dispatch(kernel, &bound, [groups, 1, 1])?;
            }
            recording.submit()?;
            for time in self.times().await?.kernels {
                least = least.min(time.seconds / time.dispatches as f64);
            }
        }
        if least.is_finite() {
            return Ok(least);
        }
        Err(Error::Unavailable {
            what: "the time of kernels".into(),
            why: format!("{} does not tell it", self.adapter()),
        })
    }
}
