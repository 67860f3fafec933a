//! Text from a session, piece by piece.

use crate::sampler::{Sampler, SamplingOptions};
use crate::session::{Before, Session};
use crate::speculate::{Drafter, Speculation};
use crate::stop::StopStrings;
use crate::tokenizer::Detokenizer;
use crate::{Error, Result};
use bitnet_core::pending::now;
use bitnet_core::{Output, OutputRequest, Pending};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
// The standard library has no clock for wasm32; elsewhere this is the standard one.
use web_time::Instant;

/// A flag that stops a generation from another thread. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks the generation to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Takes the request back, so that the flag can serve again.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether it was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How to generate.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// The most tokens to generate.
    pub max_tokens: usize,
    /// How each token is chosen.
    pub sampling: SamplingOptions,
    /// Texts that end the generation; they are not part of the output.
    pub stop: Vec<String>,
    /// Whether the model's own end tokens end the generation.
    pub stop_at_end: bool,
    /// Whether several tokens are tried at once. The text is the same either way.
    pub speculation: Speculation,
    /// Variables for the chat template, such as `enable_thinking`: see [`TemplateOptions::kwargs`]. For
    /// [`Session::chat`] only.
    ///
    /// [`TemplateOptions::kwargs`]: crate::chat::TemplateOptions::kwargs
    pub chat_template_kwargs: serde_json::Map<String, serde_json::Value>,
    /// Stops the generation from outside.
    pub cancel: Cancel,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_tokens: 128,
            sampling: SamplingOptions::default(),
            stop: Vec::new(),
            stop_at_end: true,
            speculation: Speculation::default(),
            chat_template_kwargs: serde_json::Map::new(),
            cancel: Cancel::default(),
        }
    }
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The model chose this end token.
    EndToken(u32),
    /// A stop string appeared.
    StopString,
    /// `max_tokens` were generated.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// [`Cancel::cancel`] was called.
    Cancelled,
}

impl StopReason {
    /// The name that programs read: `end`, `stop`, `length`, `context` or `cancelled`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EndToken(_) => "end",
            Self::StopString => "stop",
            Self::MaxTokens => "length",
            Self::ContextFull => "context",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What a generation took so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Timings {
    /// Tokens of the prompt that were run (those already in the context are not).
    pub prompt_tokens: usize,
    /// Time for them, up to their logits.
    pub prompt_time: Duration,
    /// Tokens generated, an end token included.
    pub generated_tokens: usize,
    /// Time from the first generated token to the last.
    pub decode_time: Duration,
    /// Tokens that were drafted to be tried at once.
    pub drafted_tokens: usize,
    /// Of these, the ones that were generated.
    pub accepted_tokens: usize,
}

impl Timings {
    /// Prompt tokens per second; 0 before any.
    pub fn prompt_rate(&self) -> f64 {
        rate(self.prompt_tokens, self.prompt_time)
    }

    /// Generated tokens per second after the first; 0 before a second.
    pub fn decode_rate(&self) -> f64 {
        rate(self.generated_tokens.saturating_sub(1), self.decode_time)
    }
}

fn rate(count: usize, time: Duration) -> f64 {
    if time.is_zero() {
        0.0
    } else {
        count as f64 / time.as_secs_f64()
    }
}

/// Tokens that are begun before the first of them is known, on backends that can do that: while the host reads one answer
/// and records the next forward pass, the device has one to run and one in reserve.
const IN_FLIGHT: usize = 3;

/// An iterator over the pieces of a generated text. Each piece is whole characters; pieces may be of several tokens.
///
/// An error ends it, after the text of all tokens that were generated before. If there were none, the [`Session`] is then as if
/// the generation had not begun; otherwise it holds the prompt and these tokens. The same goes for a cancelled generation.
///
/// On a GPU in a browser the answers must be awaited: by [`next_piece`](Self::next_piece).
pub struct Generation<'s> {
    session: &'s mut Session,
    sampler: Sampler,
    detokenizer: Detokenizer,
    stop: StopStrings,
    options: GenerateOptions,
    timings: Timings,
    reason: Option<StopReason>,
    failed: bool,
    /// The error that it ended by, until it is given out.
    failure: Option<Error>,
    ready: VecDeque<String>,
    /// The session as it was, until the first token is chosen.
    before: Option<Before>,
    /// What follows the prompt, until the first token is chosen.
    prompt_answer: Option<Output>,
    first_token: Option<Instant>,
    drafter: Drafter,
    /// Tokens that were chosen and are not part of the text yet.
    ahead: VecDeque<u32>,
    /// Whether tokens run before they are known.
    supports_lookahead: bool,
    /// Answers that were begun and are not here yet, in their order.
    in_flight: VecDeque<Pending<Output>>,
    /// When the first of them was begun, and the draft that it is about.
    begun: Option<(Instant, Vec<u32>)>,
    /// Positions that are known to have run.
    confirmed: usize,
}

