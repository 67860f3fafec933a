//! From logits to the next token.
//!
//! The same seed gives the same tokens on every machine: the exponential is our own, sums run in one order,
//! equal logits are told apart by id, and the random numbers come from a generator written here.

#[cfg(feature = "samplers")]
mod typical;
#[cfg(feature = "samplers")]
mod xtc;

use crate::hook::{HookScope, LogitsHook};
use crate::{Error, Result};
use bitnet_core::math::exp;
use bitnet_core::{Candidate, Top};

/// How to choose. The steps come in the order of the fields, as in llama.cpp: the penalty, then the
/// filters on the model's own distribution, then the temperature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingOptions {
    /// Divides positive logits of recent tokens and multiplies negative ones; 1 does nothing.
    pub repetition_penalty: f32,
    /// How many of the most recent tokens the penalty looks at; 0 turns it off.
    pub repetition_window: usize,
    /// Keep the `top_k` most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the tokens about as surprising as is to be expected that together reach this probability (locally typical sampling); 1
    /// keeps all. Needs the feature `samplers`.
    pub typical_p: f32,
    /// Keep the most likely tokens that together reach this probability; 1 keeps all.
    pub top_p: f32,
    /// Drop tokens less likely than this fraction of the most likely one; 0 drops none.
    pub min_p: f32,
    /// Drop tokens of at least this probability, but for the least likely of them ("exclude top choices"), in some draws.
    pub xtc_threshold: f32,
    /// In how many of the draws they are dropped, from 0 to 1; 0 turns it off. Needs the feature `samplers`.
    pub xtc_probability: f32,
    /// Divides the logits: below 1 sharper, above 1 flatter; 0 takes the most likely token (greedy).
    pub temperature: f32,
    /// Where the random numbers start.
    pub seed: u64,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self {
            repetition_penalty: 1.0,
            repetition_window: 64,
            top_k: 40,
            typical_p: 1.0,
            top_p: 0.95,
            min_p: 0.0,
            xtc_threshold: 0.1,
            xtc_probability: 0.0,
            temperature: 0.8,
            seed: 0,
        }
    }
}

impl SamplingOptions {
    /// Always the most likely token.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            ..Self::default()
        }
    }

    /// Whether the most likely token is always taken.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Whether recent tokens become less likely, or more.
    pub fn has_penalty(&self) -> bool {
        self.repetition_penalty != 1.0 && self.repetition_window > 0
    }

    /// # Errors
    /// If an option is outside its range; the message names it.
    pub fn validate(&self) -> Result<()> {
        let check = |what: &'static str, value: f32, ok: bool, expected: &str| {
            if ok && value.is_finite() {
                return Ok(());
            }
            Err(Error::Argument {
                what,
                expected: expected.into(),
                found: value.to_string(),
            })
        };
        let unit = 0.0..=1.0;
        check(
            "temperature",
            self.temperature,
            self.temperature >= 0.0,
            "a number from 0 upwards",
        )?;
        check(
            "top_p",
            self.top_p,
            unit.contains(&self.top_p),
            "a number from 0 to 1",
        )?;
        check(
            "min_p",
            self.min_p,
            unit.contains(&self.min_p),
            "a number from 0 to 1",
        )?;
        let chance = "a number from 0 to 1";
        check(
            "xtc_threshold",
            self.xtc_threshold,
            unit.contains(&self.xtc_threshold),
            chance,
        )?;
        let absent = "no value: this build is without the feature `samplers`";
        for (what, value, none) in [
            ("typical_p", self.typical_p, 1.0),
            ("xtc_probability", self.xtc_probability, 0.0),
        ] {
            let has_samplers = cfg!(feature = "samplers");
            let expected = if has_samplers { chance } else { absent };
            let ok = value == none || has_samplers && unit.contains(&value);
            check(what, value, ok, expected)?;
        }
        check(
            "repetition_penalty",
            self.repetition_penalty,
            self.repetition_penalty > 0.0,
            "a number above 0",
        )
    }
}

