//! Counts of an engine's work, for people and monitors.

/// How many kinds of steps are told apart by their texts.
pub const STEP_SIZES: usize = 10;

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
    /// Steps by the number of texts that took part: 1, 2, up to 4, up to 8, … Element i counts those of at most 2^i texts and more
    /// than 2^(i−1); the last one all larger ones, too.
    pub steps_by_texts: [u64; STEP_SIZES],
    /// The sum of those numbers over all steps.
    pub texts_in_steps: u64,
}

impl Gauges {
    /// Counts a step of `texts` texts.
    pub(super) fn step(&mut self, texts: usize) {
        self.steps += 1;
        self.texts_in_steps += texts as u64;
        let kind = texts.max(1).next_power_of_two().ilog2() as usize;
        self.steps_by_texts[kind.min(STEP_SIZES - 1)] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_by_their_texts() {
        let mut gauges = Gauges::default();
        for texts in [1, 1, 2, 3, 4, 5, 8, 9, 5000] {
            gauges.step(texts);
        }
        assert_eq!(gauges.steps_by_texts, [2, 1, 2, 2, 1, 0, 0, 0, 0, 1]);
        assert_eq!((gauges.steps, gauges.texts_in_steps), (9, 5033));
    }
}
