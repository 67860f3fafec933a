//! How an engine shares the machine.

use crate::{Error, Result};

/// How an engine shares the machine. No text depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// The most texts that run together. Others wait.
    pub max_running: usize,
    /// The most requests that wait beside those for which there are places to run; more are refused with [`Error::Overloaded`].
    pub max_waiting: usize,
    /// Tokens of prompts that are read in one step while no text is being written.
    pub step_tokens: usize,
    /// The same while texts are being written: the fewer, the less a long prompt slows them down.
    pub mixed_step_tokens: usize,
    /// Bytes for keys and values; fewer where [`ModelOptions::memory_limit`](crate::ModelOptions::memory_limit) leaves fewer.
    /// Texts that find no room wait, or begin again later, which does not change them.
    pub kv_bytes: usize,
    /// Whether keys and values of prompts are kept for later ones that begin alike, as long as there is room. Without effect on
    /// backends whose sequences do not share memory.
    pub prefix_cache: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            max_running: 32,
            max_waiting: 4096,
            step_tokens: 256,
            mixed_step_tokens: 64,
            kv_bytes: 2 << 30,
            prefix_cache: true,
        }
    }
}

impl EngineOptions {
    /// Texts that may run and wait.
    pub(super) fn most_texts(&self) -> usize {
        self.max_running.saturating_add(self.max_waiting)
    }

    /// # Errors
    /// If an option is 0.
    pub(super) fn validate(&self) -> Result<()> {
        let counts = [
            ("max_running", self.max_running),
            ("step_tokens", self.step_tokens),
            ("mixed_step_tokens", self.mixed_step_tokens),
        ];
        for (what, count) in counts {
            if count == 0 {
                return Err(Error::Argument {
                    what,
                    expected: "at least 1".into(),
                    found: "0".into(),
                });
            }
        }
        Ok(())
    }
}
