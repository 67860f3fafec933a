//! The caller's say in which token comes next: masks, biases, samplers of one's own.

use crate::Result;
use bitnet_core::Candidate;

/// Tokens whose logits a [`LogitsHook`] may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookScope<'a> {
    /// None for the next token: the hook is not asked.
    Nothing,
    /// These, in any order: the hook sees them beside the likeliest others, and a screened head stays screened.
    Tokens(&'a [u32]),
    /// Any token: all logits are computed.
    Vocabulary,
}

/// A hook between the logits and the sampler.
///
/// It is asked once for each token that is chosen, in the order of the text, also where tokens were drafted. If what it does
/// depends on nothing but the tokens so far, the text is the same whoever else is in the batch.
pub trait LogitsHook: Send {
    /// The tokens that [`apply`](Self::apply) may change after `tokens`, prompt and text so far. It may be asked more often than
    /// `apply`.
    ///
    /// # Errors
    /// Any; the generation ends by it.
    fn scope(&mut self, tokens: &[u32]) -> Result<HookScope<'_>>;

    /// Changes the logits of what may follow `tokens`. `candidates` come in the order of their ids: all tokens, or those of the
    /// scope and the likeliest others. A logit of −∞ and a candidate that is removed rule a token out; what remains is sampled as
    /// the options say, so a hook that leaves one candidate chooses the token. Order and ids are not to be changed.
    ///
    /// # Errors
    /// Any; the generation ends by it.
    fn apply(&mut self, tokens: &[u32], candidates: &mut Vec<Candidate>) -> Result<()>;
}

/// Adds a number to the logits of some tokens; −∞ rules a token out.
#[derive(Debug, Clone)]
pub struct LogitBias {
    ids: Vec<u32>,
    biases: Vec<f32>,
}

impl LogitBias {
    /// A hook that adds its number to each token; of a token that comes twice, the later number counts.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) if a number is NaN or +∞.
    pub fn new(biases: impl IntoIterator<Item = (u32, f32)>) -> Result<Self> {
        let mut sorted = std::collections::BTreeMap::new();
        for (id, bias) in biases {
            if bias.is_nan() || bias == f32::INFINITY {
                return Err(crate::Error::Argument {
                    what: "logit bias",
                    expected: "a number or −∞".into(),
                    found: format!("{bias} for token {id}"),
                });
            }
            sorted.insert(id, bias);
        }
        let (ids, biases) = sorted.into_iter().unzip();
        Ok(Self { ids, biases })
    }
}

impl LogitsHook for LogitBias {
    fn scope(&mut self, _: &[u32]) -> Result<HookScope<'_>> {
        Ok(HookScope::Tokens(&self.ids))
    }

    fn apply(&mut self, _: &[u32], candidates: &mut Vec<Candidate>) -> Result<()> {
        for (id, bias) in self.ids.iter().zip(&self.biases) {
            if let Ok(place) = candidates.binary_search_by_key(id, |candidate| candidate.id) {
                let logit = &mut candidates[place].logit;
                // Finite biases leave finite logits.
                *logit = if bias.is_finite() {
                    (*logit + bias).clamp(f32::MIN, f32::MAX)
                } else {
                    f32::NEG_INFINITY
                };
            }
        }
        Ok(())
    }
}