impl<'s> Generation<'s> {
    /// What follows `tokens` behind the first `shared` of the session.
    pub(crate) fn new(
        session: &'s mut Session,
        shared: usize,
        tokens: &[u32],
        options: &GenerateOptions,
    ) -> Result<Self> {
        let sampling = options.sampling;
        let sampler = Sampler::new(sampling)?;
        let stop = StopStrings::new(&options.stop)?;
        // The last thing that can be refused: before it the session does not change.
        let before = session.replace(shared, tokens)?;
        let mut detokenizer = session.model().tokenizer().detokenizer();
        if session.tokens().len() > 1 {
            detokenizer = detokenizer.continuing();
        }
        let drafts = match options.speculation {
            // Where tokens run ahead, each is cheaper than a draft that may be wrong.
            Speculation::Auto => sampling.is_greedy() && !session.supports_lookahead(),
            Speculation::Off => false,
            Speculation::Ngram => true,
        };
        Ok(Self {
            // The device takes the likeliest, and knows of no penalty.
            supports_lookahead: session.supports_lookahead()
                && !drafts
                && sampling.is_greedy()
                && !sampling.has_penalty(),
            in_flight: VecDeque::new(),
            begun: None,
            confirmed: session.tokens().len() - session.pending(),
            sampler,
            stop,
            detokenizer,
            session,
            options: options.clone(),
            timings: Timings::default(),
            reason: None,
            failed: false,
            failure: None,
            ready: VecDeque::new(),
            before: Some(before),
            prompt_answer: None,
            first_token: None,
            drafter: Drafter::new(drafts),
            ahead: VecDeque::new(),
        })
    }

    /// Runs the prompt, telling `progress` the tokens done and their number. Without this call the first piece
    /// runs it.
    ///
    /// # Errors
    /// If the backend fails; the generation has then ended, and the session is as before it.
    pub fn prefill(&mut self, progress: impl FnMut(usize, usize)) -> Result<()> {
        let outcome = now(self.prefill_async(progress));
        if outcome.is_err() {
            self.fail();
        }
        outcome
    }

    /// [`prefill`](Self::prefill) for browsers, where a GPU's answer must be awaited.
    ///
    /// # Errors
    /// As [`prefill`](Self::prefill).
    pub async fn prefill_async(&mut self, progress: impl FnMut(usize, usize)) -> Result<()> {
        let outcome = self.run_prompt(progress).await;
        if outcome.is_err() {
            self.fail();
        }
        outcome
    }

    async fn run_prompt(&mut self, mut progress: impl FnMut(usize, usize)) -> Result<()> {
        if self.prompt_answer.is_some() || self.first_token.is_some() || self.ended() {
            return Ok(());
        }
        if self.in_flight.is_empty() {
            self.timings.prompt_tokens = self.session.pending();
            let cancel = self.options.cancel.clone();
            let begun = self.begin(&mut |done, total| {
                progress(done, total);
                !cancel.is_cancelled()
            });
            match begun {
                Err(Error::Cancelled) => {
                    self.timings.prompt_tokens = 0;
                    self.end(StopReason::Cancelled);
                    return Ok(());
                }
                begun => begun?,
            }
        }
        let (answer, time, _) = self.first_in_flight().await?;
        self.prompt_answer = Some(answer);
        self.timings.prompt_time = time;
        Ok(())
    }

