//! One text in an engine: its tokens, its state while it runs, and where its pieces go.

use super::prefix::Place;
use super::request::Request;
use super::stream::{Event, Finish, TokenStream};
use crate::decoder::{Chosen, Decoder, Extras};
use crate::generate::StopReason;
use crate::model::{DynSequence, Model};
use crate::prompt::check_not_empty;
use crate::{Error, Result};
use async_channel::Sender;
use bitnet_core::Output;
use std::cmp::Reverse;
use std::time::Duration;
// The standard library has no clock for wasm32; elsewhere this is the standard one.
use web_time::Instant;

/// One text in an engine.
pub(super) struct Sequence {
    /// Prompt and text so far. Those that the state does not have have yet to run.
    pub(super) tokens: Vec<u32>,
    pub(super) decoder: Decoder,
    /// None while it waits.
    pub(super) state: Option<Box<dyn DynSequence>>,
    pub(super) place: Place,
    /// The tokens of the next step: some that have yet to run, or the last one and a draft.
    pub(super) input: Vec<u32>,
    /// How many of them are a draft.
    pub(super) draft: usize,
    /// Positions that it may have.
    pub(super) capacity: usize,
    priority: i32,
    arrival: u64,
    prompt_tokens: usize,
    cached_tokens: usize,
    submitted: Instant,
    started: Option<Instant>,
    events: Sender<Event>,
    /// Whether it has ended.
    finished: bool,
    /// Its end, which is told when this is dropped.
    end: Option<Result<Finish>>,
}

impl Sequence {
    /// A text that waits, and the stream that it will be told to.
    ///
    /// # Errors
    /// If the prompt cannot be written in tokens, is empty or does not fit the context, or an option is out of range.
    pub(super) fn new(model: &Model, request: Request) -> Result<(Self, TokenStream)> {
        let Request {
            prompt,
            options,
            logprobs,
            hook,
            priority,
        } = request;
        let tokens = model.prompt_tokens(&prompt, &options)?;
        model.check_tokens(&tokens)?;
        check_not_empty(tokens.len())?;
        let capacity = model.context();
        if tokens.len() > capacity {
            return Err(Error::ContextFull {
                capacity,
                used: 0,
                wanted: tokens.len(),
            });
        }
        let extras = Extras { logprobs, hook };
        let lookahead = model.run().supports_lookahead();
        let decoder = Decoder::new(model, tokens.len(), &options, extras, lookahead)?;
        let (events, receiver) = async_channel::unbounded();
        let sequence = Self {
            prompt_tokens: tokens.len(),
            tokens,
            decoder,
            state: None,
            place: Place::default(),
            input: Vec::new(),
            draft: 0,
            capacity,
            priority,
            arrival: 0,
            cached_tokens: 0,
            submitted: Instant::now(),
            started: None,
            events,
            finished: false,
            end: None,
        };
        Ok((sequence, TokenStream::new(receiver)))
    }

    /// The place in the order of arrival.
    pub(super) fn set_arrival(&mut self, arrival: u64) {
        self.arrival = arrival;
    }

    /// The place in the order of arrival, which no other text has.
    pub(super) fn arrival(&self) -> u64 {
        self.arrival
    }

    /// Whether its next token can run before this one is known: all that it has runs already, another token is wanted, and nothing
    /// but the likeliest is chosen.
    pub(super) fn can_run_ahead(&self) -> bool {
        let ran = self.state.as_ref().map_or(0, |state| state.len());
        ran == self.tokens.len()
            && ran < self.capacity
            && self.draft == 0
            && self.decoder.wanted() >= 2
            && self.decoder.is_plain_argmax()
            && !self.decoder.drafts()
    }

    /// Smaller for texts that run first and make room last.
    pub(super) fn rank(&self) -> (Reverse<i32>, u64) {
        (Reverse(self.priority), self.arrival)
    }

