//! Memory for keys, values and states: what texts may take together, and what they take.
//!
//! A text is counted with what it takes at most at its length, less what it shares with the prefix index, which is counted there.

use super::BLOCK;
use super::options::EngineOptions;
use super::sequence::Sequence;
use crate::model::{DynSequence, Model};
use crate::{BackendError, Error, Result};
use std::ops::Range;

/// The room that there is, and how texts are measured.
pub(super) struct Room {
    /// It says what longer sequences take.
    empty: Box<dyn DynSequence>,
    /// Bytes that the options and the model's memory limit allow.
    budget: usize,
    /// Bytes for which there was memory when it was last short; the budget where it never was.
    found: usize,
    /// Bytes that another block adds to a text at most.
    block: usize,
    /// Positions that a text may have.
    positions: usize,
}

impl Room {
    /// The room that `options` and the model's memory limit give.
    ///
    /// # Errors
    /// If it is too small for two blocks.
    pub(super) fn new(model: &Model, options: &EngineOptions) -> Result<Self> {
        let empty = model.start(model.context())?;
        // One block that is written, and one behind it.
        let least = empty.bytes_for(0..2 * BLOCK);
        let mut budget = options.kv_bytes;
        let pool = model.run().pool();
        if let Some(limit) = pool.options().hard_limit {
            let in_use = pool.stats().in_use;
            let left = limit.saturating_sub(in_use);
            if left < least {
                return Err(Error::Backend(BackendError::OutOfMemory {
                    what: format!("keys and values of two blocks of {BLOCK} tokens"),
                    bytes: least,
                    in_use,
                    limit: Some(limit),
                }));
            }
            budget = budget.min(left);
        }
        if budget < least {
            return Err(Error::Argument {
                what: "kv_bytes",
                expected: format!("at least {least}, two blocks of {BLOCK} tokens"),
                found: options.kv_bytes.to_string(),
            });
        }
        // The longest text that has room for itself, by halving.
        let (mut fits, mut exceeds) = (2, model.context().div_ceil(BLOCK).max(2) + 1);
        while exceeds - fits > 1 {
            let blocks = fits.midpoint(exceeds);
            match empty.bytes_for(0..blocks * BLOCK) <= budget {
                true => fits = blocks,
                false => exceeds = blocks,
            }
        }
        let block = least.saturating_sub(empty.bytes_for(0..BLOCK)).max(1);
        Ok(Self {
            budget,
            found: budget,
            block,
            positions: fits * BLOCK,
            empty,
        })
    }

    /// Bytes that there may be.
    pub(super) fn budget(&self) -> usize {
        self.budget
    }

    /// Bytes that there may be now, while `running` texts run: where memory turned out to be shorter than the budget, as many as there
    /// was room for, but for a text that is alone, which runs or fails.
    pub(super) fn budget_now(&self, running: usize) -> usize {
        match running {
            0 | 1 => self.budget,
            _ => self.found,
        }
    }

    /// Bytes that another block adds to a text at most.
    pub(super) fn block(&self) -> usize {
        self.block
    }

    /// Positions that a text may have.
    pub(super) fn positions(&self) -> usize {
        self.positions
    }

    /// Bytes of a text with `positions.end` positions, of which it shares the first `positions.start`.
    pub(super) fn of(&self, positions: Range<usize>) -> usize {
        self.empty.bytes_for(positions)
    }

    /// Bytes of a running text that the prefix index does not count, with `more` positions than it has.
    pub(super) fn of_text(&self, text: &Sequence, more: usize) -> usize {
        text.state.as_ref().map_or(0, |state| {
            self.of(text.place.shared() * BLOCK..state.len() + more)
        })
    }

    /// Bytes that a text's next input adds.
    pub(super) fn of_input(&self, text: &Sequence) -> usize {
        self.of_text(text, text.input.len()) - self.of_text(text, 0)
    }

    /// Bytes of all running texts that the prefix index does not count.
    pub(super) fn of_texts(&self, running: &[Sequence]) -> usize {
        running.iter().map(|text| self.of_text(text, 0)).sum()
    }

    /// Notes that there was no memory for more than `bytes`.
    pub(super) fn was_short(&mut self, bytes: usize) {
        self.found = bytes.clamp(1, self.budget);
    }

    /// Tries room for another block.
    pub(super) fn try_more(&mut self) {
        self.found = self.found.saturating_add(self.block).min(self.budget);
    }
}
