//! What one batch of tokens asks of the device: dispatches and copies in their order, sent as one command buffer.
//!
//! Operations of the backend only write down what is to be done.

use super::attention::Turning;
use super::device::Gpu;
use super::driver::{Batch, Command};
use super::kernel::Kernel;
use super::memory::{Arena, GpuBuffer, Slot};
use super::session::Session;
use crate::{Error, Pending, Result};
use bytemuck::{Pod, Zeroable};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What changes from batch to batch: `step.wgsl`.
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Step {
    pub(super) first: u32,
    pub(super) count: u32,
    pub(super) room: u32,
    pub(super) asked: u32,
    pub(super) entries: u32,
    pub(super) piece: u32,
    pub(super) reserved: [u32; 2],
}

/// A part of a buffer that a kernel sees.
#[derive(Clone, Copy)]
pub(super) struct Bound<'a> {
    pub(super) buffer: &'a Arc<GpuBuffer>,
    /// A multiple of 256.
    pub(super) at: usize,
    pub(super) bytes: usize,
}

impl<'a> Bound<'a> {
    /// All of a buffer.
    pub(super) fn whole(buffer: &'a Arc<GpuBuffer>) -> Self {
        Self {
            buffer,
            at: 0,
            bytes: buffer.bytes(),
        }
    }

    /// The first `bytes` of a slot, which may be larger.
    pub(super) fn slot(slot: &'a Slot, bytes: usize) -> Self {
        Self {
            buffer: slot.buffer(),
            at: 0,
            bytes,
        }
    }

    /// What tells it from others.
    pub(super) fn key(&self) -> [u64; 3] {
        [self.buffer.id(), self.at as u64, self.bytes as u64]
    }
}

/// The recording of one batch.
pub(super) struct Recording {
    pub(super) gpu: Arc<Gpu>,
    pub(super) session: Arc<Session>,
    state: Mutex<State>,
    /// Tokens of the batch.
    pub(super) tokens: usize,
    /// The position of the first of them.
    pub(super) first: usize,
}

#[derive(Default)]
struct State {
    commands: Vec<Command>,
    step: Step,
    /// Kept until the batch is sent: nothing else may write there.
    writes: Vec<(Arc<Slot>, Vec<u8>)>,
    /// What comes before the next command, unless that one does it along.
    put_off: Option<Turning>,
    sent: bool,
}

impl Recording {
    pub(super) fn new(
        gpu: &Arc<Gpu>,
        session: &Arc<Session>,
        (first, tokens): (usize, usize),
        step: Step,
    ) -> Arc<Self> {
        Arc::new(Self {
            gpu: Arc::clone(gpu),
            session: Arc::clone(session),
            state: Mutex::new(State {
                step,
                ..State::default()
            }),
            tokens,
            first,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer for the time of this batch.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Unavailable`] if the device cannot bind so much at once.
    pub(super) fn slot(&self, bytes: usize) -> Result<Arc<Slot>> {
        self.slot_of(&self.session.arena, bytes)
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
    pub(super) fn input(&self, bytes: Vec<u8>) -> Result<Arc<Slot>> {
        let inputs = &self.session.inputs;
        let slot = self.slot_of(inputs, bytes.len())?;
        self.state().writes.push((Arc::clone(&slot), bytes));
        Ok(slot)
    }

    /// Changes what kernels read as `step`.
    pub(super) fn set(&self, change: impl FnOnce(&mut Step)) {
        change(&mut self.state().step);
    }

    /// Puts off `turning` until the next command, whose maker may [take](Self::take_put_off) it.
    ///
    /// # Errors
    /// As [`dispatch`](Self::dispatch), of what was put off before.
    pub(super) fn put_off(&self, turning: Turning) -> Result<()> {
        self.settle()?;
        self.state().put_off = Some(turning);
        Ok(())
    }

    /// What is put off, for one who does it along.
    pub(super) fn take_put_off(&self) -> Option<Turning> {
        self.state().put_off.take()
    }

    /// Writes down what is put off.
    fn settle(&self) -> Result<()> {
        match self.take_put_off() {
            Some(turning) => turning.dispatch(self),
            None => Ok(()),
        }
    }

    /// Runs `kernel` on `bound` in `groups` workgroups; the last binding of those that have one, `step`, is added.
    ///
    /// # Errors
    /// If the device does not take the kernel, or there are too many workgroups.
    pub(super) fn dispatch(
        &self,
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
        self.settle()?;
        let pipeline = self.gpu.pipeline(kernel)?;
        let bindings = self
            .session
            .bindings(&self.gpu, &pipeline, kernel.bindings(), bound)?;
        let mut state = self.state();
        if state.sent {
            return Err(sent());
        }
        state.commands.push(Command::Dispatch {
            pipeline,
            bindings,
            groups,
        });
        Ok(())
    }

    /// Copies bytes between buffers.
    ///
    /// # Errors
    /// As [`dispatch`](Self::dispatch), of what was put off.
    pub(super) fn copy(
        &self,
        from: (&Arc<GpuBuffer>, usize),
        to: (&Arc<GpuBuffer>, usize),
        bytes: usize,
    ) -> Result<()> {
        self.settle()?;
        self.state().commands.push(Command::Copy {
            from: (Arc::clone(from.0), from.1),
            to: (Arc::clone(to.0), to.1),
            bytes,
        });
        Ok(())
    }

    /// Will bring the first `bytes` of `from`, as they are then, to the host.
    ///
    /// # Errors
    /// As [`dispatch`](Self::dispatch), of what was put off.
    pub(super) fn read(&self, from: &Arc<GpuBuffer>, bytes: usize) -> Result<()> {
        self.settle()?;
        self.state().commands.push(Command::Read {
            from: Arc::clone(from),
            bytes,
        });
        Ok(())
    }

    /// Sends all of it to the device; what was to be read follows, in its order.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::OutOfMemory`], [`Error::Refused`]; if it was sent before.
    pub(super) fn submit(&self) -> Result<Vec<Pending<Vec<u8>>>> {
        let gpu = &*self.gpu;
        gpu.failures.check()?;
        self.settle()?;
        let mut state = self.state();
        if std::mem::replace(&mut state.sent, true) {
            return Err(sent());
        }
        if self.session.rehearses {
            return Ok(Vec::new());
        }
        let commands = std::mem::take(&mut state.commands);
        let writes = std::mem::take(&mut state.writes);
        let step = (Arc::clone(&self.session.step), state.step);
        drop(state);
        let batch = Batch {
            tokens: self.tokens as u64,
            positions: (self.first + self.tokens) as u64,
        };
        tracing::trace!(batch.tokens, batch.positions, "a batch for the GPU");
        let reads = commands.iter().filter(|command| command.is_read()).count();
        let (driver, failures) = (Arc::clone(&gpu.driver), Arc::clone(&gpu.failures));
        gpu.outbox.send(reads, move || {
            for (slot, bytes) in &writes {
                driver.write(slot.buffer().raw()?, 0, bytes)?;
            }
            driver.write(step.0.raw()?, 0, bytemuck::bytes_of(&step.1))?;
            let reads = driver.submit(&commands, batch)?;
            failures.check()?;
            Ok(reads)
        })
    }
}

fn sent() -> Error {
    Error::Unavailable {
        what: "a batch that was sent to the GPU".into(),
        why: "nothing can be added to it".into(),
    }
}
