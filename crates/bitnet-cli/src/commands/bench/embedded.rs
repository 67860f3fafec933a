//! Texts of mixed length as vectors: all together, and one by one.

use super::walk;
use bitnet::{EmbedOptions, Model};
use serde::Serialize;
use std::time::Instant;

/// Tokens of the shortest text and of the longest.
const SHORTEST: f64 = 8.0;
const LONGEST: f64 = 256.0;

/// So many texts.
#[derive(Clone, Copy)]
pub(super) struct Embedded {
    pub(super) texts: usize,
}

/// The gain of running texts together.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Together {
    texts: usize,
    /// Tokens per second of the same texts one by one.
    pub(super) alone: f64,
    /// How many times that they are together.
    pub(super) ratio: f64,
}

impl Embedded {
    pub(super) fn name(self) -> String {
        format!("embed{}", self.texts)
    }

    /// Tokens of all texts.
    pub(super) fn tokens(self) -> usize {
        (0..self.texts).map(length).sum()
    }

    /// Measures once: tokens per second together, and one by one.
    pub(super) fn time(self, model: &Model) -> anyhow::Result<(f64, Together)> {
        let texts: Vec<Vec<u32>> = (0..self.texts)
            .map(|index| walk(model, index + length(index)).split_off(index))
            .collect();
        let options = EmbedOptions::default();
        let seconds = |work: &dyn Fn() -> bitnet::Result<()>| -> anyhow::Result<f64> {
            let begin = Instant::now();
            work()?;
            Ok(begin.elapsed().as_secs_f64().max(1e-9))
        };
        let embed = |texts: &[Vec<u32>]| model.embed_tokens(texts, &options, |_, _| ()).map(drop);
        // Warms up.
        embed(&texts[..texts.len().min(8)])?;
        let together = seconds(&|| embed(&texts))?;
        let alone = seconds(&|| texts.chunks(1).try_for_each(embed))?;
        let tokens = self.tokens() as f64;
        let outcome = Together {
            texts: self.texts,
            alone: tokens / alone,
            ratio: alone / together,
        };
        Ok((tokens / together, outcome))
    }
}

/// Tokens of text `index`: as many texts are twice as long as others as are half as long, in an order that mixes them.
fn length(index: usize) -> usize {
    const GOLDEN: f64 = 0.618_033_988_749_894_8;
    let share = (index as f64 * GOLDEN).fract();
    (SHORTEST * (LONGEST / SHORTEST).powf(share)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_mixed() {
        let lengths: Vec<usize> = (0..1000).map(length).collect();
        assert!(lengths.iter().all(|length| (8..256).contains(length)));
        let below = |most| lengths.iter().filter(|length| **length < most).count();
        assert!(below(16).abs_diff(200) < 10 && below(64).abs_diff(600) < 10);
        assert_ne!(lengths[..5], lengths[5..10]);
    }
}
