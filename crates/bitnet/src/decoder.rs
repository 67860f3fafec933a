//! From outputs to tokens and text: what a lone session and the engine have in common.
//!
//! A decoder is asked which outputs it needs ([`Decoder::request`]), chooses a token from them ([`Decoder::choose`], or
//! [`Decoder::accept`] where a draft ran along), and takes it into the text ([`Decoder::take`]). Who runs the tokens, alone or in a
//! batch, is not its business.

use crate::Result;
use crate::generate::{GenerateOptions, StopReason, Timings};
use crate::hook::{HookScope, LogitsHook};
use crate::logprobs::TokenLogprobs;
use crate::model::Model;
use crate::sampler::Sampler;
use crate::speculate::{Drafter, Speculation};
use crate::stop::StopStrings;
use crate::tokenizer::Detokenizer;
use bitnet_core::{Output, OutputRequest};
use std::collections::VecDeque;
use std::time::Duration;
// The standard library has no clock for wasm32; elsewhere this is the standard one.
use web_time::Instant;

/// The addition of one token to a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// Whole characters; empty while a character or a stop string may go on in the next token.
    pub text: String,
    /// The token. None for text that was held back until the end.
    pub token: Option<u32>,
    /// Its logarithmic probability, if that was asked for.
    pub logprobs: Option<TokenLogprobs>,
}

/// A token that was chosen and is not part of the text yet.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    pub(crate) id: u32,
    logprobs: Option<TokenLogprobs>,
}

/// Wishes of a generation beside its [`GenerateOptions`].
#[derive(Default)]
pub(crate) struct Extras {
    /// Alternatives that are reported with each token; `None` for no probabilities at all.
    pub(crate) logprobs: Option<usize>,
    /// The caller's say in each token.
    pub(crate) hook: Option<Box<dyn LogitsHook>>,
}

/// Chooses the tokens of one text.
pub(crate) struct Decoder {
    model: Model,
    sampler: Sampler,
    extras: Extras,
    detokenizer: Detokenizer,
    stop: StopStrings,
    options: GenerateOptions,
    drafter: Drafter,
    timings: Timings,
    reason: Option<StopReason>,
    first_token: Option<Instant>,
    ready: VecDeque<Piece>,
    /// Tokens of a draft that was right, and the one after it.
    ahead: VecDeque<Chosen>,
}

impl Decoder {
    /// A decoder at the beginning of a text, which continues `tokens` tokens. `supports_lookahead` says whether tokens can run
    /// before they are known: each is then cheaper than a draft that may be wrong.
    ///
    /// # Errors
    /// If an option is out of range.
    pub(crate) fn new(
        model: &Model,
        tokens: usize,
        options: &GenerateOptions,
        extras: Extras,
        supports_lookahead: bool,
    ) -> Result<Self> {
        let sampler = Sampler::new(options.sampling)?;
        let stop = StopStrings::new(&options.stop)?;
        let mut detokenizer = model.tokenizer().detokenizer();
        if tokens > 1 {
            detokenizer = detokenizer.continuing();
        }
        let drafts = match options.speculation {
            Speculation::Auto => options.sampling.is_greedy() && !supports_lookahead,
            Speculation::Off => false,
            Speculation::Ngram => true,
        };
        Ok(Self {
            model: model.clone(),
            sampler,
            extras,
            detokenizer,
            stop,
            options: options.clone(),
            drafter: Drafter::new(drafts),
            timings: Timings::default(),
            reason: None,
            first_token: None,
            ready: VecDeque::new(),
            ahead: VecDeque::new(),
        })
    }

    /// Whether each token is the likeliest of the model's own logits, and nothing else is asked of them.
    pub(crate) fn is_plain_argmax(&self) -> bool {
        let sampling = &self.options.sampling;
        sampling.is_greedy()
            && !sampling.has_penalty()
            && self.extras.hook.is_none()
            && self.extras.logprobs.is_none()
    }

