//! From logits to the next token.
//!
//! The same seed gives the same tokens on every machine: the exponential is our own, sums run in one order,
//! equal logits are told apart by id, and the random numbers come from a generator written here.

use std::cmp::Ordering;

use bitnet_core::math::exp;

use crate::{Error, Result};

/// How to choose. The steps come in the order of the fields, as in llama.cpp: the penalty, then the three
/// filters on the model's own distribution, then the temperature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingOptions {
    /// Divides positive logits of recent tokens and multiplies negative ones; 1 does nothing.
    pub repetition_penalty: f32,
    /// How many of the most recent tokens the penalty looks at; 0 turns it off.
    pub repetition_window: usize,
    /// Keep the `top_k` most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the most likely tokens that together reach this probability; 1 keeps all.
    pub top_p: f32,
    /// Drop tokens less likely than this fraction of the most likely one; 0 drops none.
    pub min_p: f32,
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
            top_p: 0.95,
            min_p: 0.0,
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
    /// The logits after the penalty, kept to save allocations.
    logits: Vec<f32>,
    /// Ids still in the running.
    candidates: Vec<u32>,
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
            logits: Vec::new(),
            candidates: Vec::new(),
        })
    }

    /// The options it was made with.
    pub fn options(&self) -> &SamplingOptions {
        &self.options
    }

    /// The id of the next token. `logits` holds one number for each token of the vocabulary, `recent` the
    /// tokens so far (the last is the newest).
    ///
    /// # Errors
    /// If there are no logits, or one of them is not finite.
    pub fn sample(&mut self, logits: &[f32], recent: &[u32]) -> Result<u32> {
        check_finite(logits)?;
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        self.penalize(recent);
        if self.options.temperature == 0.0 {
            return Ok(most_likely(&self.logits));
        }
        self.candidates.clear();
        self.candidates.extend(0..self.logits.len() as u32);
        let highest = self.logits.iter().copied().fold(f32::MIN, f32::max);
        self.keep_top_k();
        self.keep_top_p(highest);
        if self.options.min_p > 0.0 {
            let (logits, min_p) = (&self.logits, self.options.min_p);
            self.candidates
                .retain(|id| exp(logits[*id as usize] - highest) >= min_p);
        }
        Ok(self.draw(highest))
    }

    fn penalize(&mut self, recent: &[u32]) {
        let penalty = self.options.repetition_penalty;
        if penalty == 1.0 {
            return;
        }
        let window = self.options.repetition_window.min(recent.len());
        let mut seen: Vec<u32> = recent[recent.len() - window..].to_vec();
        seen.sort_unstable();
        seen.dedup();
        for id in seen {
            if let Some(logit) = self.logits.get_mut(id as usize) {
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
        let logits = &self.logits;
        let by_likelihood = |a: &u32, b: &u32| likelihood(logits, *a, *b);
        if (1..self.candidates.len()).contains(&count) {
            self.candidates
                .select_nth_unstable_by(count - 1, by_likelihood);
        }
        let front = count.min(self.candidates.len());
        self.candidates[..front].sort_unstable_by(by_likelihood);
    }

    fn keep_top_k(&mut self) {
        let count = self.options.top_k;
        if count > 0 && count < self.candidates.len() {
            self.sort_front(count);
            self.candidates.truncate(count);
        }
    }

    fn keep_top_p(&mut self, highest: f32) {
        if self.options.top_p >= 1.0 {
            return;
        }
        let weight = |logits: &[f32], id: u32| f64::from(exp(logits[id as usize] - highest));
        let total: f64 = self
            .candidates
            .iter()
            .map(|id| weight(&self.logits, *id))
            .sum();
        let enough = f64::from(self.options.top_p) * total;
        // Few tokens carry most of the probability: sort more only when they do not suffice.
        let mut sorted = 64;
        loop {
            self.sort_front(sorted);
            let mut sum = 0.0;
            let reached = self.candidates.iter().take(sorted).position(|id| {
                sum += weight(&self.logits, *id);
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
        let logits = &self.logits;
        let weight = |id: u32| f64::from(exp((logits[id as usize] - highest) / temperature));
        let total: f64 = self.candidates.iter().map(|id| weight(*id)).sum();
        let mark = self.random.unit() * total;
        let mut sum = 0.0;
        let mut last = 0;
        for id in &self.candidates {
            let weight = weight(*id);
            if weight > 0.0 {
                last = *id;
            }
            sum += weight;
            if mark < sum {
                return *id;
            }
        }
        last
    }
}

/// More likely first; of equals the lower id.
fn likelihood(logits: &[f32], a: u32, b: u32) -> Ordering {
    logits[b as usize]
        .partial_cmp(&logits[a as usize])
        .unwrap_or(Ordering::Equal)
        .then(a.cmp(&b))
}

/// The id of the highest logit; of equals the lowest.
fn most_likely(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

fn check_finite(logits: &[f32]) -> Result<()> {
    let found = match logits.iter().position(|logit| !logit.is_finite()) {
        Some(id) => format!("{} for token {id}", logits[id]),
        None if logits.is_empty() => "none".into(),
        None => return Ok(()),
    };
    Err(Error::Argument {
        what: "logits",
        expected: "finite numbers".into(),
        found,
    })
}

/// The natural logarithm of the probability of token `id`; −∞ if there is no such token. The same bits on
/// every machine.
pub fn log_softmax_at(logits: &[f32], id: u32) -> f64 {
    let Some(logit) = logits.get(id as usize) else {
        return f64::NEG_INFINITY;
    };
    let highest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let total: f64 = logits
        .iter()
        .map(|other| libm::exp(f64::from(*other) - highest))
        .sum();
    (f64::from(*logit) - highest) - libm::log(total)
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
