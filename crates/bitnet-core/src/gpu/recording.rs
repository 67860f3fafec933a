//! Commands of one batch: dispatches and copies in their order, submitted as one command buffer.

use super::device::Gpu;
use super::driver::{Batch, Command};
use super::kernel::Kernel;
use super::memory::{Arena, GpuBuffer, Slot};
use super::scratch::{BatchUniform, Bound, Scratch};
use crate::{Error, Pending, Result};
use std::sync::Arc;

/// The recording of one batch.
pub(super) struct Recording {
    pub(super) gpu: Arc<Gpu>,
    scratch: Arc<Scratch>,
    commands: Vec<Command>,
    uniform: BatchUniform,
    /// Kept until the batch is submitted: nothing else may write there.
    writes: Vec<(Arc<Slot>, Vec<u8>)>,
    /// Tokens of the batch.
    pub(super) tokens: usize,
    /// The positions that they see, for reports.
    pub(super) batch: Batch,
}

impl Recording {
    /// An empty recording of `tokens` tokens.
    pub(super) fn new(gpu: &Arc<Gpu>, scratch: &Arc<Scratch>, tokens: usize) -> Self {
        Self {
            gpu: Arc::clone(gpu),
            scratch: Arc::clone(scratch),
            commands: Vec::new(),
            uniform: BatchUniform {
                count: tokens as u32,
                ..BatchUniform::default()
            },
            writes: Vec::new(),
            tokens,
            batch: Batch {
                tokens: tokens as u64,
                ..Batch::default()
            },
        }
    }

    /// The buffer of [`BatchUniform`], for kernels to which it is a list whose first word is the number of tokens.
    pub(super) fn counts(&self) -> Arc<GpuBuffer> {
        Arc::clone(&self.scratch.uniform)
    }

    /// A buffer for the time of this batch.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Unavailable`] if the device cannot bind so much at once.
    pub(super) fn slot(&self, bytes: usize) -> Result<Arc<Slot>> {
        self.slot_of(&self.scratch.arena, bytes)
    }

    fn slot_of(&self, arena: &Arc<Arena>, bytes: usize) -> Result<Arc<Slot>> {
        let bytes = bytes.max(16).next_multiple_of(16);
        if bytes > self.gpu.limits.binding {
            return Err(Error::Unavailable {
                what: format!("a batch whose rows take {bytes} bytes"),
                why: format!(
                    "the GPU binds at most {} bytes at once: run fewer tokens together",
                    self.gpu.limits.binding
                ),
            });
        }
        arena.take(bytes, &self.gpu.memory)
    }

    /// A buffer that holds `bytes` when the batch begins.
    ///
    /// # Errors
    /// As [`slot`](Self::slot).
    pub(super) fn input(&mut self, bytes: Vec<u8>) -> Result<Arc<Slot>> {
        let slot = self.slot_of(&self.scratch.inputs, bytes.len())?;
        self.writes.push((Arc::clone(&slot), bytes));
        Ok(slot)
    }

    /// The uniform that kernels read.
    pub(super) fn uniform(&mut self) -> &mut BatchUniform {
        &mut self.uniform
    }

    /// Runs `kernel` on `bound` in `groups` workgroups; the last binding of those that have one, the uniform, is added.
    ///
    /// # Errors
    /// If the device does not take the kernel, or there are too many workgroups.
    pub(super) fn dispatch(
        &mut self,
        kernel: Kernel,
        bound: &[Bound<'_>],
        groups: [u32; 3],
    ) -> Result<()> {
        if groups
            .iter()
            .any(|count| *count > self.gpu.limits.workgroups)
        {
            return Err(Error::Unavailable {
                what: format!("the kernel {} for {groups:?} workgroups", kernel.name()),
                why: format!(
                    "the GPU takes at most {} along a dimension: run fewer tokens together",
                    self.gpu.limits.workgroups
                ),
            });
        }
        if groups.contains(&0) {
            return Ok(());
        }
        let pipeline = self.gpu.pipeline(kernel)?;
        let bindings = self
            .scratch
            .bind(&self.gpu, &pipeline, kernel.bindings(), bound)?;
        self.commands.push(Command::Dispatch {
            pipeline,
            bindings,
            groups,
        });
        Ok(())
    }

    /// Copies bytes between buffers.
    pub(super) fn copy(
        &mut self,
        from: (&Arc<GpuBuffer>, usize),
        to: (&Arc<GpuBuffer>, usize),
        bytes: usize,
    ) {
        self.commands.push(Command::Copy {
            from: (Arc::clone(from.0), from.1),
            to: (Arc::clone(to.0), to.1),
            bytes,
        });
    }

    /// Will bring the first `bytes` of `from`, as they are then, to the host.
    pub(super) fn read(&mut self, from: &Arc<GpuBuffer>, bytes: usize) {
        self.commands.push(Command::Read {
            from: Arc::clone(from),
            bytes,
        });
    }

    /// Submits all of it to the device; readbacks follow, in their order. A warm-up submits nothing.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::OutOfMemory`], [`Error::Refused`].
    pub(super) fn submit(self) -> Result<Vec<Pending<Vec<u8>>>> {
        let Self {
            gpu,
            scratch,
            commands,
            uniform,
            writes,
            batch,
            tokens: _,
        } = self;
        gpu.failures.check()?;
        if scratch.warms_up {
            return Ok(Vec::new());
        }
        let uniform = (Arc::clone(&scratch.uniform), uniform);
        tracing::trace!(batch.tokens, batch.positions, "a batch for the GPU");
        let reads = commands.iter().filter(|command| command.is_read()).count();
        let (driver, failures) = (Arc::clone(&gpu.driver), Arc::clone(&gpu.failures));
        gpu.outbox.send(reads, move || {
            for (slot, bytes) in &writes {
                driver.write(slot.buffer().raw()?, 0, bytes)?;
            }
            driver.write(uniform.0.raw()?, 0, bytemuck::bytes_of(&uniform.1))?;
            let reads = driver.submit(&commands, batch)?;
            failures.check()?;
            Ok(reads)
        })
    }
}
