//! What one rendering may cost: work, memory and time.

use std::cell::Cell;
use std::rc::Rc;

use crate::cancel::Cancel;

/// Why a rendering ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::chat) enum Fault {
    /// What went wrong.
    Message(String),
    /// The caller cancelled.
    Cancelled,
}

pub(super) type Outcome<T> = Result<T, Fault>;

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self::Message(message)
    }
}

impl From<&str> for Fault {
    fn from(message: &str) -> Self {
        Self::Message(message.to_owned())
    }
}

/// Work that a rendering may do whatever its input: 16 units for a node of the syntax tree, 1 for a character that
/// is copied or compared.
const BASE_WORK: u64 = 48_000_000;

/// Further work for each character of the messages.
const WORK_PER_CHARACTER: u64 = 256;

/// Bytes that a rendering may hold at a time whatever its input.
const BASE_MEMORY: usize = 24 << 20;

/// Further bytes for each character of the messages.
const MEMORY_PER_CHARACTER: usize = 32;

/// How much work there is between two looks at the cancel flag.
const LOOK: u64 = 1 << 14;

/// Counts work and memory, and refuses what exceeds the budget before it is done.
#[derive(Debug)]
pub(super) struct Meter {
    work: Cell<u64>,
    next_look: Cell<u64>,
    memory: Cell<usize>,
    cancel: Cancel,
}

impl Meter {
    pub(super) fn new(cancel: Cancel) -> Rc<Self> {
        Rc::new(Self {
            work: Cell::new(BASE_WORK),
            next_look: Cell::new(u64::MAX),
            memory: Cell::new(BASE_MEMORY),
            cancel,
        })
    }

    /// Adds to the budget what `characters` of input allow.
    pub(super) fn allow(&self, characters: usize) {
        let work = (characters as u64).saturating_mul(WORK_PER_CHARACTER);
        self.work.set(self.work.get().saturating_add(work));
        let memory = characters.saturating_mul(MEMORY_PER_CHARACTER);
        self.memory.set(self.memory.get().saturating_add(memory));
    }

    /// Pays for `units` of work that are about to be done.
    pub(super) fn work(&self, units: usize) -> Outcome<()> {
        let Some(left) = self.work.get().checked_sub(units as u64) else {
            return Err("it does more work than a chat template may".into());
        };
        self.work.set(left);
        if self.next_look.get() >= left {
            self.next_look.set(left.saturating_sub(LOOK));
            if self.cancel.is_cancelled() {
                return Err(Fault::Cancelled);
            }
        }
        Ok(())
    }

    /// Takes `bytes` from the memory there is; the lease gives them back.
    pub(super) fn lease(self: &Rc<Self>, bytes: usize) -> Outcome<Lease> {
        let mut lease = Lease {
            meter: Rc::clone(self),
            bytes: 0,
        };
        lease.grow(bytes)?;
        Ok(lease)
    }
}

/// Memory that is in use.
#[derive(Debug)]
pub(super) struct Lease {
    meter: Rc<Meter>,
    bytes: usize,
}

impl Lease {
    /// Takes `bytes` more.
    pub(super) fn grow(&mut self, bytes: usize) -> Outcome<()> {
        let Some(left) = self.meter.memory.get().checked_sub(bytes) else {
            return Err("it uses more memory than a chat template may".into());
        };
        self.meter.memory.set(left);
        self.bytes += bytes;
        Ok(())
    }

    pub(super) fn meter(&self) -> &Rc<Meter> {
        &self.meter
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let memory = &self.meter.memory;
        memory.set(memory.get().saturating_add(self.bytes));
    }
}
