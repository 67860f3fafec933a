//! Runs texts together, one step at a time.

use super::BLOCK;
use super::ahead::Ahead;
use super::budget::share;
use super::gauges::Gauges;
use super::options::EngineOptions;
use super::prefix::{Place, PrefixIndex};
use super::request::Request;
use super::room::Room;
use super::sequence::Sequence;
use super::stream::TokenStream;
use crate::generate::StopReason;
use crate::model::{Model, Part};
use crate::{BackendError, Error, Result};
use bitnet_core::pending::now;
use bitnet_core::{Input, Output, OutputRequest};
use std::collections::VecDeque;
use std::time::Duration;
// The standard library has no clock for wasm32; elsewhere this is the standard one.
use web_time::Instant;

/// The most texts being written among which drafts are tried: the more run together, the more a wrong draft costs.
const DRAFTING: usize = 4;

/// After so many steps without want of memory, room for another block is tried.
const PATIENCE: u64 = 16;

/// Runs texts together, one step at a time, on the thread that calls it.
pub struct Batcher {
    pub(super) model: Model,
    pub(super) options: EngineOptions,
    /// By rank.
    pub(super) waiting: VecDeque<Sequence>,
    /// By rank.
    pub(super) running: Vec<Sequence>,
    /// The step after the last one, if it has begun.
    pub(super) ahead: Option<Ahead>,
    /// Texts whose ends are yet to be told.
    ended: Vec<Sequence>,
    index: PrefixIndex,
    pub(super) room: Room,
    arrivals: u64,
    pub(super) gauges: Gauges,
}

impl Batcher {
    /// A batcher without requests.
    ///
    /// # Errors
    /// If an option is 0, or the memory for keys and values is too small for two blocks of them, by the options or by
    /// the model's [`memory_limit`](crate::ModelOptions::memory_limit).
    pub fn new(model: &Model, options: EngineOptions) -> Result<Self> {
        options.validate()?;
        model.check_generates()?;
        let room = Room::new(model, &options)?;
        Ok(Self {
            gauges: Gauges {
                kv_budget_bytes: room.budget(),
                kv_block_bytes: room.block(),
                ..Gauges::default()
            },
            model: model.clone(),
            options,
            waiting: VecDeque::new(),
            running: Vec::new(),
            ahead: None,
            ended: Vec::new(),
            index: PrefixIndex::default(),
            room,
            arrivals: 0,
        })
    }

    /// Takes a request, which runs in the steps to come.
    ///
    /// # Errors
    /// If the prompt cannot be written in tokens, is empty or does not fit, an option is out of range, or too many requests
    /// wait.
    pub fn submit(&mut self, request: Request) -> Result<TokenStream> {
        let (sequence, stream) = Sequence::new(&self.model, request)?;
        self.check(&sequence)?;
        self.enqueue(sequence);
        Ok(stream)
    }

    /// Refuses a text for which there will be no room.
    pub(super) fn check(&mut self, sequence: &Sequence) -> Result<()> {
        let is_full = |batcher: &Self| {
            let texts = batcher.waiting.len() + batcher.running.len();
            texts >= batcher.options.most_texts()
        };
        // It may be full of texts that nobody waits for any more.
        if is_full(self) {
            self.retire();
        }
        if is_full(self) {
            return Err(Error::Overloaded {
                waiting: self.waiting.len(),
            });
        }
        let capacity = self.room.positions();
        if sequence.tokens.len() >= capacity {
            return Err(Error::ContextFull {
                capacity,
                used: 0,
                wanted: sequence.tokens.len(),
            });
        }
        Ok(())
    }

    /// Lets a text wait for its turn.
    pub(super) fn enqueue(&mut self, mut sequence: Sequence) {
        sequence.capacity = sequence.capacity.min(self.room.positions());
        sequence.set_arrival(self.arrivals);
        self.arrivals += 1;
        self.wait(sequence);
        self.update_gauges();
    }

