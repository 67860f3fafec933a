//! The things that users do to a server, and what is measured of them.

use crate::client::{Answer, Ask, ask, joined, together};
use anyhow::{Context, Result, ensure};
use bitnet_benchmarks::comparison::median;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Token ids of prompts, the same in every run and different in every prompt: below those that synthetic vocabularies give
/// to controls.
pub(crate) fn prompt(seed: u32, tokens: usize) -> Vec<u32> {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % 20_000) as u32 + 300
    };
    (0..tokens).map(|_| draw()).collect()
}

/// The value below which 95 of 100 are.
pub(crate) fn p95(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    let place = (last as f64 * 0.95).ceil() as usize;
    values.get(place).copied().unwrap_or(f64::NAN)
}

fn first_tokens(answers: &[Answer]) -> Vec<f64> {
    let firsts = answers.iter().filter_map(Answer::first);
    firsts.map(|first| first.as_secs_f64()).collect()
}

/// Users that ask at the same moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Users {
    pub(crate) tokens_per_second: f64,
    /// Seconds.
    pub(crate) first_p95: f64,
}

impl Users {
    pub(crate) fn measure(
        address: &str,
        (users, prompted, tokens): (usize, usize, usize),
    ) -> Result<Self> {
        let asks: Vec<Ask> = (0..users)
            .map(|user| Ask {
                prompt: prompt(1000 + user as u32, prompted),
                tokens,
            })
            .collect();
        let answers = together(address, &asks)?;
        let begin = answers.iter().map(|answer| answer.sent).min();
        let end = answers.iter().map(Answer::end).max();
        let time = end.zip(begin).map(|(end, begin)| end - begin);
        let all: usize = answers.iter().map(|answer| answer.tokens).sum();
        Ok(Self {
            tokens_per_second: all as f64 / time.unwrap_or_default().as_secs_f64(),
            first_p95: p95(first_tokens(&answers)),
        })
    }
}

/// A long prompt that comes while others are being answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Intruder {
    /// Seconds between tokens before it came: the median.
    pub(crate) usual: f64,
    /// The longest time between two tokens of another text, from its coming to its first token.
    pub(crate) longest: f64,
    /// Seconds to its first token.
    pub(crate) first: f64,
}

impl Intruder {
    pub(crate) fn measure(
        address: &str,
        (users, tokens, long): (usize, usize, usize),
    ) -> Result<Self> {
        let leave = AtomicBool::new(false);
        let begun = AtomicUsize::new(0);
        thread::scope(|scope| {
            let others: Vec<_> = (0..users)
                .map(|user| {
                    let (leave, begun) = (&leave, &begun);
                    scope.spawn(move || {
                        let short = Ask {
                            prompt: prompt(2000 + user as u32, 32),
                            tokens: 2,
                        };
                        // Its prompt is read, so that all begin to write at once.
                        ask(address, &short, &AtomicBool::new(false))?;
                        begun.fetch_add(1, Ordering::SeqCst);
                        ask(address, &Ask { tokens, ..short }, leave)
                    })
                })
                .collect();
            let waited = Instant::now();
            while begun.load(Ordering::SeqCst) < users
                && waited.elapsed() < Duration::from_secs(120)
            {
                thread::sleep(Duration::from_millis(20));
            }
            thread::sleep(Duration::from_secs(8));
            let intruder = Ask {
                prompt: prompt(3000, long),
                tokens: 1,
            };
            let answer = ask(address, &intruder, &AtomicBool::new(false));
            let ended = Instant::now();
            leave.store(true, Ordering::SeqCst);
            let others: Vec<Answer> = others.into_iter().map(joined).collect::<Result<_>>()?;
            let answer = answer?;
            let first = answer.first().context("the long prompt got no token")?;
            let came = answer.sent;
            let pauses: Vec<(Instant, f64)> = others
                .iter()
                .flat_map(Answer::pauses)
                .map(|(at, pause)| (at, pause.as_secs_f64()))
                .collect();
            let before: Vec<f64> = pauses
                .iter()
                .filter(|(at, _)| *at < came)
                .map(|(_, pause)| *pause)
                .collect();
            ensure!(
                !before.is_empty(),
                "the others wrote nothing before the long prompt came"
            );
            let came_first = came + first;
            let during = pauses
                .iter()
                // A pause that began before its first token counts whole.
                .filter(|(at, pause)| {
                    *at >= came && *at - Duration::from_secs_f64(*pause) <= came_first
                });
            let longest = during.map(|(_, pause)| *pause).fold(0.0, f64::max);
            // A text that stood still until the end has no later token: its silence counts as well.
            let silent = others.iter().map(|other| {
                let last = other.end().max(came);
                ended.saturating_duration_since(last).as_secs_f64()
            });
            Ok(Self {
                usual: median(&before),
                longest: silent.fold(longest, f64::max),
                first: first.as_secs_f64(),
            })
        })
    }
}

/// Users whose prompts begin alike.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shared {
    /// Seconds to the first token of the first of them.
    pub(crate) first: f64,
    /// The median of the others.
    pub(crate) others: f64,
}

impl Shared {
    /// One user, then `users` in groups of `at_once`.
    pub(crate) fn measure(
        address: &str,
        (users, at_once, prefix): (usize, usize, usize),
    ) -> Result<Self> {
        let begin = prompt(4000, prefix);
        let asks: Vec<Ask> = (0..=users)
            .map(|user| Ask {
                prompt: [begin.clone(), prompt(5000 + user as u32, 16)].concat(),
                tokens: 8,
            })
            .collect();
        let (alone, others) = asks.split_at(1);
        let first = first_tokens(&together(address, alone)?);
        let mut seconds = Vec::new();
        for group in others.chunks(at_once.max(1)) {
            seconds.extend(first_tokens(&together(address, group)?));
        }
        Ok(Self {
            first: first
                .first()
                .copied()
                .context("the first user got no token")?,
            others: median(&seconds),
        })
    }
}

/// How many of `users` requests got the same text alone and in company.
pub(crate) fn same_in_company(address: &str, users: usize) -> Result<usize> {
    let asks: Vec<Ask> = (0..users)
        .map(|user| Ask {
            prompt: prompt(6000 + user as u32, 8 + 7 * user),
            tokens: 24,
        })
        .collect();
    let mut alone = Vec::new();
    for request in &asks {
        alone.extend(together(address, std::slice::from_ref(request))?);
    }
    let company = together(address, &asks)?;
    let pairs = alone.iter().zip(&company);
    Ok(pairs
        .filter(|(one, other)| one.text == other.text && one.tokens == other.tokens)
        .count())
}
