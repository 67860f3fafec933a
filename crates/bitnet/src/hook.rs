//! The caller's say in which token comes next: masks, biases, samplers of one's own.

mod mask;

use crate::Result;
use bitnet_core::Candidate;
pub use mask::TokenMask;

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

    /// The bias that OpenAI's interface means by `number`, which is one from −100 to 100: −100 is never. `None` for other numbers.
    pub fn of_request(number: f64) -> Option<f32> {
        match number {
            -100.0 => Some(f32::NEG_INFINITY),
            -100.0..=100.0 => Some(number as f32),
            _ => None,
        }
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

/// Lowers the logits of tokens that the text has already: by a number for each that occurs, and by another for each
/// occurrence. Tokens of the prompt do not count.
#[derive(Debug, Clone)]
pub struct Penalties {
    presence: f32,
    frequency: f32,
    /// Tokens before the text.
    prompt: usize,
    /// The tokens of the text that were counted.
    counted: Vec<u32>,
    /// The tokens among them, in growing order, and how often each occurs.
    ids: Vec<u32>,
    counts: Vec<u32>,
}

impl Penalties {
    /// A hook for the text behind `prompt` tokens. Negative numbers make repetition likelier.
    ///
    /// # Errors
    /// [`Error::Argument`](crate::Error::Argument) if a number is not finite.
    pub fn new(presence: f32, frequency: f32, prompt: usize) -> Result<Self> {
        for (what, value) in [
            ("presence_penalty", presence),
            ("frequency_penalty", frequency),
        ] {
            if !value.is_finite() {
                return Err(crate::Error::Argument {
                    what,
                    expected: "a finite number".into(),
                    found: value.to_string(),
                });
            }
        }
        Ok(Self {
            presence,
            frequency,
            prompt,
            counted: Vec::new(),
            ids: Vec::new(),
            counts: Vec::new(),
        })
    }

    /// Counts the tokens of the text that are new.
    fn count(&mut self, tokens: &[u32]) {
        let text = tokens.get(self.prompt..).unwrap_or_default();
        if !text.starts_with(&self.counted) {
            // A draft was taken back.
            self.ids.clear();
            self.counts.clear();
            self.counted.clear();
        }
        let new = &text[self.counted.len()..];
        for id in new {
            match self.ids.binary_search(id) {
                Ok(place) => self.counts[place] += 1,
                Err(place) => {
                    self.ids.insert(place, *id);
                    self.counts.insert(place, 1);
                }
            }
        }
        self.counted.extend_from_slice(new);
    }
}

impl LogitsHook for Penalties {
    fn scope(&mut self, tokens: &[u32]) -> Result<HookScope<'_>> {
        self.count(tokens);
        Ok(match self.ids.as_slice() {
            [] => HookScope::Nothing,
            ids => HookScope::Tokens(ids),
        })
    }

    fn apply(&mut self, tokens: &[u32], candidates: &mut Vec<Candidate>) -> Result<()> {
        self.count(tokens);
        for candidate in candidates {
            if let Ok(place) = self.ids.binary_search(&candidate.id) {
                let penalty = self.presence + self.frequency * self.counts[place] as f32;
                if candidate.logit.is_finite() {
                    candidate.logit = (candidate.logit - penalty).clamp(f32::MIN, f32::MAX);
                }
            }
        }
        Ok(())
    }
}

/// Several hooks, one after the other.
pub struct Hooks {
    hooks: Vec<Box<dyn LogitsHook>>,
    ids: Vec<u32>,
}

impl Hooks {
    /// One hook that does what all of `hooks` do, in their order; `None` if there are none.
    pub fn of(mut hooks: Vec<Box<dyn LogitsHook>>) -> Option<Box<dyn LogitsHook>> {
        match hooks.len() {
            0 => None,
            1 => hooks.pop(),
            _ => Some(Box::new(Self {
                hooks,
                ids: Vec::new(),
            })),
        }
    }
}

