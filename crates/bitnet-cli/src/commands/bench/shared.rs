//! Requests that begin alike: how long each waits for its first token, where what they share is computed once, and where each
//! computes it for itself.

use super::parallel::quantile;
use super::walk;
use bitnet::engine::Batcher;
use bitnet::{EngineOptions, GenerateOptions, Model, Request, SamplingOptions, Speculation};
use serde::Serialize;
use std::time::Instant;

/// Tokens of each request behind the ones that all share.
const OWN: usize = 16;
/// Requests without what others computed: each takes as long as the others.
const ALONE: usize = 5;

/// So many requests, one after the other.
#[derive(Clone, Copy)]
pub(super) struct Shared {
    /// Tokens that all begin with.
    pub(super) prefix: usize,
    pub(super) requests: usize,
}

/// Seconds to first tokens.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Reuse {
    requests: usize,
    /// Of the requests but the first, in the middle.
    pub(super) shared_p50: f64,
    /// Of requests that find nothing computed, in the middle.
    pub(super) alone_p50: f64,
    /// Tokens of prompts that ran in all.
    pub(super) computed: u64,
    /// Tokens of prompts that were there already.
    pub(super) cached: u64,
}

impl Shared {
    pub(super) fn name(self) -> String {
        format!("prefix{}x{}", self.prefix, self.requests)
    }

    /// Tokens of all prompts.
    pub(super) fn tokens(self) -> usize {
        self.requests * (self.prefix + OWN)
    }

    /// Measures once: tokens of prompts per second, and how long the requests waited.
    pub(super) fn time(self, model: &Model) -> anyhow::Result<(f64, Reuse)> {
        let (mut alone, _) = self.run(model, self.requests.min(ALONE), false)?;
        let begin = Instant::now();
        let (mut shared, gauges) = self.run(model, self.requests, true)?;
        let seconds = begin.elapsed().as_secs_f64();
        // The first one computes what the others share.
        if shared.len() > 1 {
            shared.remove(0);
        }
        alone.sort_by(f64::total_cmp);
        shared.sort_by(f64::total_cmp);
        let reuse = Reuse {
            requests: self.requests,
            shared_p50: quantile(&shared, 0.5),
            alone_p50: quantile(&alone, 0.5),
            computed: gauges.prompt_tokens,
            cached: gauges.cached_tokens,
        };
        Ok((self.tokens() as f64 / seconds.max(1e-9), reuse))
    }

    /// Each request's seconds to its first token.
    fn run(
        self,
        model: &Model,
        requests: usize,
        prefix_cache: bool,
    ) -> anyhow::Result<(Vec<f64>, bitnet::engine::Gauges)> {
        let options = EngineOptions {
            prefix_cache,
            ..EngineOptions::default()
        };
        let generate = GenerateOptions {
            max_tokens: 1,
            sampling: SamplingOptions::greedy(),
            stop_at_end: false,
            speculation: Speculation::Off,
            ..GenerateOptions::default()
        };
        let mut batcher = Batcher::new(model, options)?;
        let ids = walk(model, self.prefix + requests * OWN);
        let (prefix, own) = ids.split_at(self.prefix);
        let mut seconds = Vec::with_capacity(requests);
        for own in own.chunks(OWN) {
            let begin = Instant::now();
            let mut stream = batcher.submit(Request::new([prefix, own].concat(), &generate))?;
            while stream.finish().is_none() {
                batcher.step();
                while let Some(piece) = stream.try_next() {
                    piece?;
                }
            }
            seconds.push(begin.elapsed().as_secs_f64());
        }
        Ok((seconds, batcher.gauges()))
    }
}
