//! Many texts at once: how fast they are together, and how long each waits for its first token.

use super::walk;
use bitnet::engine::{Batcher, TokenStream};
use bitnet::{EngineOptions, GenerateOptions, Model, Request, SamplingOptions, Speculation};
use serde::Serialize;
use std::time::Instant;

/// So many texts, all requested at once.
#[derive(Clone, Copy)]
pub(super) struct Parallel {
    pub(super) texts: usize,
    /// Tokens of each prompt.
    pub(super) prompt: usize,
    /// Tokens that each gets while all are being written.
    pub(super) tokens: usize,
}

/// Measurements beside tokens per second.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Waiting {
    texts: usize,
    /// Tokens per second of each text.
    pub(super) per_text: f64,
    /// Seconds from the request to the first token: of the text in the middle, and of the one in twenty that waits longest.
    pub(super) first_token_p50: f64,
    pub(super) first_token_p95: f64,
}

impl Parallel {
    pub(super) fn name(self) -> String {
        format!("tg{}x{}@p{}", self.tokens, self.texts, self.prompt)
    }

    /// Tokens per second of all texts together from the step on in which all are being written, for each repetition.
    pub(super) fn time(
        self,
        model: &Model,
        (repetitions, warm_up): (usize, bool),
    ) -> anyhow::Result<(Vec<f64>, Waiting)> {
        let mut samples = Vec::with_capacity(repetitions);
        let mut first_tokens = Vec::new();
        for run in 0..repetitions + usize::from(warm_up) {
            let (rate, first) = self.run(model)?;
            if run > 0 || !warm_up {
                samples.push(rate);
                first_tokens.extend(first);
            }
        }
        let mean = samples.iter().sum::<f64>() / samples.len().max(1) as f64;
        first_tokens.sort_by(f64::total_cmp);
        let waiting = Waiting {
            texts: self.texts,
            per_text: mean / self.texts.max(1) as f64,
            first_token_p50: quantile(&first_tokens, 0.50),
            first_token_p95: quantile(&first_tokens, 0.95),
        };
        Ok((samples, waiting))
    }

    /// Tokens per second, and each text's seconds to its first token.
    fn run(self, model: &Model) -> anyhow::Result<(f64, Vec<f64>)> {
        let options = EngineOptions {
            max_running: self.texts,
            max_waiting: self.texts,
            kv_bytes: isize::MAX as usize,
            prefix_cache: false,
            ..EngineOptions::default()
        };
        let generate = GenerateOptions {
            max_tokens: usize::MAX,
            sampling: SamplingOptions::greedy(),
            stop_at_end: false,
            speculation: Speculation::Off,
            ..GenerateOptions::default()
        };
        let mut batcher = Batcher::new(model, options)?;
        let ids = walk(model, self.texts * self.prompt);
        let requested = Instant::now();
        let mut texts = Vec::with_capacity(self.texts);
        for prompt in ids.chunks(self.prompt) {
            texts.push(Text {
                stream: batcher.submit(Request::new(prompt.to_vec(), &generate))?,
                tokens: 0,
                first: None,
            });
        }
        let mut all_begun = None;
        loop {
            batcher.step();
            for text in &mut texts {
                text.read(requested)?;
            }
            let total: usize = texts.iter().map(|text| text.tokens).sum();
            match all_begun {
                None if texts.iter().all(|text| text.first.is_some()) => {
                    all_begun = Some((Instant::now(), total));
                }
                Some((begin, before)) if total - before >= self.tokens * self.texts => {
                    let rate = (total - before) as f64 / begin.elapsed().as_secs_f64().max(1e-9);
                    let first = texts.iter().filter_map(|text| text.first).collect();
                    return Ok((rate, first));
                }
                _ => {}
            }
        }
    }
}

struct Text {
    stream: TokenStream,
    tokens: usize,
    first: Option<f64>,
}

impl Text {
    fn read(&mut self, requested: Instant) -> anyhow::Result<()> {
        while let Some(piece) = self.stream.try_next() {
            piece?;
            self.tokens += 1;
            self.first
                .get_or_insert_with(|| requested.elapsed().as_secs_f64());
        }
        if let Some(finish) = self.stream.finish() {
            anyhow::bail!(
                "a text of {} tokens ended before all were measured: {}; use a longer context (-c)",
                self.tokens,
                finish.reason.name()
            );
        }
        Ok(())
    }
}

/// The value below which `share` of the sorted values lie.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let place = (last as f64 * share).ceil() as usize;
    sorted.get(place).copied().unwrap_or(0.0)
}