/// Chooses tokens by [`SamplingOptions`].
#[derive(Debug, Clone)]
pub struct Sampler {
    options: SamplingOptions,
    random: Random,
    /// Tokens still in the running, with their logits after the penalty.
    candidates: Vec<Candidate>,
    /// The tokens that the penalty looks at, in growing order.
    penalized: Vec<u32>,
    /// These and the tokens that a hook looks at, in growing order.
    also: Vec<u32>,
}

impl Sampler {
    /// A sampler at the start of its random numbers.
    ///
    /// # Errors
    /// As [`SamplingOptions::validate`].
    pub fn new(options: SamplingOptions) -> Result<Self> {
        options.validate()?;
        Ok(Self {
            options,
            random: Random::new(options.seed),
            candidates: Vec::new(),
            penalized: Vec::new(),
            also: Vec::new(),
        })
    }

    /// The options it was made with.
    pub fn options(&self) -> &SamplingOptions {
        &self.options
    }

    /// The tokens among which the next one certainly is, whatever the logits; `None` if any token could be drawn.
    /// `recent` is that of [`sample`](Self::sample). The penalty changes the logits of few tokens: beside those, the
    /// likeliest are the same before and after it.
    pub fn top(&mut self, recent: &[u32]) -> Option<Top<'_>> {
        self.top_beside(recent, HookScope::Nothing)
    }

    /// [`top`](Self::top) where a hook may change the logits of `scope` first.
    pub fn top_beside(&mut self, recent: &[u32], scope: HookScope<'_>) -> Option<Top<'_>> {
        let count = match self.options {
            SamplingOptions {
                temperature: 0.0, ..
            } => 1,
            SamplingOptions { top_k: 0, .. } => return None,
            SamplingOptions { top_k, .. } => top_k,
        };
        let scope = match scope {
            HookScope::Nothing => &[],
            HookScope::Tokens(tokens) => tokens,
            HookScope::Vocabulary => return None,
        };
        self.find_penalized(recent);
        self.also.clone_from(&self.penalized);
        if !scope.is_empty() {
            self.also.extend_from_slice(scope);
            self.also.sort_unstable();
            self.also.dedup();
        }
        Some(Top {
            count,
            also: &self.also,
        })
    }

    /// The id of the next token. `logits` holds one number for each token of the vocabulary, `recent` the
    /// tokens so far (the last is the newest). A logit of −∞ rules its token out.
    ///
    /// # Errors
    /// If there are no logits, one of them is NaN or +∞, or all of them are −∞.
    pub fn sample(&mut self, logits: &[f32], recent: &[u32]) -> Result<u32> {
        self.sample_hooked(logits, recent, None)
    }

    /// [`sample`](Self::sample) after `hook` changed the logits.
    ///
    /// # Errors
    /// As [`sample`](Self::sample), and those of the hook.
    pub fn sample_hooked(
        &mut self,
        logits: &[f32],
        recent: &[u32],
        hook: Option<&mut (dyn LogitsHook + 'static)>,
    ) -> Result<u32> {
        let candidates = logits.iter().zip(0..);
        self.choose(
            candidates.map(|(&logit, id)| Candidate { id, logit }),
            recent,
            hook,
        )
    }

    /// [`sample`](Self::sample) from the tokens of [`top`](Self::top) alone. The token, and the use of random numbers,
    /// are those of `sample` from all logits.
    ///
    /// # Errors
    /// As [`sample`](Self::sample).
    pub fn sample_top(&mut self, candidates: &[Candidate], recent: &[u32]) -> Result<u32> {
        self.sample_top_hooked(candidates, recent, None)
    }

    /// [`sample_top`](Self::sample_top) from the tokens of [`top_beside`](Self::top_beside), after `hook` changed their
    /// logits.
    ///
    /// # Errors
    /// As [`sample_hooked`](Self::sample_hooked).
    pub fn sample_top_hooked(
        &mut self,
        candidates: &[Candidate],
        recent: &[u32],
        hook: Option<&mut (dyn LogitsHook + 'static)>,
    ) -> Result<u32> {
        let mut candidates = candidates.to_vec();
        candidates.sort_unstable_by_key(|candidate| candidate.id);
        self.choose(candidates.into_iter(), recent, hook)
    }

    /// One of `candidates`, which come in the order of their ids.
    fn choose(
        &mut self,
        candidates: impl Iterator<Item = Candidate>,
        recent: &[u32],
        hook: Option<&mut (dyn LogitsHook + 'static)>,
    ) -> Result<u32> {
        self.candidates.clear();
        self.candidates.extend(candidates);
        check(&self.candidates)?;
        if let Some(hook) = hook {
            hook.apply(recent, &mut self.candidates)?;
            check(&self.candidates)?;
        }
        self.candidates
            .retain(|candidate| candidate.logit > f32::NEG_INFINITY);
        self.penalize(recent);
        let highest = most_likely(&self.candidates);
        if self.options.temperature == 0.0 {
            return Ok(highest.id);
        }
        #[cfg_attr(
            not(feature = "samplers"),
            expect(unused_mut, reason = "filters change it")
        )]
        let mut highest = highest.logit;
        self.keep_top_k();
        #[cfg(feature = "samplers")]
        if self.options.typical_p < 1.0 {
            let probabilities = self.probabilities(highest);
            typical::keep(&mut self.candidates, &probabilities, self.options.typical_p);
            highest = most_likely(&self.candidates).logit;
        }
        self.keep_top_p(highest);
        if self.options.min_p > 0.0 {
            let min_p = self.options.min_p;
            self.candidates
                .retain(|candidate| exp(candidate.logit - highest) >= min_p);
        }
        #[cfg(feature = "samplers")]
        if self.options.xtc_probability > 0.0
            && self.random.unit() < f64::from(self.options.xtc_probability)
        {
            let probabilities = self.probabilities(highest);
            xtc::exclude(
                &mut self.candidates,
                &probabilities,
                self.options.xtc_threshold,
            );
            highest = most_likely(&self.candidates).logit;
        }
        Ok(self.draw(highest))
    }

    /// The probabilities of the candidates among themselves.
    #[cfg(feature = "samplers")]
    fn probabilities(&self, highest: f32) -> Vec<f64> {
        let candidates = self.candidates.iter();
        let weights = candidates.map(|candidate| f64::from(exp(candidate.logit - highest)));
        let weights: Vec<f64> = weights.collect();
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / total).collect()
    }

    /// Finds the tokens that the penalty changes.
    fn find_penalized(&mut self, recent: &[u32]) {
        self.penalized.clear();
        if self.options.has_penalty() {
            let window = self.options.repetition_window.min(recent.len());
            self.penalized
                .extend_from_slice(&recent[recent.len() - window..]);
            self.penalized.sort_unstable();
            self.penalized.dedup();
        }
    }

    fn penalize(&mut self, recent: &[u32]) {
        let penalty = self.options.repetition_penalty;
        self.find_penalized(recent);
        for id in &self.penalized {
            let place = self
                .candidates
                .binary_search_by_key(id, |candidate| candidate.id);
            if let Ok(place) = place {
                let logit = &mut self.candidates[place].logit;
                let changed = if *logit > 0.0 {
                    *logit / penalty
                } else {
                    *logit * penalty
                };
                *logit = changed.clamp(f32::MIN, f32::MAX);
            }
        }
    }

    /// Sorts the `count` most likely candidates to the front.
    fn sort_front(&mut self, count: usize) {
        if (1..self.candidates.len()).contains(&count) {
            self.candidates
                .select_nth_unstable_by(count - 1, Candidate::by_likelihood);
        }
        let front = count.min(self.candidates.len());
        self.candidates[..front].sort_unstable_by(Candidate::by_likelihood);
    }

    fn keep_top_k(&mut self) {
        let count = self.options.top_k;
        if count > 0 {
            // Sorted even if no more than these are left, so that later sums run in one order.
            self.sort_front(count);
            self.candidates.truncate(count);
        }
    }

    fn keep_top_p(&mut self, highest: f32) {
        if self.options.top_p >= 1.0 {
            return;
        }
        let weight = |candidate: &Candidate| f64::from(exp(candidate.logit - highest));
        let total: f64 = self.candidates.iter().map(weight).sum();
        let enough = f64::from(self.options.top_p) * total;
        // Few tokens carry most of the probability: sort more only when they do not suffice.
        let mut sorted = 64;
        loop {
            self.sort_front(sorted);
            let mut sum = 0.0;
            let reached = self.candidates.iter().take(sorted).position(|candidate| {
                sum += weight(candidate);
                sum >= enough
            });
            if let Some(last) = reached {
                self.candidates.truncate(last + 1);
                return;
            }
            if sorted >= self.candidates.len() {
                return;
            }
            sorted *= 8;
        }
    }

    /// One of the candidates, by chance.
    fn draw(&mut self, highest: f32) -> u32 {
        let temperature = self.options.temperature;
        let weight =
            |candidate: &Candidate| f64::from(exp((candidate.logit - highest) / temperature));
        let total: f64 = self.candidates.iter().map(weight).sum();
        let mark = self.random.unit() * total;
        let mut sum = 0.0;
        let mut last = 0;
        for candidate in &self.candidates {
            let weight = weight(candidate);
            if weight > 0.0 {
                last = candidate.id;
            }
            sum += weight;
            if mark < sum {
                return candidate.id;
            }
        }
        last
    }
}

