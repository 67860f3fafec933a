//! Logarithmic probabilities of chosen tokens.

use bitnet_core::Candidate;

/// How likely a token was by the model's own distribution, before hooks, penalties and temperature. The same bits on every
/// machine.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprobs {
    /// The token's.
    pub logprob: f64,
    /// The likeliest tokens and theirs, in the order of likelihood.
    pub top: Vec<(u32, f64)>,
}

impl TokenLogprobs {
    /// Those of token `id` and of the `count` likeliest by `logits`.
    pub(crate) fn of(logits: &[f32], id: u32, count: usize) -> Self {
        let highest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let total: f64 = logits
            .iter()
            .map(|logit| libm::exp(f64::from(*logit) - highest))
            .sum();
        let logprob = |logit: f32| (f64::from(logit) - highest) - libm::log(total);
        let mut candidates: Vec<_> = logits
            .iter()
            .zip(0..)
            .map(|(&logit, id)| Candidate { id, logit })
            .collect();
        if (1..candidates.len()).contains(&count) {
            candidates.select_nth_unstable_by(count - 1, Candidate::by_likelihood);
        }
        candidates.truncate(count);
        candidates.sort_unstable_by(Candidate::by_likelihood);
        let own = logits.get(id as usize);
        Self {
            logprob: own.map_or(f64::NEG_INFINITY, |&logit| logprob(logit)),
            top: candidates
                .iter()
                .map(|candidate| (candidate.id, logprob(candidate.logit)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::log_softmax_at;

    #[test]
    fn the_likeliest_come_first_with_the_bits_of_the_softmax() {
        let logits = [0.5, 2.0, -1.0, 2.0, 0.0];
        let found = TokenLogprobs::of(&logits, 4, 3);
        let expected = [1, 3, 0].map(|id| (id, log_softmax_at(&logits, id)));
        assert_eq!(found.top, expected);
        assert_eq!(found.logprob, log_softmax_at(&logits, 4));
        assert_eq!(TokenLogprobs::of(&logits, 9, 0).top, []);
        assert_eq!(TokenLogprobs::of(&logits, 9, 99).top.len(), 5);
    }
}
