//! Runs texts together, one step at a time.

use super::BLOCK;
use super::budget::share;
use super::gauges::Gauges;
use super::options::EngineOptions;
use super::prefix::PrefixIndex;
use super::request::Request;
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
    model: Model,
    options: EngineOptions,
    /// By rank.
    waiting: VecDeque<Sequence>,
    /// By rank.
    running: Vec<Sequence>,
    index: PrefixIndex,
    block_bytes: usize,
    /// Blocks for as much as a text needs of every length: the states of delta nets.
    state_blocks: usize,
    /// Blocks for which there was memory when it was last short; the budget where it never was.
    found_blocks: usize,
    arrivals: u64,
    gauges: Gauges,
}

impl Batcher {
    /// A batcher without requests.
    ///
    /// # Errors
    /// If an option is 0, or the memory for keys and values is too small for two blocks of them, by the options or by
    /// the model's [`memory_limit`](crate::ModelOptions::memory_limit).
    pub fn new(model: &Model, mut options: EngineOptions) -> Result<Self> {
        options.validate()?;
        model.check_generates()?;
        let state = model.start(model.context())?;
        let block_bytes = state
            .bytes_for(2 * BLOCK)
            .saturating_sub(state.bytes_for(BLOCK));
        let block_bytes = block_bytes.max(1);
        let state_blocks = state.bytes_for(0).div_ceil(block_bytes);
        let least = state_blocks.saturating_add(2).saturating_mul(block_bytes);
        let pool = model.run().pool();
        if let Some(limit) = pool.options().hard_limit {
            let in_use = pool.stats().in_use;
            let left = limit.saturating_sub(in_use);
            if left < least {
                return Err(Error::Backend(BackendError::OutOfMemory {
                    what: format!("keys and values of two blocks of {BLOCK} tokens"),
                    bytes: least,
                    in_use,
                    limit: Some(limit),
                }));
            }
            options.kv_bytes = options.kv_bytes.min(left);
        }
        // One block that is written, and one behind it.
        if options.kv_bytes < least {
            return Err(Error::Argument {
                what: "kv_bytes",
                expected: format!("at least {least}, two blocks of {BLOCK} tokens"),
                found: options.kv_bytes.to_string(),
            });
        }
        Ok(Self {
            gauges: Gauges {
                kv_budget_bytes: options.kv_bytes,
                kv_block_bytes: block_bytes,
                ..Gauges::default()
            },
            model: model.clone(),
            found_blocks: options.kv_bytes / block_bytes,
            options,
            waiting: VecDeque::new(),
            running: Vec::new(),
            index: PrefixIndex::default(),
            block_bytes,
            state_blocks,
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
        let capacity = (self.most_blocks() - self.state_blocks) * BLOCK;
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
        let room = (self.most_blocks() - self.state_blocks) * BLOCK;
        sequence.capacity = sequence.capacity.min(room);
        sequence.set_arrival(self.arrivals);
        self.arrivals += 1;
        self.wait(sequence);
        self.update_gauges();
    }

    /// Runs one batch, if there is anything to run. Returns whether there is more to do.
    pub fn step(&mut self) -> bool {
        match now(async { Ok::<_, bitnet_core::Error>(self.step_async().await) }) {
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
        self.retire();
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
        for sequence in self.waiting.iter_mut().chain(&mut self.running) {
            sequence.decoder.end(StopReason::Cancelled);
            sequence.tell();
        }
        self.retire();
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
        let before = self.waiting.len() + self.running.len();
        self.waiting.retain(|sequence| !sequence.is_finished());
        let mut index = std::mem::take(&mut self.index);
        let mut generated = 0;
        let ended = |sequence: &mut Sequence| {
            if sequence.is_finished() {
                index.release(std::mem::take(&mut sequence.place));
                generated += sequence.decoder.timings().generated_tokens as u64;
            }
            sequence.is_finished()
        };
        self.running.extract_if(.., ended).for_each(drop);
        self.index = index;
        self.gauges.generated_tokens += generated;
        self.gauges.finished += (before - self.waiting.len() - self.running.len()) as u64;
        self.update_gauges();
    }

    fn update_gauges(&mut self) {
        let own = self.own_blocks();
        let idle = self.index.idle_blocks();
        let held = own + self.index.blocks() - idle;
        self.gauges.running = self.running.len();
        self.gauges.waiting = self.waiting.len();
        self.gauges.kv_running_bytes = held * self.block_bytes;
        self.gauges.kv_cached_bytes = idle * self.block_bytes;
    }

    /// Blocks of the running texts that the index does not count.
    fn own_blocks(&self) -> usize {
        let running = self.running.iter();
        let running =
            running.filter_map(|text| Some((text.state.as_ref()?.len(), text.place.depth())));
        running
            .map(|(positions, shared)| {
                positions.div_ceil(BLOCK).saturating_sub(shared) + self.state_blocks
            })
            .sum()
    }

    /// Blocks that the options allow.
    fn most_blocks(&self) -> usize {
        self.options.kv_bytes / self.block_bytes
    }

    /// Blocks that there may be now: where memory turned out to be shorter than the options say, as many as there was room for,
    /// but for a text that is alone, which runs or fails.
    fn budget_blocks(&self) -> usize {
        match self.running.len() {
            0 | 1 => self.most_blocks(),
            _ => self.found_blocks.min(self.most_blocks()),
        }
    }

    /// Blocks that there is room for beside those in use.
    fn free_blocks(&self) -> usize {
        let own = self.own_blocks();
        self.budget_blocks()
            .saturating_sub(own + self.index.blocks())
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
            let needed = (next.tokens.len() + 1).div_ceil(BLOCK) - cached + self.state_blocks;
            // Every running text will want another block soon.
            let wanted = needed + self.running.len();
            let room = self.free_blocks() + self.index.idle_blocks();
            if !self.running.is_empty() && wanted > room {
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
                let cached = place.depth() * BLOCK;
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
        // Blocks of the inputs so far, and the one at hand.
        let mut wanted = 0;
        let mut planned = 0;
        while planned < self.running.len() {
            let own = wanted_blocks(&self.running[planned]);
            wanted += own;
            self.evict_for(wanted);
            while wanted > self.free_blocks() && planned + 1 < self.running.len() {
                self.preempt();
                self.evict_for(wanted);
            }
            if wanted > self.free_blocks() {
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

    /// Lets blocks go that no text uses, until there is room for `wanted` or there are none.
    fn evict_for(&mut self, wanted: usize) {
        while wanted > self.free_blocks() && self.index.evict() {}
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
                    self.found_blocks = self.most_blocks().min(self.found_blocks + 1);
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
        let own = self.own_blocks();
        self.found_blocks = (own + self.index.blocks()).max(1);
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
            Ok(pending) => pending.await.map_err(Error::from),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(outputs) => self.absorb(places, outputs, begun.elapsed()),
            Err(error) => {
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
            let sequence = &mut self.running[*place];
            let positions = sequence.positions();
            if let Some(state) = &sequence.state {
                let ran = &sequence.tokens[..positions];
                let place = &mut sequence.place;
                if let Err(error) = self.index.extend(place, ran, &**state) {
                    // A text does not need them.
                    tracing::debug!("keys and values are not kept: {error}");
                }
            }
        }
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

/// Blocks that a text's next input adds.
fn wanted_blocks(sequence: &Sequence) -> usize {
    let positions = sequence.state.as_ref().map_or(0, |state| state.len());
    let after = positions + sequence.input.len();
    after.div_ceil(BLOCK) - positions.div_ceil(BLOCK)
}
