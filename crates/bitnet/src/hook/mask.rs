//! The tokens that may come next, a bit for each.

use super::HookScope;
use bitnet_core::Candidate;

/// The most tokens that a screened head is asked about beside its likeliest ones.
const FEW: u32 = 256;
/// Tokens in a word.
const BITS: u32 = u32::BITS;

/// The tokens that may come next. A [`LogitsHook`](super::LogitsHook) that has one says by it what it looks at, and rules the
/// others out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenMask {
    words: Vec<u32>,
    /// The same as a list, if it is short.
    few: Option<Vec<u32>>,
}

impl TokenMask {
    /// The mask by which token `id` may come next if bit `id % 32` of `words[id / 32]` is set.
    pub fn new(words: Vec<u32>) -> Self {
        let count: u32 = words.iter().map(|word| word.count_ones()).sum();
        let few = (count <= FEW).then(|| {
            let mut few = Vec::with_capacity(count as usize);
            for (place, word) in (0..).zip(&words) {
                let mut left = *word;
                while left != 0 {
                    few.push(place * BITS + left.trailing_zeros());
                    left &= left - 1;
                }
            }
            few
        });
        Self { words, few }
    }

    /// The bits, as [`new`](Self::new) takes them.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// Whether `token` may come next.
    pub fn allows(&self, token: u32) -> bool {
        let word = self.words.get((token / BITS) as usize);
        word.is_some_and(|word| word >> (token % BITS) & 1 == 1)
    }

    /// The tokens that it looks at: a few, which leave a screened head screened, or any.
    pub fn scope(&self) -> HookScope<'_> {
        match &self.few {
            Some(few) => HookScope::Tokens(few),
            None => HookScope::Vocabulary,
        }
    }

    /// Removes the candidates that may not come next.
    pub fn keep(&self, candidates: &mut Vec<Candidate>) {
        candidates.retain(|candidate| self.allows(candidate.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_tokens_are_listed_and_many_are_not() {
        let mask = TokenMask::new(vec![1 << 3, 0, 1 | 1 << 31]);
        assert_eq!(mask.scope(), HookScope::Tokens(&[3, 64, 95]));
        assert!(mask.allows(3) && mask.allows(95) && !mask.allows(4) && !mask.allows(1000));
        let mut candidates: Vec<Candidate> =
            (0..200).map(|id| Candidate { id, logit: 0.0 }).collect();
        mask.keep(&mut candidates);
        let kept: Vec<u32> = candidates.iter().map(|candidate| candidate.id).collect();
        assert_eq!(kept, [3, 64, 95]);
        let many = TokenMask::new(vec![u32::MAX; 9]);
        assert_eq!(many.scope(), HookScope::Vocabulary);
    }
}