    /// Runs one batch, if there is anything to run. Returns whether there is more to do.
    pub fn step(&mut self) -> bool {
        let more = self.step_silently();
        self.tell_ends();
        more
    }

    /// [`step`](Self::step) without telling who has ended, so that their room can be made known first.
    pub(super) fn step_silently(&mut self) -> bool {
        match now(async { Ok::<_, bitnet_core::Error>(self.advance().await) }) {
            Ok(more) => more,
            Err(error) => {
                // The device answers later, and nobody awaits it here.
                for sequence in &mut self.running {
                    sequence.fail(Error::Argument {
                        what: "step",
                        expected: "to be awaited on this device: step_async".into(),
                        found: error.to_string(),
                    });
                }
                self.retire();
                !self.is_idle()
            }
        }
    }

    /// [`step`](Self::step) for browsers, where a GPU's answer must be awaited.
    pub async fn step_async(&mut self) -> bool {
        let more = self.advance().await;
        self.tell_ends();
        more
    }

    async fn advance(&mut self) -> bool {
        self.retire();
        if self.absorb_ahead().await {
            self.retire();
            return !self.is_idle();
        }
        self.admit();
        let planned = self.plan();
        if !planned.is_empty() {
            self.gauges.step(planned.len());
            let spans = self.model.run().max_spans().max(1);
            for together in planned.chunks(spans) {
                self.run(together).await;
            }
            self.extend_index(&planned);
        }
        self.retire();
        self.put_back_starved();
        !self.is_idle()
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Ends all texts.
    pub fn abort(&mut self) {
        self.abort_silently();
        self.tell_ends();
    }

    /// [`abort`](Self::abort) without telling it.
    pub(super) fn abort_silently(&mut self) {
        for sequence in self.waiting.iter_mut().chain(&mut self.running) {
            sequence.decoder.end(StopReason::Cancelled);
            sequence.tell();
        }
        self.retire();
    }

    /// Tells the ends of texts that have ended.
    pub(super) fn tell_ends(&mut self) {
        self.ended.clear();
    }

    /// Lets the keys and values go that no running text holds.
    pub fn clear_prefixes(&mut self) {
        while self.index.evict() {}
        self.update_gauges();
    }

    /// Counts of the texts that run and wait, of bytes, and of the work so far.
    pub fn gauges(&self) -> Gauges {
        self.gauges
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    fn wait(&mut self, sequence: Sequence) {
        let place = self
            .waiting
            .partition_point(|other| other.rank() < sequence.rank());
        self.waiting.insert(place, sequence);
    }

    /// Ends texts that were cancelled, are too late, or have nobody who listens; removes those that have ended.
    fn retire(&mut self) {
        for sequence in self.waiting.iter_mut().chain(&mut self.running) {
            if sequence.is_abandoned() {
                sequence.decoder.end(StopReason::Cancelled);
                sequence.tell();
            } else if !sequence.is_finished() && sequence.decoder.check_limits() {
                sequence.tell();
            }
        }
        let before = self.ended.len();
        let mut place = 0;
        while let Some(sequence) = self.waiting.get(place) {
            if sequence.is_finished() {
                self.ended.extend(self.waiting.remove(place));
            } else {
                place += 1;
            }
        }
        let mut index = std::mem::take(&mut self.index);
        let mut generated = 0;
        let ended = |sequence: &mut Sequence| {
            if sequence.is_finished() {
                index.release(std::mem::take(&mut sequence.place));
                sequence.state = None;
                generated += sequence.decoder.timings().generated_tokens as u64;
            }
            sequence.is_finished()
        };
        self.ended.extend(self.running.extract_if(.., ended));
        self.index = index;
        if self.running.is_empty() {
            self.ahead = None;
        }
        self.gauges.generated_tokens += generated;
        self.gauges.finished += (self.ended.len() - before) as u64;
        self.update_gauges();
    }

    fn update_gauges(&mut self) {
        let own = self.room.of_texts(&self.running);
        let idle = self.index.idle_bytes();
        self.gauges.running = self.running.len();
        self.gauges.waiting = self.waiting.len();
        self.gauges.kv_running_bytes = own + self.index.bytes() - idle;
        self.gauges.kv_cached_bytes = idle;
    }

    /// Whether there is room for `wanted` bytes beside those in use, of which `idle` could go.
    pub(super) fn has_room(&self, wanted: usize, idle: usize) -> bool {
        let used = self.room.of_texts(&self.running) + self.index.bytes() - idle;
        used + wanted <= self.room.budget_now(self.running.len())
    }

    /// Moves waiting texts to the running ones, as long as there is room. A text whose beginning another one is about to compute
    /// waits for that, and lets those behind it pass.
    fn admit(&mut self) {
        let mut place = 0;
        while self.running.len() < self.options.max_running
            && let Some(next) = self.waiting.get(place)
        {
            let cached = self.index.depth_of(&next.tokens[..next.tokens.len() - 1]);
            if self.is_being_read(next, cached) {
                place += 1;
                continue;
            }
            let needed = self.room.of(cached * BLOCK..next.tokens.len() + 1);
            // Every running text will want another block soon.
            let wanted = needed + self.running.len() * self.room.block();
            let idle = self.index.idle_bytes();
            if !self.running.is_empty() && !self.has_room(wanted, idle) {
                break;
            }
            if let Some(next) = self.waiting.remove(place) {
                self.begin(next);
            }
        }
    }

    /// Whether a running text is about to compute blocks that `next` begins with, beyond the `cached` ones.
    fn is_being_read(&self, next: &Sequence, cached: usize) -> bool {
        if !self.shares() {
            return false;
        }
        let own = &next.tokens[..next.tokens.len() - 1];
        self.running.iter().any(|other| {
            let most = own.len().min(other.tokens.len());
            let block = cached * BLOCK..(cached + 1) * BLOCK;
            block.end <= most
                && other.positions() < block.end
                && own[..block.end] == other.tokens[..block.end]
        })
    }

    /// Whether sequences share memory, and are to.
    fn shares(&self) -> bool {
        self.options.prefix_cache && self.model.run().shares_forks()
    }

    fn begin(&mut self, mut sequence: Sequence) {
        // What follows starts from the logits of the last token, which runs again.
        let known = &sequence.tokens[..sequence.tokens.len() - 1];
        let found = self.index.fork(known).and_then(|(state, place)| {
            let state = match state {
                Some(state) => state,
                None => self.model.start(self.model.context())?,
            };
            Ok((state, place))
        });
        match found {
            Ok((state, place)) => {
                let cached = state.len();
                sequence.state = Some(state);
                sequence.place = place;
                sequence.start(cached);
                self.gauges.cached_tokens += cached as u64;
                let at = self
                    .running
                    .partition_point(|other| other.rank() < sequence.rank());
                self.running.insert(at, sequence);
            }
            Err(error) => {
                sequence.fail(error);
                self.ended.push(sequence);
                self.gauges.finished += 1;
            }
        }
    }

    /// Decides which tokens of which running texts run next, and makes room for them. Returns their places.
    fn plan(&mut self) -> Vec<usize> {
        let writing = self.running.iter().filter(|s| s.is_writing()).count();
        let budget = if writing > 0 {
            self.options.mixed_step_tokens
        } else {
            self.options.step_tokens
        };
        let prompts: Vec<usize> = self.running.iter().map(Sequence::pending).collect();
        let prompts: Vec<usize> = prompts
            .into_iter()
            .map(|p| if p > 1 { p } else { 0 })
            .collect();
        let shares = share(budget, &prompts);
        for (sequence, share) in self.running.iter_mut().zip(shares) {
            let positions = sequence.positions();
            sequence.draft = 0;
            if sequence.is_writing() {
                let room = sequence.capacity - sequence.tokens.len();
                let draft = if writing <= DRAFTING && sequence.decoder.has_begun() {
                    sequence.decoder.draft(&sequence.tokens, room)
                } else {
                    Vec::new()
                };
                sequence.input = sequence.tokens[positions..].to_vec();
                sequence.draft = draft.len();
                sequence.input.extend(draft);
            } else {
                sequence.input = sequence.tokens[positions..positions + share].to_vec();
            }
        }
        // Bytes of the inputs so far, and the one at hand.
        let mut wanted = 0;
        let mut planned = 0;
        while planned < self.running.len() {
            let own = self.room.of_input(&self.running[planned]);
            wanted += own;
            self.evict_for(wanted);
            while !self.has_room(wanted, 0) && planned + 1 < self.running.len() {
                self.preempt();
                self.evict_for(wanted);
            }
            if !self.has_room(wanted, 0) {
                // It is the last that runs, and others before it have taken the room: it waits for a step.
                self.running[planned].input.clear();
                wanted -= own;
            }
            planned += 1;
        }
        let runs = self.running.iter().enumerate();
        runs.filter(|(_, sequence)| !sequence.input.is_empty())
            .map(|(place, _)| place)
            .collect()
    }

    /// Lets blocks go that no text uses, until there is room for `wanted` bytes or there are none; then those of texts that hold
    /// less of them than the index does.
    fn evict_for(&mut self, wanted: usize) {
        while !self.has_room(wanted, 0) && (self.index.evict() || self.detach()) {}
    }

    /// Takes a running text out of the index where that keeps more of it than the text itself: what windows have left, and states at
    /// earlier positions. Returns whether there was one.
    fn detach(&mut self) -> bool {
        let (room, index) = (&self.room, &mut self.index);
        let keeps_more = |text: &Sequence| {
            let len = text.state.as_ref().map_or(0, |state| state.len());
            let alone = room.of(0..len) - room.of_text(text, 0);
            index.bytes_up_to(&text.place) > alone
        };
        let Some(text) = self.running.iter().rposition(keeps_more) else {
            return false;
        };
        let place = std::mem::replace(&mut self.running[text].place, Place::closed());
        index.release(place);
        true
    }

    /// Takes its room from the running text that comes last; it runs again later.
    fn preempt(&mut self) {
        let Some(mut last) = self.running.pop() else {
            return;
        };
        self.index.release(std::mem::take(&mut last.place));
        last.state = None;
        self.gauges.preemptions += 1;
        self.wait(last);
    }

    /// Runs the inputs of some running texts together; if that fails, each alone.
    async fn run(&mut self, places: &[usize]) {
        let first = match self.forward(places).await {
            Ok(()) => {
                if self.gauges.steps.is_multiple_of(PATIENCE) {
                    self.room.try_more();
                }
                return;
            }
            Err(error) => error,
        };
        // No state has changed. Memory that nothing needs may be what is missing.
        while self.index.evict() {}
        tracing::debug!("{} texts together: {first}", places.len());
        for place in places {
            self.run_alone(*place).await;
        }
    }

    /// Runs the input of a running text, or as much of it as there is memory for.
    async fn run_alone(&mut self, place: usize) {
        while let Err(error) = self.forward(&[place]).await {
            let short = matches!(error, Error::Backend(BackendError::OutOfMemory { .. }));
            if short && self.running[place].shorten() {
                continue;
            }
            if short && self.others_hold_memory(place) {
                self.starve(place);
            } else {
                self.running[place].fail(error);
            }
            return;
        }
    }

    /// Whether running texts but the one at `place` have keys and values.
    fn others_hold_memory(&self, place: usize) -> bool {
        let mut others = self.running.iter().enumerate();
        others.any(|(other, sequence)| other != place && sequence.state.is_some())
    }

    /// Takes its room from a running text for which there is no memory beside the others; it runs again later.
    fn starve(&mut self, place: usize) {
        let sequence = &mut self.running[place];
        self.index.release(std::mem::take(&mut sequence.place));
        sequence.state = None;
        while self.index.evict() {}
        let held = self.room.of_texts(&self.running) + self.index.bytes();
        self.room.was_short(held);
        self.gauges.preemptions += 1;
    }

    /// Lets texts that found no memory wait again.
    fn put_back_starved(&mut self) {
        let starved = |sequence: &mut Sequence| sequence.state.is_none();
        let starved: Vec<Sequence> = self.running.extract_if(.., starved).collect();
        for sequence in starved {
            self.wait(sequence);
        }
    }

    /// Runs the inputs of some running texts together. After an error all are as before.
    async fn forward(&mut self, places: &[usize]) -> Result<()> {
        let begun = Instant::now();
        let mut lengths = Vec::with_capacity(places.len());
        let mut parts = Vec::with_capacity(places.len());
        let mut wanted = places.iter().copied().peekable();
        for (place, sequence) in self.running.iter_mut().enumerate() {
            if wanted.peek() != Some(&place) {
                continue;
            }
            wanted.next();
            let last = sequence.pending() <= sequence.input.len() - sequence.draft;
            let Sequence {
                tokens,
                decoder,
                state,
                input,
                draft,
                ..
            } = sequence;
            let Some(state) = state else {
                continue;
            };
            lengths.push(state.len());
            let rows = input.len();
            parts.push(Part {
                sequence: &mut **state,
                input: Input::Tokens(input),
                outputs: match (last, *draft) {
                    (false, _) => OutputRequest::Nothing,
                    (true, 0) => decoder.request(tokens)?,
                    (true, _) => OutputRequest::Logits { rows },
                },
            });
        }
        let outcome = match self.model.run().forward(parts) {
            Ok(pending) => {
                if places.len() == self.running.len() {
                    self.begin_ahead();
                }
                pending.await.map_err(Error::from)
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(outputs) => self.absorb(places, outputs, begun.elapsed()),
            Err(error) => {
                self.ahead = None;
                for (place, len) in places.iter().zip(lengths) {
                    if let Some(state) = &mut self.running[*place].state {
                        state.truncate(len);
                    }
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn absorb(&mut self, places: &[usize], outputs: Vec<Output>, time: Duration) {
        for (place, output) in places.iter().zip(outputs) {
            let sequence = &mut self.running[*place];
            if !sequence.decoder.has_begun() {
                self.gauges.prompt_tokens += sequence.input.len() as u64;
            }
            if let Err(error) = sequence.absorb(output, time) {
                sequence.fail(error);
            }
        }
    }

    /// Keeps whole blocks of what has run for later prompts.
    fn extend_index(&mut self, places: &[usize]) {
        if !self.shares() {
            return;
        }
        for place in places {
            while self.extend_by_one(*place) {}
        }
    }

    /// Keeps the next whole block of the text at `at`, if there is one, and room for what only the index keeps of it. Returns whether
    /// there may be more.
    fn extend_by_one(&mut self, at: usize) -> bool {
        // Most steps fill no block, and need not look any further.
        let text = &self.running[at];
        if !text.place.has_next(text.positions()) {
            return false;
        }
        let budget = self.room.budget_now(self.running.len());
        let others = self.room.of_texts(&self.running);
        let own = self.room.of_text(&self.running[at], 0);
        let sequence = &mut self.running[at];
        let Some(state) = &sequence.state else {
            return false;
        };
        let ran = &sequence.tokens[..state.len().min(sequence.tokens.len())];
        let room = &self.room;
        let len = state.len();
        let has_room = |index: &mut PrefixIndex, bytes: usize, shared: usize| {
            // What it shares is counted once.
            let texts = others - own + room.of(shared * BLOCK..len);
            let fits = |index: &PrefixIndex| texts + index.bytes() + bytes <= budget;
            while !fits(index) && index.evict() {}
            fits(index)
        };
        let outcome = self
            .index
            .extend(&mut sequence.place, ran, &**state, has_room);
        outcome.unwrap_or_else(|error| {
            // A text does not need them.
            tracing::debug!("keys and values are not kept: {error}");
            false
        })
    }
}

impl std::fmt::Debug for Batcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batcher")
            .field("model", &self.model)
            .field("options", &self.options)
            .field("gauges", &self.gauges)
            .finish_non_exhaustive()
    }
}
