//! Logarithmic probabilities of chosen tokens.

use crate::sampler::LogSoftmax;
use crate::tokenizer::Tokenizer;
use bitnet_core::Top;
use serde::Serialize;

/// A token and its logarithmic probability as OpenAI writes them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenEntry {
    /// The text that the token adds; of one that adds none its name in the vocabulary.
    pub token: String,
    /// At least [`TokenLogprobs::NEVER`].
    pub logprob: f64,
    /// The bytes that the token adds.
    pub bytes: Vec<u8>,
    /// The likeliest tokens in its place; of these themselves none are told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<Vec<TokenEntry>>,
}

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
    /// The least number that stands for a probability of nothing: JSON has no −∞.
    pub const NEVER: f64 = -9999.0;

    /// The entry for `id`, the token that they are of, in `logprobs.content` of OpenAI's interface.
    pub fn entry(&self, tokenizer: &Tokenizer, id: u32) -> TokenEntry {
        let entry = |id: u32, logprob: f64| TokenEntry {
            token: Self::token_text(tokenizer, id),
            logprob: logprob.max(Self::NEVER),
            bytes: tokenizer.token_bytes(id).unwrap_or_default().into_owned(),
            top_logprobs: None,
        };
        let top = self.top.iter().map(|(id, logprob)| entry(*id, *logprob));
        TokenEntry {
            top_logprobs: Some(top.collect()),
            ..entry(id, self.logprob)
        }
    }

    /// The text that token `id` adds; of one that adds none its name in the vocabulary.
    pub fn token_text(tokenizer: &Tokenizer, id: u32) -> String {
        match tokenizer.token_bytes(id) {
            Some(bytes) if !bytes.is_empty() => String::from_utf8_lossy(&bytes).into_owned(),
            _ => tokenizer.token_text(id).unwrap_or_default(),
        }
    }

    /// Those of token `id` and of the `count` likeliest by `logits`.
    pub(crate) fn of(logits: &[f32], id: u32, count: usize) -> Self {
        let softmax = LogSoftmax::of(logits);
        let top = match count {
            0 => Vec::new(),
            count => Top { count, also: &[] }.of_logits(logits),
        };
        let own = logits.get(id as usize);
        Self {
            logprob: own.map_or(f64::NEG_INFINITY, |&logit| softmax.at(logit)),
            top: top
                .iter()
                .map(|candidate| (candidate.id, softmax.at(candidate.logit)))
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