impl LogitsHook for Hooks {
    fn scope(&mut self, tokens: &[u32]) -> Result<HookScope<'_>> {
        self.ids.clear();
        let mut any = false;
        for hook in &mut self.hooks {
            match hook.scope(tokens)? {
                HookScope::Nothing => {}
                HookScope::Tokens(ids) => {
                    any = true;
                    self.ids.extend_from_slice(ids);
                }
                HookScope::Vocabulary => return Ok(HookScope::Vocabulary),
            }
        }
        if !any {
            return Ok(HookScope::Nothing);
        }
        self.ids.sort_unstable();
        self.ids.dedup();
        Ok(HookScope::Tokens(&self.ids))
    }

    fn apply(&mut self, tokens: &[u32], candidates: &mut Vec<Candidate>) -> Result<()> {
        for hook in &mut self.hooks {
            // One that has nothing to say of this token is not asked, as if it were alone.
            if !matches!(hook.scope(tokens)?, HookScope::Nothing) {
                hook.apply(tokens, candidates)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates() -> Vec<Candidate> {
        (0..5).map(|id| Candidate { id, logit: 1.0 }).collect()
    }

    fn logits(hook: &mut dyn LogitsHook, tokens: &[u32]) -> Vec<f32> {
        let mut candidates = candidates();
        hook.apply(tokens, &mut candidates).expect("no error");
        candidates.iter().map(|candidate| candidate.logit).collect()
    }

    #[test]
    fn penalties_count_the_text_and_not_the_prompt() {
        let mut hook = Penalties::new(0.5, 0.25, 2).expect("numbers");
        assert_eq!(hook.scope(&[1, 2]).expect("none"), HookScope::Nothing);
        assert_eq!(
            hook.scope(&[1, 2, 3]).expect("one"),
            HookScope::Tokens(&[3])
        );
        assert_eq!(
            logits(&mut hook, &[1, 2, 3, 3, 4]),
            [1.0, 1.0, 1.0, 0.0, 0.25]
        );
        // Of a draft that was taken back nothing stays.
        assert_eq!(
            logits(&mut hook, &[1, 2, 3, 0]),
            [0.25, 1.0, 1.0, 0.25, 1.0]
        );
        assert!(Penalties::new(f32::NAN, 0.0, 0).is_err());
        assert!(Penalties::new(0.0, f32::INFINITY, 0).is_err());
    }

    #[test]
    fn the_least_bias_of_a_request_is_never() {
        let numbers = [-100.0, -99.5, 100.0, 100.5, f64::NAN];
        let expected = [
            Some(f32::NEG_INFINITY),
            Some(-99.5),
            Some(100.0),
            None,
            None,
        ];
        assert_eq!(numbers.map(LogitBias::of_request), expected);
    }

    /// Ends the generation if it is asked.
    struct Silent;

    impl LogitsHook for Silent {
        fn scope(&mut self, _: &[u32]) -> Result<HookScope<'_>> {
            Ok(HookScope::Nothing)
        }

        fn apply(&mut self, _: &[u32], _: &mut Vec<Candidate>) -> Result<()> {
            Err(crate::Error::Cancelled)
        }
    }

    #[test]
    fn hooks_do_what_all_of_them_do() {
        assert!(Hooks::of(vec![]).is_none());
        let bias = LogitBias::new([(4, 2.0), (1, f32::NEG_INFINITY)]).expect("biases");
        let penalties = Penalties::new(0.5, 0.0, 0).expect("numbers");
        let hooks: Vec<Box<dyn LogitsHook>> =
            vec![Box::new(bias), Box::new(Silent), Box::new(penalties)];
        let mut hook = Hooks::of(hooks).expect("a hook");
        let scope = hook.scope(&[2, 4]).expect("a scope");
        assert_eq!(scope, HookScope::Tokens(&[1, 2, 4]));
        let expected = [1.0, f32::NEG_INFINITY, 0.5, 1.0, 2.5];
        assert_eq!(logits(hook.as_mut(), &[2, 4]), expected);
    }
}