    /// The next piece, as the iterator gives it, for browsers, where a GPU's answer must be awaited. The future can be dropped
    /// before it is done: another one goes on from there.
    pub async fn next_piece(&mut self) -> Option<Result<String>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(Ok(piece));
            }
            if let Some(error) = self.failure.take() {
                return Some(Err(error));
            }
            if self.ended() {
                return None;
            }
            if let Err(error) = self.step().await {
                self.failure = Some(error);
                self.fail();
            }
        }
    }

    /// What it took so far.
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// Why it ended; `None` while it runs, or after an error.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.reason
    }

    /// The session it belongs to.
    pub fn session(&self) -> &Session {
        self.session
    }

    /// Whether no more tokens come.
    fn ended(&self) -> bool {
        self.reason.is_some() || self.failed
    }

    /// Begins to run the tokens that have yet to run; asks for as much as the sampler needs.
    fn begin(&mut self, progress: &mut dyn FnMut(usize, usize) -> bool) -> Result<()> {
        let outputs = match self.sampler.top(self.session.tokens()) {
            Some(top) => OutputRequest::Top { rows: 1, top },
            None => OutputRequest::Logits { rows: 1 },
        };
        let start = Instant::now();
        let pending = self.session.begin_pending(progress, outputs)?;
        self.in_flight.push_back(pending);
        self.begun = Some((start, Vec::new()));
        Ok(())
    }

    /// The answer that was begun first, the time since then, and the draft that it is about.
    async fn first_in_flight(&mut self) -> Result<(Output, Duration, Vec<u32>)> {
        let answer = match self.in_flight.front_mut() {
            Some(first) => first.await,
            // Nothing was begun: as where nothing could follow.
            None => Ok(Output::Nothing),
        };
        self.in_flight.pop_front();
        let answer = answer?;
        self.confirmed = self.session.tokens().len();
        Ok(match self.begun.take() {
            Some((start, draft)) => (answer, start.elapsed(), draft),
            None => (answer, Duration::ZERO, Vec::new()),
        })
    }

    /// One more token, its text into `ready`.
    async fn step(&mut self) -> Result<()> {
        if self.options.cancel.is_cancelled() {
            self.end(StopReason::Cancelled);
            return Ok(());
        }
        if self.timings.generated_tokens >= self.options.max_tokens {
            self.end(StopReason::MaxTokens);
            return Ok(());
        }
        if self.first_token.is_none() {
            self.run_prompt(|_, _| ()).await?;
            if self.reason.is_some() {
                return Ok(());
            }
        }
        let token = match self.prompt_answer.take() {
            Some(answer) => self.choose(&answer)?,
            None if self.session.is_full() => {
                self.end(StopReason::ContextFull);
                return Ok(());
            }
            None => match self.ahead.pop_front() {
                Some(token) => token,
                None => self.next_token().await?,
            },
        };
        self.before = None;
        self.timings.generated_tokens += 1;
        let first = *self.first_token.get_or_insert_with(Instant::now);
        self.timings.decode_time = first.elapsed();
        if self.options.stop_at_end && self.session.model().tokenizer().stops().contains(&token) {
            self.end(StopReason::EndToken(token));
            return Ok(());
        }
        if self.session.is_full() {
            self.end(StopReason::ContextFull);
            return Ok(());
        }
        self.session.push_generated(token);
        let text = self.detokenizer.push(token);
        self.emit(&text);
        Ok(())
    }

    /// The token that the sampler takes.
    fn choose(&mut self, output: &Output) -> Result<u32> {
        let recent = self.session.tokens();
        match output {
            Output::Logits(logits) => self.sampler.sample(logits, recent),
            Output::Top(rows) => {
                let candidates = rows.last().map_or(&[][..], Vec::as_slice);
                self.sampler.sample_top(candidates, recent)
            }
            // Nothing was requested: as where nothing could follow.
            Output::Nothing => self.sampler.sample(&[], recent),
        }
    }

    /// Runs the last token, and a draft of what may follow it; what was right of that goes into `ahead`.
    async fn next_token(&mut self) -> Result<u32> {
        if self.supports_lookahead {
            self.fill_flight()?;
        } else if self.in_flight.is_empty() {
            self.begin_next()?;
        }
        let (answer, time, draft) = self.first_in_flight().await?;
        if !draft.is_empty() {
            return self.accept(&draft, &answer.into_logits(), time);
        }
        let token = self.choose(&answer)?;
        self.drafter.took(time);
        Ok(token)
    }

    /// Begins to run the last token, and a draft if there is one.
    fn begin_next(&mut self) -> Result<()> {
        let tokens = self.session.tokens();
        let room = self.session.model().context() - tokens.len();
        let wanted = self.options.max_tokens - self.timings.generated_tokens;
        // The token after the draft comes for nothing.
        let draft = self.drafter.draft(tokens, room.min(wanted) - 1);
        if draft.is_empty() {
            return self.begin(&mut |_, _| true);
        }
        let start = Instant::now();
        self.in_flight.push_back(self.session.begin_draft(&draft)?);
        self.begun = Some((start, draft));
        Ok(())
    }

    /// Begins to run tokens that are not known yet, as many as can become part of the text.
    fn fill_flight(&mut self) -> Result<()> {
        let wanted = self.options.max_tokens - self.timings.generated_tokens;
        while self.in_flight.len() < wanted.min(IN_FLIGHT) && self.session.has_room_ahead() {
            self.in_flight.push_back(self.session.enqueue_next()?);
        }
        Ok(())
    }

    /// Samples what follows the last token and each token of `draft`, until a sample differs from it; `logits` has rows for
    /// all of these.
    fn accept(&mut self, draft: &[u32], logits: &[f32], time: Duration) -> Result<u32> {
        let vocabulary = self.session.model().vocabulary().max(1);
        let rows = logits.len() / vocabulary;
        let mut rows = logits
            .chunks_exact(vocabulary)
            .skip(rows.saturating_sub(draft.len() + 1));
        let mut tokens = self.session.tokens().to_vec();
        let first = self.sampler.sample(rows.next().unwrap_or(&[]), &tokens)?;
        let mut last = first;
        for (draft, logits) in draft.iter().zip(rows) {
            if last != *draft {
                break;
            }
            tokens.push(last);
            last = self.sampler.sample(logits, &tokens)?;
            self.ahead.push_back(last);
        }
        self.session.commit_draft(self.ahead.len());
        self.timings.drafted_tokens += draft.len();
        self.timings.accepted_tokens += self.ahead.len();
        self.drafter.brought(1 + self.ahead.len(), time);
        Ok(first)
    }

    /// Ends by an error, of which the session shows nothing.
    fn fail(&mut self) {
        if std::mem::replace(&mut self.failed, true) {
            return;
        }
        self.in_flight.clear();
        self.release();
        self.reason = None;
        match self.before.take() {
            Some(before) => self.session.put_back(before),
            // The last token runs when the next one is wanted, as after every token.
            None => self
                .session
                .roll_back(self.confirmed.min(self.session.tokens().len() - 1)),
        }
    }

    fn emit(&mut self, text: &str) {
        let text = self.stop.push(text);
        if !text.is_empty() {
            self.ready.push_back(text);
        }
        if self.stop.stopped() {
            self.in_flight.clear();
            self.reason = Some(StopReason::StopString);
        }
    }

    /// Ends with what is still held back.
    fn end(&mut self, reason: StopReason) {
        self.in_flight.clear();
        self.release();
        self.reason.get_or_insert(reason);
        if let Some(before) = self.before.take_if(|_| reason == StopReason::Cancelled) {
            self.session.put_back(before);
        }
    }

    /// Gives out the text that is held back.
    fn release(&mut self) {
        let rest = self.detokenizer.finish();
        self.emit(&rest);
        if self.reason.is_none() {
            let held = self.stop.finish();
            if !held.is_empty() {
                self.ready.push_back(held);
            }
        }
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        match now(async { Ok(self.next_piece().await) }) {
            Ok(next) => next,
            Err(error) => {
                self.fail();
                self.failure = Some(error);
                let held = self.ready.pop_front().map(Ok);
                held.or_else(|| self.failure.take().map(Err))
            }
        }
    }
}