    /// Has logarithmic probabilities reported with each piece, and those of so many alternatives.
    pub(crate) fn report_logprobs(&mut self, alternatives: usize) {
        self.extras.logprobs = Some(alternatives);
    }

    /// Whether drafts are tried.
    pub(crate) fn drafts(&self) -> bool {
        self.drafter.enabled()
    }

    pub(crate) fn options(&self) -> &GenerateOptions {
        &self.options
    }

    pub(crate) fn timings(&self) -> Timings {
        self.timings
    }

    pub(crate) fn timings_mut(&mut self) -> &mut Timings {
        &mut self.timings
    }

    /// Why the text ended; `None` while it goes on.
    pub(crate) fn reason(&self) -> Option<StopReason> {
        self.reason
    }

    /// Whether a token was chosen.
    pub(crate) fn has_begun(&self) -> bool {
        self.first_token.is_some()
    }

    /// The next piece of the text, if one is complete.
    pub(crate) fn next_ready(&mut self) -> Option<Piece> {
        self.ready.pop_front()
    }

    /// A token that an accepted draft brought along.
    pub(crate) fn next_ahead(&mut self) -> Option<Chosen> {
        self.ahead.pop_front()
    }

    /// Tokens that accepted drafts brought along.
    pub(crate) fn ahead(&self) -> usize {
        self.ahead.len()
    }

    /// Tokens that may still be generated.
    pub(crate) fn wanted(&self) -> usize {
        self.options
            .max_tokens
            .saturating_sub(self.timings.generated_tokens)
    }

    /// Ends the text if it was cancelled, its time is over or it is as long as was asked. Returns whether it has ended.
    pub(crate) fn check_limits(&mut self) -> bool {
        if self.options.cancel.is_cancelled() {
            self.end(StopReason::Cancelled);
        } else if self.options.deadline.is_some_and(|at| Instant::now() >= at) {
            self.end(StopReason::Deadline);
        } else if self.wanted() == 0 {
            self.end(StopReason::MaxTokens);
        }
        self.reason.is_some()
    }

