//! Prompt-lookup speculation: several tokens from one pass over the weights.
//!
//! Text repeats itself: names, code, what a question quotes. Where the last few tokens stood before, the tokens that
//! followed then are a draft of what comes now. The draft runs as one batch behind the last token, and every position
//! is sampled as usual until a sample differs from the draft. Logits do not depend on batching, so the tokens are
//! those of plain decoding, drawn in the same order; only the time differs, and that is watched: where drafts cost
//! more than they bring, they stop for a while.

use std::time::Duration;

/// Whether tokens are drafted. The text is the same either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Speculation {
    /// Drafts for greedy decoding.
    #[default]
    Auto,
    /// No drafts.
    Off,
    /// Drafts from earlier tokens, whatever the sampling.
    Ngram,
}

/// Tokens that must repeat, at most and at least.
const NGRAM: std::ops::RangeInclusive<usize> = 2..=4;
/// Tokens of a draft at most.
const DRAFT: usize = 6;
/// Tokens without drafts after drafts that did not pay, at first and at most.
const PAUSE: [usize; 2] = [16, 256];
/// What the latest time counts for in an average.
const LATEST: f64 = 0.25;

/// Makes drafts, and watches whether they pay.
#[derive(Debug)]
pub(crate) struct Drafter {
    enabled: bool,
    /// Seconds for a token without a draft, and with.
    plain: Option<f64>,
    ahead: Option<f64>,
    /// Tokens until the next draft, and how many there will be next time.
    pause: usize,
    next_pause: usize,
}

impl Drafter {
    pub(crate) fn new(enabled: bool) -> Self {
        Self {
            enabled,
            plain: None,
            ahead: None,
            pause: 0,
            next_pause: PAUSE[0],
        }
    }

    /// Whether it makes any.
    pub(crate) fn enabled(&self) -> bool {
        self.enabled
    }

    /// What may follow `tokens`: at most `most` tokens, none if nothing repeats or drafts do not pay.
    pub(crate) fn draft(&mut self, tokens: &[u32], most: usize) -> Vec<u32> {
        // Without knowing what a token costs there is no telling whether a draft pays.
        if !self.enabled || self.plain.is_none() {
            return Vec::new();
        }
        if self.pause > 0 {
            self.pause -= 1;
            return Vec::new();
        }
        lookup(tokens, most.min(DRAFT)).to_vec()
    }

    /// A token without a draft took `time`.
    pub(crate) fn took(&mut self, time: Duration) {
        average(&mut self.plain, time.as_secs_f64());
    }

    /// A draft took `time` and brought `tokens`.
    pub(crate) fn brought(&mut self, tokens: usize, time: Duration) {
        average(&mut self.ahead, time.as_secs_f64() / tokens.max(1) as f64);
        if self.ahead > self.plain {
            self.pause = self.next_pause;
            self.next_pause = (2 * self.next_pause).min(PAUSE[1]);
            // Another text may repeat itself more: judged anew after the pause.
            self.ahead = None;
        } else {
            self.next_pause = PAUSE[0];
        }
    }
}

fn average(mean: &mut Option<f64>, value: f64) {
    *mean = Some(mean.map_or(value, |mean| mean + LATEST * (value - mean)));
}

/// What followed the latest earlier place of the longest run of last tokens that there is one of.
fn lookup(tokens: &[u32], most: usize) -> &[u32] {
    for length in NGRAM.rev() {
        let Some(start) = tokens.len().checked_sub(length) else {
            continue;
        };
        let (before, last) = tokens.split_at(start);
        // A place may overlap the last tokens, as in a run of equal ones, but must begin before them.
        let place = (0..before.len())
            .rev()
            .find(|&place| tokens[place..].starts_with(last));
        if let Some(place) = place {
            let follows = &tokens[place + length..];
            return &follows[..follows.len().min(most)];
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_place_of_the_longest_run_is_taken() {
        assert_eq!(lookup(&[1, 2, 3, 9, 1, 2, 3], 2), [9, 1]);
        assert_eq!(lookup(&[1, 2, 5, 1, 2, 6, 1, 2], 1), [6]);
        // Three tokens repeat at the beginning, two later.
        assert_eq!(lookup(&[7, 1, 2, 8, 1, 2, 9, 7, 1, 2], 1), [8]);
        assert_eq!(lookup(&[4, 4, 4, 4], 9), [4]);
        for none in [&[][..], &[1], &[1, 2], &[1, 2, 3, 4]] {
            assert_eq!(lookup(none, 4), [0u32; 0]);
        }
    }

    #[test]
    fn drafts_that_cost_more_than_they_bring_stop_for_a_while() {
        let repeated = [1, 2, 3, 1, 2];
        let mut drafter = Drafter::new(true);
        assert_eq!(
            drafter.draft(&repeated, 4),
            [0u32; 0],
            "nothing is known yet"
        );
        drafter.took(Duration::from_millis(10));
        assert_eq!(drafter.draft(&repeated, 4), [3, 1, 2]);
        drafter.brought(3, Duration::from_millis(15));
        assert_eq!(drafter.draft(&repeated, 1), [3]);
        drafter.brought(1, Duration::from_millis(90));
        for _ in 0..PAUSE[0] {
            assert_eq!(drafter.draft(&repeated, 4), [0u32; 0]);
        }
        assert_eq!(drafter.draft(&repeated, 4), [3, 1, 2]);
        assert_eq!(Drafter::new(false).draft(&repeated, 4), [0u32; 0]);
    }
}
