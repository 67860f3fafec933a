//! What the host code asks of a programming interface to GPUs: buffers, compiled kernels, and batches of commands.
//!
//! The host code is written once; a [`Driver`] is all that differs between wgpu and Metal. What a driver makes is kept as
//! [`Object`]s, which only that driver looks into.

use super::failure::Failures;
use super::kernel::{Kernel, Source};
use super::lanes::Lanes;
use super::memory::GpuBuffer;
use super::timing::Times;
use crate::device::Adapter;
use crate::{Bytes, Error, Pending, Result};
use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;

/// Something that a driver made.
pub(super) struct Object(Box<dyn Any + Send + Sync>);

impl Object {
    pub(super) fn new<T: Any + Send + Sync>(object: T) -> Self {
        Self(Box::new(object))
    }

    /// What it is to the driver that made it.
    ///
    /// # Errors
    /// [`Error::Refused`] if another driver made it: matrices and rows of two backends were mixed.
    pub(super) fn get<T: Any>(&self) -> Result<&T> {
        self.0.downcast_ref().ok_or_else(|| Error::Refused {
            why: "it belongs to another backend".into(),
        })
    }
}

/// Memory of a device.
pub(super) struct RawBuffer {
    pub(super) object: Object,
    pub(super) bytes: usize,
}

/// A part of a buffer that a kernel sees.
pub(super) struct Part<'a> {
    pub(super) buffer: &'a RawBuffer,
    /// A multiple of 256.
    pub(super) at: usize,
    /// A multiple of 16, or up to the end of the buffer.
    pub(super) bytes: usize,
}

/// A kernel compiled.
pub(super) struct Pipeline {
    pub(super) kernel: Kernel,
    pub(super) object: Object,
    /// Never used twice.
    pub(super) id: u64,
}

/// Buffers bound to a kernel, which must not get another owner while it may run.
pub(super) struct Bindings {
    pub(super) object: Object,
    pub(super) _held: Vec<Arc<GpuBuffer>>,
}

/// What a device is told to do.
pub(super) enum Command {
    Dispatch {
        pipeline: Arc<Pipeline>,
        bindings: Arc<Bindings>,
        groups: [u32; 3],
    },
    Copy {
        from: (Arc<GpuBuffer>, usize),
        to: (Arc<GpuBuffer>, usize),
        bytes: usize,
    },
    /// Brings the first bytes of a buffer, as they are then, to the host.
    Read { from: Arc<GpuBuffer>, bytes: usize },
}

/// The tokens that commands are for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Batch {
    pub(super) tokens: u64,
    /// Positions of all sequences.
    pub(super) positions: u64,
    /// Positions that each token sees, of all tokens.
    pub(super) seen: u64,
}

impl Command {
    pub(super) fn is_read(&self) -> bool {
        matches!(self, Self::Read { .. })
    }
}

#[cfg(feature = "wgpu")]
impl Command {
    pub(super) fn is_dispatch(&self) -> bool {
        matches!(self, Self::Dispatch { .. })
    }

    /// Bytes that it brings to the host.
    pub(super) fn read_back(&self) -> u64 {
        match self {
            Self::Read { bytes, .. } => *bytes as u64,
            _ => 0,
        }
    }
}

/// An opened device, as its interface shows it.
pub(super) trait Driver: Send + Sync {
    /// The interface's name.
    fn name(&self) -> &'static str;

    /// A buffer of `bytes` of any value, for any use; `None` if the device has no such memory.
    fn reserve(&self, bytes: usize) -> Option<RawBuffer>;

    /// The memory of `bytes`, which lie in a mapped file, as a buffer that kernels only read; `None` if the device cannot see
    /// it where it lies.
    fn borrow(&self, _bytes: &Bytes) -> Option<RawBuffer> {
        None
    }

    /// Writes `bytes`, a multiple of four, into `buffer` from byte `at` on: before what is submitted next, and after what was
    /// submitted before.
    ///
    /// # Errors
    /// [`Error::Refused`] for a buffer of another device.
    fn write(&self, buffer: &RawBuffer, at: usize, bytes: &[u8]) -> Result<()>;

    /// Sends what was written so far on its way, and natively waits until it arrived and the host's copies are free.
    fn flush(&self);

    /// Compiles a kernel.
    ///
    /// # Errors
    /// [`Error::Refused`], with the kernel's name, if the device does not take it.
    fn compile(&self, source: &Source) -> Result<Object>;

    /// Binds `parts` to a kernel of this driver, one for each of its bindings, in their order.
    ///
    /// # Errors
    /// [`Error::Refused`] for a kernel or a buffer of another device.
    fn bind(&self, pipeline: &Pipeline, parts: &[Part<'_>]) -> Result<Object>;

    /// Runs `commands` as one command buffer, each after those before it whose results it reads; what is to be read follows, in
    /// its order.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::DeviceLost`].
    fn submit(&self, commands: &[Command], batch: Batch) -> Result<Vec<Pending<Vec<u8>>>>;

    /// What batches and kernels took since this was last asked; nothing if the device was not asked to tell, or cannot.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    fn times(&self) -> Pin<Box<dyn Future<Output = Result<Times>> + Send + '_>> {
        Box::pin(async { Ok(Times::default()) })
    }

    /// Keeps what was compiled for the next program, where that helps.
    fn keep(&self) {}

    /// Destroys the device, as if it was lost.
    fn destroy(&self);
}

/// What a device allows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The most bytes of a buffer.
    pub(super) buffer: usize,
    /// The most bytes of a binding.
    pub(super) binding: usize,
    /// The most workgroups along a dimension.
    pub(super) workgroups: u32,
    /// The most invocations of a workgroup.
    pub(super) invocations: u32,
    /// Bytes of workgroup memory.
    pub(super) workgroup_memory: u32,
}

/// A device that was opened.
pub(super) struct Opened {
    pub(super) driver: Arc<dyn Driver>,
    pub(super) summary: Adapter,
    pub(super) lanes: Lanes,
    pub(super) limits: Limits,
    pub(super) failures: Arc<Failures>,
}