    /// The outputs that are needed after the last of `tokens`.
    ///
    /// # Errors
    /// Those of the hook.
    pub(crate) fn request(&mut self, tokens: &[u32]) -> Result<OutputRequest<'_>> {
        let scope = match &mut self.extras.hook {
            Some(hook) => hook.scope(tokens)?,
            None => HookScope::Nothing,
        };
        if self.extras.logprobs.is_some() {
            return Ok(OutputRequest::Logits { rows: 1 });
        }
        Ok(match self.sampler.top_beside(tokens, scope) {
            Some(top) => OutputRequest::Top { rows: 1, top },
            None => OutputRequest::Logits { rows: 1 },
        })
    }

    /// The token that follows `tokens` by the outputs that [`request`](Self::request) asked for.
    ///
    /// # Errors
    /// If no token can follow; those of the hook.
    pub(crate) fn choose(&mut self, output: &Output, tokens: &[u32]) -> Result<Chosen> {
        match output {
            Output::Logits(logits) => self.sample(logits, tokens),
            Output::Top(rows) => {
                let candidates = rows.last().map_or(&[][..], Vec::as_slice);
                let hook = active(&mut self.extras.hook, tokens)?;
                let id = self.sampler.sample_top_hooked(candidates, tokens, hook)?;
                Ok(Chosen { id, logprobs: None })
            }
            // Nothing was requested: as where nothing could follow.
            Output::Nothing | Output::Hidden(_) => self.sample(&[], tokens),
        }
    }

    fn sample(&mut self, logits: &[f32], tokens: &[u32]) -> Result<Chosen> {
        let hook = active(&mut self.extras.hook, tokens)?;
        let id = self.sampler.sample_hooked(logits, tokens, hook)?;
        let alternatives = self.extras.logprobs;
        let logprobs = alternatives.map(|count| TokenLogprobs::of(logits, id, count));
        Ok(Chosen { id, logprobs })
    }

    /// A draft of the tokens after `tokens`, of which the last has yet to run: at most `room` tokens.
    pub(crate) fn draft(&mut self, tokens: &[u32], room: usize) -> Vec<u32> {
        // The token after the draft comes for nothing.
        let most = room.min(self.wanted()).saturating_sub(1);
        self.drafter.draft(tokens, most)
    }

    /// Samples what follows `tokens` and each token of `draft` behind them, until a sample differs from it. `logits` ends with
    /// rows for all of these, which took `time`. What the draft had right is [ahead](Self::next_ahead).
    ///
    /// # Errors
    /// As [`choose`](Self::choose).
    pub(crate) fn accept(
        &mut self,
        draft: &[u32],
        logits: &[f32],
        tokens: &[u32],
        time: Duration,
    ) -> Result<Chosen> {
        let vocabulary = self.model.vocabulary().max(1);
        let rows = logits.len() / vocabulary;
        let mut rows = logits
            .chunks_exact(vocabulary)
            .skip(rows.saturating_sub(draft.len() + 1));
        let mut tokens = tokens.to_vec();
        let first = self.sample(rows.next().unwrap_or(&[]), &tokens)?;
        let mut last = first.id;
        for (draft, logits) in draft.iter().zip(rows) {
            if last != *draft {
                break;
            }
            tokens.push(last);
            let next = self.sample(logits, &tokens)?;
            last = next.id;
            self.ahead.push_back(next);
        }
        self.timings.drafted_tokens += draft.len();
        self.timings.accepted_tokens += self.ahead.len();
        self.drafter.brought(1 + self.ahead.len(), time);
        Ok(first)
    }

    /// A token without a draft took `time`.
    pub(crate) fn took(&mut self, time: Duration) {
        self.drafter.took(time);
    }

    /// Takes a token into the text. Returns whether it becomes one of the context's tokens: not one that ends the text, nor one
    /// for which the context, if it is `full`, has no place.
    pub(crate) fn take(&mut self, chosen: Chosen, full: bool) -> bool {
        self.timings.generated_tokens += 1;
        let first = *self.first_token.get_or_insert_with(Instant::now);
        self.timings.decode_time = first.elapsed();
        let id = chosen.id;
        if self.options.stop_at_end && self.model.tokenizer().stops().contains(&id) {
            self.end(StopReason::EndToken(id));
            return false;
        }
        if full {
            self.end(StopReason::ContextFull);
            return false;
        }
        let text = self.detokenizer.push(id);
        let text = self.stop.push(&text);
        self.ready.push_back(Piece {
            text,
            token: Some(id),
            logprobs: chosen.logprobs,
        });
        if let Some(index) = self.stop.stopped() {
            self.reason = Some(StopReason::StopString(index));
        }
        true
    }

    /// Ends the text with what is still held back.
    pub(crate) fn end(&mut self, reason: StopReason) {
        self.release();
        self.reason.get_or_insert(reason);
    }

    /// Gives out the text that is held back; a stop string may become complete by it.
    pub(crate) fn release(&mut self) {
        let rest = self.detokenizer.finish();
        let mut text = self.stop.push(&rest);
        if let Some(index) = self.stop.stopped() {
            self.reason = Some(StopReason::StopString(index));
        }
        if self.reason.is_none() {
            text.push_str(&self.stop.finish());
        }
        if !text.is_empty() {
            self.ready.push_back(Piece {
                text,
                token: None,
                logprobs: None,
            });
        }
    }

    /// Forgets why the text ended: it failed.
    pub(crate) fn fail(&mut self) {
        self.release();
        self.reason = None;
    }
}

/// The hook, if it has a say in what follows `tokens`.
fn active<'a>(
    hook: &'a mut Option<Box<dyn LogitsHook>>,
    tokens: &[u32],
) -> Result<Option<&'a mut (dyn LogitsHook + 'static)>> {
    let Some(hook) = hook else {
        return Ok(None);
    };
    let asks = hook.scope(tokens)? != HookScope::Nothing;
    Ok(asks.then_some(&mut **hook))
}