/// The highest logit; of equals the first. There is one.
fn most_likely(candidates: &[Candidate]) -> Candidate {
    let mut best = candidates[0];
    for candidate in &candidates[1..] {
        if candidate.logit > best.logit {
            best = *candidate;
        }
    }
    best
}

/// Refuses candidates from which nothing can be drawn.
fn check(candidates: &[Candidate]) -> Result<()> {
    let bad = candidates
        .iter()
        .find(|c| c.logit.is_nan() || c.logit == f32::INFINITY);
    let found = match bad {
        Some(Candidate { id, logit }) => format!("{logit} for token {id}"),
        None if candidates.is_empty() => "none".into(),
        None if candidates.iter().all(|c| c.logit == f32::NEG_INFINITY) => {
            "−∞ for all tokens, so that none can follow".into()
        }
        None => return Ok(()),
    };
    Err(Error::Argument {
        what: "logits",
        expected: "numbers, or −∞ for tokens that are ruled out".into(),
        found,
    })
}

/// The natural logarithm of the probability of token `id`; −∞ if there is no such token. The same bits on
/// every machine.
pub fn log_softmax_at(logits: &[f32], id: u32) -> f64 {
    let Some(&logit) = logits.get(id as usize) else {
        return f64::NEG_INFINITY;
    };
    LogSoftmax::of(logits).at(logit)
}

/// The sums over all logits that logarithmic probabilities have in common.
pub(crate) struct LogSoftmax {
    highest: f64,
    log_total: f64,
}

impl LogSoftmax {
    pub(crate) fn of(logits: &[f32]) -> Self {
        let highest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let total: f64 = logits
            .iter()
            .map(|logit| libm::exp(f64::from(*logit) - highest))
            .sum();
        Self {
            highest,
            log_total: libm::log(total),
        }
    }

    /// The natural logarithm of the probability of a token with this logit.
    pub(crate) fn at(&self, logit: f32) -> f64 {
        (f64::from(logit) - self.highest) - self.log_total
    }
}

/// Blackman and Vigna's xoshiro256**, its state filled by SplitMix64.
#[derive(Debug, Clone)]
struct Random {
    state: [u64; 4],
}

impl Random {
    fn new(seed: u64) -> Self {
        let mut counter = seed;
        let state = std::array::from_fn(|_| {
            counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = counter;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Self { state }
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// A number from 0 up to, not including, 1, in steps of 2⁻⁵³.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests;