    /// Tokens that have run.
    pub(super) fn positions(&self) -> usize {
        let ran = self.state.as_ref().map_or(0, |state| state.len());
        ran.min(self.tokens.len())
    }

    /// Tokens that have yet to run.
    pub(super) fn pending(&self) -> usize {
        self.tokens.len() - self.positions()
    }

    /// Whether the next step gives it another token: only the last one has yet to run.
    pub(super) fn is_writing(&self) -> bool {
        self.pending() == 1
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether nobody listens any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    /// Notes that it begins to run, `cached` of its tokens being there already.
    pub(super) fn start(&mut self, cached: usize) {
        if self.started.is_none() {
            self.started = Some(Instant::now());
            self.cached_tokens = cached;
            self.decoder.timings_mut().prompt_tokens = self.prompt_tokens - cached;
        }
    }

    /// Makes the input of the next step shorter: without its draft, or half of it. Returns whether it was long enough for that.
    pub(super) fn shorten(&mut self) -> bool {
        let own = self.input.len() - self.draft;
        let shorter = if self.draft > 0 { own } else { own / 2 };
        if shorter == 0 {
            return false;
        }
        self.input.truncate(shorter);
        self.draft = 0;
        true
    }

    /// Takes what a step gave; it took `time`.
    ///
    /// # Errors
    /// If no token can follow; those of a hook.
    pub(super) fn absorb(&mut self, output: Output, time: Duration) -> Result<()> {
        if self.pending() > 0 {
            // The prompt goes on.
            return Ok(());
        }
        let draft = self.input.split_off(self.input.len() - self.draft);
        let chosen = if draft.is_empty() {
            let chosen = self.decoder.choose(&output, &self.tokens)?;
            if self.decoder.has_begun() {
                self.decoder.took(time);
            }
            chosen
        } else {
            let logits = output.into_logits();
            let chosen = self.decoder.accept(&draft, &logits, &self.tokens, time)?;
            if let Some(state) = &mut self.state {
                state.truncate(self.tokens.len() + self.decoder.ahead());
            }
            chosen
        };
        if !self.decoder.has_begun()
            && let Some(started) = self.started
        {
            self.decoder.timings_mut().prompt_time = started.elapsed();
        }
        self.take(chosen);
        while self.decoder.reason().is_none()
            && let Some(chosen) = self.decoder.next_ahead()
        {
            self.take(chosen);
        }
        self.tell();
        Ok(())
    }

    fn take(&mut self, chosen: Chosen) {
        let id = chosen.id;
        if self
            .decoder
            .take(chosen, self.tokens.len() >= self.capacity)
        {
            self.tokens.push(id);
        }
    }

    /// Tells the pieces that are ready, and notes the end if it has come.
    pub(super) fn tell(&mut self) {
        while let Some(piece) = self.decoder.next_ready() {
            // A stream that was dropped is noticed before the next step.
            let _ = self.events.try_send(Event::Piece(piece));
        }
        if let Some(reason) = self.decoder.reason() {
            self.close(Ok(self.finish(reason)));
        }
    }

    /// Ends it by an error.
    pub(super) fn fail(&mut self, error: Error) {
        self.decoder.fail();
        while let Some(piece) = self.decoder.next_ready() {
            let _ = self.events.try_send(Event::Piece(piece));
        }
        self.close(Err(error));
    }

    fn close(&mut self, end: Result<Finish>) {
        if !std::mem::replace(&mut self.finished, true) {
            self.end = Some(end);
        }
    }

    fn finish(&self, reason: StopReason) -> Finish {
        let started = self.started.unwrap_or_else(Instant::now);
        Finish {
            reason,
            timings: self.decoder.timings(),
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached_tokens,
            queued: started - self.submitted,
        }
    }
}

impl Drop for Sequence {
    /// Tells the end: who hears of it finds the room that the text had.
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            let _ = self.events.try_send(Event::End(end));
        }
    }
}
