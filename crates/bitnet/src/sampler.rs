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
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Everything off: draws from the model's own distribution.
    const OPEN: SamplingOptions = SamplingOptions {
        repetition_penalty: 1.0,
        repetition_window: 64,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        temperature: 1.0,
        seed: 1,
    };

    /// How often each token is drawn.
    fn counts(options: SamplingOptions, logits: &[f32], draws: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(options).unwrap();
        let mut counts = vec![0; logits.len()];
        for _ in 0..draws {
            counts[sampler.sample(logits, &[]).unwrap() as usize] += 1;
        }
        counts
    }

    fn drawn(options: SamplingOptions, logits: &[f32]) -> Vec<usize> {
        let counts = counts(options, logits, 2000);
        (0..logits.len()).filter(|id| counts[*id] > 0).collect()
    }

    #[test]
    fn greedy_takes_the_lowest_id_of_equals() {
        let mut sampler = Sampler::new(SamplingOptions::greedy()).unwrap();
        assert_eq!(sampler.sample(&[1.0, 3.0, 3.0, -1.0], &[]).unwrap(), 1);
        assert_eq!(sampler.sample(&[-0.0, 0.0], &[]).unwrap(), 0);
        assert_eq!(sampler.sample(&[f32::MIN], &[]).unwrap(), 0);
    }

    #[test]
    fn the_generator_is_the_published_one() {
        // Reference: SplitMix64 from 0 begins with these.
        let random = Random::new(0);
        assert_eq!(random.state[0], 0xe220_a839_7b1d_cdaf);
        assert_eq!(random.state[1], 0x6e78_9e6a_a1b9_65f4);
        // Reference: xoshiro256** from the state 1, 2, 3, 4.
        let mut random = Random {
            state: [1, 2, 3, 4],
        };
        let first: Vec<u64> = (0..5).map(|_| random.next()).collect();
        assert_eq!(
            first,
            [
                11520,
                0,
                1_509_978_240,
                1_215_971_899_390_074_240,
                1_216_172_134_540_287_360
            ]
        );
    }

    #[test]
    fn a_seed_gives_the_same_ids_everywhere() {
        let logits: Vec<f32> = (0..1000)
            .map(|id| ((id * 37) % 101) as f32 / 16.0)
            .collect();
        let ids = |options| {
            let mut sampler = Sampler::new(options).unwrap();
            let mut ids = Vec::new();
            for _ in 0..8 {
                ids.push(sampler.sample(&logits, &ids).unwrap());
            }
            ids
        };
        let seeded = SamplingOptions {
            seed: 42,
            ..SamplingOptions::default()
        };
        assert_eq!(ids(seeded), GOLDEN_DEFAULT);
        assert_eq!(ids(OPEN), GOLDEN_OPEN);
        assert_ne!(ids(SamplingOptions { seed: 43, ..seeded }), GOLDEN_DEFAULT);
    }
    // Computed by a program in another language from the description above.
    const GOLDEN_DEFAULT: [u32; 8] = [232, 363, 494, 423, 726, 898, 696, 120];
    const GOLDEN_OPEN: [u32; 8] = [704, 524, 573, 393, 696, 144, 68, 382];

    #[test]
    fn frequencies_follow_the_distribution() {
        let logits = [0.0, 1.0, 2.0, -1.0];
        for temperature in [0.5, 1.0, 2.0] {
            let options = SamplingOptions {
                temperature,
                ..OPEN
            };
            let draws = 40_000;
            let counts = counts(options, &logits, draws);
            let scaled: Vec<f32> = logits.iter().map(|logit| logit / temperature).collect();
            for (id, count) in counts.iter().enumerate() {
                let expected = libm::exp(log_softmax_at(&scaled, id as u32));
                let found = *count as f64 / draws as f64;
                // Five standard deviations.
                let tolerance = 5.0 * (expected * (1.0 - expected) / draws as f64).sqrt();
                assert!(
                    (found - expected).abs() < tolerance,
                    "{id}: {found} {expected}"
                );
            }
        }
    }

    #[test]
    fn filters_keep_the_sets_they_should() {
        // Probabilities 0.5, 0.25, 0.125, 0.125 in another order.
        let logits = [0.125f32, 0.5, 0.125, 0.25].map(f32::ln);
        let top_k = |top_k| drawn(SamplingOptions { top_k, ..OPEN }, &logits);
        assert_eq!(top_k(1), [1]);
        assert_eq!(top_k(2), [1, 3]);
        assert_eq!(top_k(3), [0, 1, 3], "of equals the lower id");
        assert_eq!(top_k(0), [0, 1, 2, 3]);
        assert_eq!(top_k(9), [0, 1, 2, 3]);
        let top_p = |top_p| drawn(SamplingOptions { top_p, ..OPEN }, &logits);
        assert_eq!(top_p(0.0), [1]);
        assert_eq!(top_p(0.49), [1]);
        assert_eq!(top_p(0.6), [1, 3]);
        assert_eq!(top_p(0.8), [0, 1, 3]);
        assert_eq!(top_p(1.0), [0, 1, 2, 3]);
        let min_p = |min_p| drawn(SamplingOptions { min_p, ..OPEN }, &logits);
        assert_eq!(min_p(1.0), [1]);
        assert_eq!(min_p(0.3), [1, 3]);
        assert_eq!(min_p(0.2), [0, 1, 2, 3]);
        let both = SamplingOptions {
            top_k: 2,
            top_p: 0.6,
            ..OPEN
        };
        assert_eq!(drawn(both, &logits), [1], "top_p counts within top_k");
    }

    #[test]
    fn the_penalty_looks_at_recent_tokens_once_each() {
        let options = SamplingOptions {
            repetition_penalty: 2.0,
            repetition_window: 2,
            ..SamplingOptions::greedy()
        };
        let mut sampler = Sampler::new(options).unwrap();
        let logits = [3.0, 2.0, 1.0];
        assert_eq!(sampler.sample(&logits, &[]).unwrap(), 0);
        assert_eq!(sampler.sample(&logits, &[0]).unwrap(), 1);
        assert_eq!(sampler.sample(&logits, &[0, 0]).unwrap(), 1);
        assert_eq!(sampler.sample(&logits, &[0, 1]).unwrap(), 0, "1.5, 1, 1");
        assert_eq!(
            sampler.sample(&logits, &[0, 9, 9]).unwrap(),
            0,
            "out of sight"
        );
        assert_eq!(sampler.sample(&[-1.0, -1.5], &[0]).unwrap(), 1);
        let mut off = Sampler::new(SamplingOptions {
            repetition_window: 0,
            ..options
        })
        .unwrap();
        assert_eq!(off.sample(&logits, &[0]).unwrap(), 0);
    }

    #[test]
    fn wrong_options_and_logits_give_errors() {
        let wrong = [
            SamplingOptions {
                temperature: -1.0,
                ..OPEN
            },
            SamplingOptions {
                temperature: f32::NAN,
                ..OPEN
            },
            SamplingOptions {
                temperature: f32::INFINITY,
                ..OPEN
            },
            SamplingOptions { top_p: 1.5, ..OPEN },
            SamplingOptions {
                min_p: -0.1,
                ..OPEN
            },
            SamplingOptions {
                repetition_penalty: 0.0,
                ..OPEN
            },
        ];
        for options in wrong {
            assert!(matches!(Sampler::new(options), Err(Error::Argument { .. })));
        }
        let mut sampler = Sampler::new(OPEN).unwrap();
        for logits in [
            &[][..],
            &[f32::NAN],
            &[1.0, f32::INFINITY],
            &[f32::NEG_INFINITY],
        ] {
            assert!(sampler.sample(logits, &[]).is_err());
        }
    }

    #[test]
    fn log_probabilities_sum_to_one() {
        let logits = [1.0, -2.0, 30.5, 30.0];
        let total: f64 = (0..4)
            .map(|id| libm::exp(log_softmax_at(&logits, id)))
            .sum();
        assert!((total - 1.0).abs() < 1e-12);
        assert_eq!(log_softmax_at(&[5.0], 0), 0.0);
        assert_eq!(log_softmax_at(&logits, 4), f64::NEG_INFINITY);
    }

    proptest! {
        #[test]
        fn any_finite_logits_give_a_token(
            logits in proptest::collection::vec(prop_oneof![-20.0f32..20.0, proptest::num::f32::NORMAL, Just(f32::MAX), Just(f32::MIN)], 1..300),
            recent in proptest::collection::vec(0u32..400, 0..10),
            temperature in prop_oneof![Just(0.0f32), 1e-30f32..1e-20, 0.1f32..4.0, Just(f32::MAX)],
            top_k in 0usize..400,
            top_p in 0.0f32..=1.0,
            min_p in 0.0f32..=1.0,
            repetition_penalty in 0.1f32..4.0,
            seed: u64,
        ) {
            let options = SamplingOptions { repetition_penalty, repetition_window: 5, top_k, top_p, min_p, temperature, seed };
            let id = Sampler::new(options).unwrap().sample(&logits, &recent).unwrap() as usize;
            prop_assert!(id < logits.len());
            if repetition_penalty == 1.0 && top_k > 0 {
                let better = logits.iter().filter(|other| **other > logits[id]).count();
                prop_assert!(better < top_k);
            }
        }

        #[test]
        fn the_sorted_front_of_top_p_is_what_sorting_all_gives(
            logits in proptest::collection::vec((-40i8..40).prop_map(|logit| f32::from(logit) / 8.0), 1..1200),
            top_p in 0.0f32..1.0,
        ) {
            let mut sampler = Sampler::new(SamplingOptions { top_p, ..OPEN }).unwrap();
            sampler.sample(&logits, &[]).unwrap();
            let mut all: Vec<u32> = (0..logits.len() as u32).collect();
            all.sort_by(|a, b| likelihood(&logits, *a, *b));
            let kept = sampler.candidates.len();
            prop_assert_eq!(&sampler.candidates, &all[..kept]);
            let highest = logits[all[0] as usize];
            let weight = |id: &u32| f64::from(exp(logits[*id as usize] - highest));
            let total: f64 = all.iter().map(weight).sum();
            let share = |count: usize| all[..count].iter().map(weight).sum::<f64>() / total;
            prop_assert!(share(kept) >= f64::from(top_p) - 1e-6);
            prop_assert!(kept == 1 || share(kept - 1) < f64::from(top_p) + 1e-6);
        }
    }
}
