//! Counts of an engine's work, for people and monitors.

/// Counts of the texts that run and wait in an engine, of bytes, and of its work so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Texts that run.
    pub running: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Bytes of keys and values that running texts hold, shared ones counted once.
    pub kv_running_bytes: usize,
    /// Bytes of keys and values that no running text holds, kept for later prompts.
    pub kv_cached_bytes: usize,
    /// Bytes that there may be of both.
    pub kv_budget_bytes: usize,
    /// Bytes of a block of 64 positions.
    pub kv_block_bytes: usize,
    /// Steps so far.
    pub steps: u64,
    /// Texts that ended, by an error or otherwise.
    pub finished: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Tokens of prompts that ran.
    pub prompt_tokens: u64,
    /// Tokens of prompts whose keys and values were there already.
    pub cached_tokens: u64,
    /// How often a text had to make room for another.
    pub preemptions: u64,
}
