//! Text from a session, piece by piece.

use crate::cancel::Cancel;
use crate::decoder::{Chosen, Decoder, Extras, Piece};
use crate::hook::LogitsHook;
use crate::sampler::SamplingOptions;
use crate::session::{Before, Session};
use crate::speculate::Speculation;
use crate::{Error, Result};
use bitnet_core::pending::now;
use bitnet_core::{Output, Pending};
use std::borrow::BorrowMut;
use std::collections::VecDeque;
use std::time::Duration;
// The standard library has no clock for wasm32; elsewhere this is the standard one.
use web_time::Instant;

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
    /// When the generation ends, whatever it has by then.
    pub deadline: Option<Instant>,
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
            deadline: None,
        }
    }
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The model chose this end token.
    EndToken(u32),
    /// A stop string appeared: the one at this place in [`GenerateOptions::stop`].
    StopString(usize),
    /// `max_tokens` were generated.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// [`Cancel::cancel`] was called.
    Cancelled,
    /// [`GenerateOptions::deadline`] passed.
    Deadline,
}

impl StopReason {
    /// The name that programs read: `end`, `stop`, `length`, `context`, `cancelled` or `deadline`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EndToken(_) => "end",
            Self::StopString(_) => "stop",
            Self::MaxTokens => "length",
            Self::ContextFull => "context",
            Self::Cancelled => "cancelled",
            Self::Deadline => "deadline",
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
/// `S` is the session that it runs in: borrowed ([`Session::generate`]), or owned ([`Session::into_generation`]), so that it can be
/// moved into a task.
///
/// An error ends it, after the text of all tokens that were generated before. If there were none, the [`Session`] is then as if
/// the generation had not begun; otherwise it holds the prompt and these tokens. The same goes for a cancelled generation.
///
/// On a GPU in a browser the answers must be awaited: by [`next_piece`](Self::next_piece).
pub struct Generation<S: BorrowMut<Session> = Session> {
    session: S,
    decoder: Decoder,
    failed: bool,
    /// The error that it ended by, until it is given out.
    failure: Option<Error>,
    /// The session as it was, until the first token is chosen.
    before: Option<Before>,
    /// What follows the prompt, until the first token is chosen.
    prompt_answer: Option<Output>,
    /// Whether tokens run before they are known.
    supports_lookahead: bool,
    /// Answers that were begun and are not here yet, in their order.
    in_flight: VecDeque<Pending<Output>>,
    /// When the first of them was begun, and the draft that it is about.
    begun: Option<(Instant, Vec<u32>)>,
    /// Positions that are known to have run.
    confirmed: usize,
}

impl<S: BorrowMut<Session>> Generation<S> {
    /// The text after `tokens` behind the first `shared` of the session; after an error the session is given back.
    pub(crate) fn new(
        mut session: S,
        shared: usize,
        tokens: &[u32],
        options: &GenerateOptions,
        hook: Option<Box<dyn LogitsHook>>,
    ) -> Result<Self, (S, Error)> {
        let inner: &mut Session = session.borrow_mut();
        let lookahead = inner.supports_lookahead();
        let total = shared + tokens.len();
        let extras = Extras {
            logprobs: None,
            hook,
        };
        let decoder = Decoder::new(inner.model(), total, options, extras, lookahead);
        // The last thing that can be refused: before it the session does not change.
        let begun = decoder.and_then(|decoder| Ok((decoder, inner.replace(shared, tokens)?)));
        let (decoder, before) = match begun {
            Ok(begun) => begun,
            Err(error) => return Err((session, error)),
        };
        Ok(Self {
            confirmed: inner.tokens().len() - inner.pending(),
            // The device takes the likeliest, and knows of nothing else.
            supports_lookahead: lookahead && !decoder.drafts() && decoder.is_plain_argmax(),
            session,
            decoder,
            in_flight: VecDeque::new(),
            begun: None,
            failed: false,
            failure: None,
            before: Some(before),
            prompt_answer: None,
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
        if self.prompt_answer.is_some() || self.decoder.has_begun() || self.ended() {
            return Ok(());
        }
        if self.in_flight.is_empty() {
            self.decoder.timings_mut().prompt_tokens = self.session().pending();
            let options = self.decoder.options();
            let (cancel, deadline) = (options.cancel.clone(), options.deadline);
            let begun = self.begin(&mut |done, total| {
                progress(done, total);
                !cancel.is_cancelled() && deadline.is_none_or(|at| Instant::now() < at)
            });
            match begun {
                Err(Error::Cancelled) => {
                    self.decoder.timings_mut().prompt_tokens = 0;
                    self.decoder.check_limits();
                    self.wind_up();
                    return Ok(());
                }
                begun => begun?,
            }
        }
        let (answer, time, _) = self.first_in_flight().await?;
        self.prompt_answer = Some(answer);
        self.decoder.timings_mut().prompt_time = time;
        Ok(())
    }

    /// Reports with each piece how likely its token was ([`Piece::logprobs`]), and the `alternatives` likeliest; for
    /// [`next_token`](Self::next_token). Before the prompt is run.
    pub fn report_logprobs(&mut self, alternatives: usize) {
        self.decoder.report_logprobs(alternatives);
        // All logits are wanted, which no device takes the likeliest of.
        self.supports_lookahead = false;
    }

    /// The next piece, as the iterator gives it, for browsers, where a GPU's answer must be awaited. The future can be dropped
    /// before it is done: another one goes on from there.
    pub async fn next_piece(&mut self) -> Option<Result<String>> {
        loop {
            match self.next_token().await? {
                Ok(Piece { text, .. }) if text.is_empty() => {}
                next => return Some(next.map(|piece| piece.text)),
            }
        }
    }

    /// [`next_piece`](Self::next_piece) with its token, also where that completes no text.
    pub async fn next_token(&mut self) -> Option<Result<Piece>> {
        loop {
            if let Some(piece) = self.decoder.next_ready() {
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

    /// The text of the next piece that has any.
    fn next_text(&mut self) -> Option<String> {
        loop {
            let Piece { text, .. } = self.decoder.next_ready()?;
            if !text.is_empty() {
                return Some(text);
            }
        }
    }

    /// What it took so far.
    pub fn timings(&self) -> Timings {
        self.decoder.timings()
    }

    /// Why it ended; `None` while it runs, or after an error.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.decoder.reason()
    }

    /// The session it belongs to.
    pub fn session(&self) -> &Session {
        self.session.borrow()
    }

    /// The session, with the prompt and the text so far.
    pub fn into_session(self) -> S {
        self.session
    }

    fn session_mut(&mut self) -> &mut Session {
        self.session.borrow_mut()
    }

    /// Whether no more tokens come.
    fn ended(&self) -> bool {
        self.decoder.reason().is_some() || self.failed
    }

    /// Begins to run the tokens that have yet to run; asks for as much as the sampler needs.
    fn begin(&mut self, progress: &mut dyn FnMut(usize, usize) -> bool) -> Result<()> {
        let session: &mut Session = self.session.borrow_mut();
        let outputs = self.decoder.request(session.tokens())?;
        let start = Instant::now();
        let pending = session.begin_pending(progress, outputs)?;
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
        self.confirmed = self.session().tokens().len();
        Ok(match self.begun.take() {
            Some((start, draft)) => (answer, start.elapsed(), draft),
            None => (answer, Duration::ZERO, Vec::new()),
        })
    }

    /// One more token, its text into what is ready.
    async fn step(&mut self) -> Result<()> {
        if self.decoder.check_limits() {
            self.wind_up();
            return Ok(());
        }
        if !self.decoder.has_begun() {
            self.run_prompt(|_, _| ()).await?;
            if self.ended() {
                return Ok(());
            }
        }
        let session: &Session = self.session.borrow();
        let chosen = match self.prompt_answer.take() {
            Some(answer) => self.decoder.choose(&answer, session.tokens())?,
            None if session.is_full() => {
                self.decoder.end(StopReason::ContextFull);
                self.wind_up();
                return Ok(());
            }
            None => match self.decoder.next_ahead() {
                Some(chosen) => chosen,
                None => self.run_next().await?,
            },
        };
        self.before = None;
        let (id, full) = (chosen.id, self.session().is_full());
        if self.decoder.take(chosen, full) {
            self.session_mut().push_generated(id);
        }
        if self.ended() {
            self.wind_up();
        }
        Ok(())
    }

    /// Runs the last token, and a draft of what may follow it.
    async fn run_next(&mut self) -> Result<Chosen> {
        if self.supports_lookahead {
            self.fill_flight()?;
        } else if self.in_flight.is_empty() {
            self.begin_next()?;
        }
        let (answer, time, draft) = self.first_in_flight().await?;
        let session: &mut Session = self.session.borrow_mut();
        if !draft.is_empty() {
            let logits = answer.into_logits();
            let tokens = session.tokens();
            let first = self.decoder.accept(&draft, &logits, tokens, time)?;
            session.commit_draft(self.decoder.ahead());
            return Ok(first);
        }
        let chosen = self.decoder.choose(&answer, session.tokens())?;
        self.decoder.took(time);
        Ok(chosen)
    }

    /// Begins to run the last token, and a draft if there is one.
    fn begin_next(&mut self) -> Result<()> {
        let session: &Session = self.session.borrow();
        let room = session.model().context() - session.tokens().len();
        let draft = self.decoder.draft(session.tokens(), room);
        if draft.is_empty() {
            return self.begin(&mut |_, _| true);
        }
        let start = Instant::now();
        let pending = self.session_mut().begin_draft(&draft)?;
        self.in_flight.push_back(pending);
        self.begun = Some((start, draft));
        Ok(())
    }

    /// Begins to run tokens that are not known yet, as many as can become part of the text.
    fn fill_flight(&mut self) -> Result<()> {
        let wanted = self.decoder.wanted();
        while self.in_flight.len() < wanted.min(IN_FLIGHT) && self.session().has_room_ahead() {
            let pending = self.session_mut().enqueue_next()?;
            self.in_flight.push_back(pending);
        }
        Ok(())
    }

    /// Ends by an error, of which the session shows nothing.
    fn fail(&mut self) {
        if std::mem::replace(&mut self.failed, true) {
            return;
        }
        self.in_flight.clear();
        self.decoder.fail();
        let confirmed = self.confirmed;
        let before = self.before.take();
        let session = self.session_mut();
        match before {
            Some(before) => session.put_back(before),
            // The last token runs when the next one is wanted, as after every token.
            None => session.roll_back(confirmed.min(session.tokens().len() - 1)),
        }
    }

    /// After the end: nothing more is waited for, and a prompt to which nothing was added goes if it was cut short.
    fn wind_up(&mut self) {
        self.in_flight.clear();
        let cut_short = matches!(
            self.decoder.reason(),
            Some(StopReason::Cancelled | StopReason::Deadline)
        );
        if let Some(before) = self.before.take_if(|_| cut_short) {
            self.session_mut().put_back(before);
        }
    }
}

impl<S: BorrowMut<Session>> Iterator for Generation<S> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        match now(async { Ok(self.next_piece().await) }) {
            Ok(next) => next,
            Err(error) => {
                self.fail();
                self.failure = Some(error);
                let held = self.next_text().map(Ok);
                held.or_else(|| self.failure.take().map(Err))
            }
        }
    }
}
