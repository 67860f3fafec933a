//! One conversation with a model: the tokens so far and their keys and values.

use crate::chat::ChatMessage;
use crate::generate::{GenerateOptions, Generation};
use crate::hook::LogitsHook;
use crate::model::{DynSequence, LogitsFor, Model};
use crate::prompt::{Prompt, check_not_empty};
use crate::{Error, Result};
use bitnet_core::pending::now;
use bitnet_core::{Candidate, Input, Output, OutputRequest, Pending, Top};

/// A context of its own over a shared [`Model`].
///
/// A method that returns an error leaves the session as it was before the call: the same tokens, of which at most those that it
/// shares with the refused call need not run again. So does a [`Generation`] that fails or is cancelled before its first token:
/// the prompt is then no part of the session. One that fails or is cancelled later leaves the prompt and the tokens of the text
/// so far, and a generation from no new tokens goes on from there.
pub struct Session {
    model: Model,
    state: Box<dyn DynSequence>,
    /// All tokens; those from `state.len()` on have not run yet.
    tokens: Vec<u32>,
    /// Whether the state may hold more than the tokens.
    ahead: bool,
}

/// The session before a prompt, for a generation that comes to nothing.
pub(crate) struct Before {
    /// Tokens that are those of the prompt, too.
    shared: usize,
    /// The tokens behind them.
    rest: Vec<u32>,
    /// Of the shared tokens, those that had run.
    ran: usize,
}

impl Session {
    pub(crate) fn new(model: Model, state: Box<dyn DynSequence>) -> Self {
        Self {
            model,
            state,
            tokens: Vec::new(),
            ahead: false,
        }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The tokens so far, prompt and generated.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Bytes of keys and values held.
    pub fn cache_bytes(&self) -> usize {
        self.state.bytes()
    }

    /// Whether greedy text is generated several tokens ahead of what is known of it: on a GPU, which need not wait for the host.
    pub fn supports_lookahead(&self) -> bool {
        self.state.supports_lookahead()
    }

    /// Forgets the tokens from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.discard_lookahead();
        self.tokens.truncate(len);
        self.state.truncate(len);
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.truncate(0);
    }

    /// Another session that begins with the same tokens. On a CPU both share the memory of the keys and values that they have in
    /// common.
    ///
    /// # Errors
    /// If memory is short.
    pub fn fork(&self) -> Result<Self> {
        // What ran ahead is not part of the tokens.
        let len = if self.ahead {
            self.state.len().min(self.tokens.len().saturating_sub(1))
        } else {
            self.state.len()
        };
        Ok(Self {
            model: self.model.clone(),
            state: self.state.fork(len)?,
            tokens: self.tokens.clone(),
            ahead: false,
        })
    }

    /// Appends `prompt` to the context and generates what follows. At the start of a session the prompt gets the
    /// model's beginning-of-text token. Special tokens in the text are plain text.
    ///
    /// # Errors
    /// If an option is out of range or the prompt does not fit the context; the session is then as before.
    pub fn generate(
        &mut self,
        prompt: &str,
        options: &GenerateOptions,
    ) -> Result<Generation<&mut Self>> {
        let tokens = self.model.text_tokens(prompt, self.tokens.is_empty())?;
        self.generate_tokens(&tokens, options)
    }

    /// Appends `tokens` to the context and generates what follows.
    ///
    /// # Errors
    /// As [`generate`](Self::generate); also if a token is not in the vocabulary or there is nothing to continue.
    pub fn generate_tokens(
        &mut self,
        tokens: &[u32],
        options: &GenerateOptions,
    ) -> Result<Generation<&mut Self>> {
        let used = self.tokens.len();
        Generation::new(self, used, tokens, options, None).map_err(|(_, error)| error)
    }

    /// Answers the last of `messages`. What the session already holds of the conversation is not run again; what it holds beside
    /// that is forgotten.
    ///
    /// # Errors
    /// If the model has no chat template, the template refuses the messages, they do not fit the context, or an option is out of
    /// range; the session is then as before.
    pub fn chat(
        &mut self,
        messages: &[ChatMessage],
        options: &GenerateOptions,
    ) -> Result<Generation<&mut Self>> {
        let tokens = self.model.chat_tokens(messages, options)?;
        self.answer(&tokens, options, None)
    }

    /// [`chat`](Self::chat) for a conversation that is written in tokens already, such as those of [`Model::chat_tokens`], with a hook
    /// on the logits of the answer if one is given.
    ///
    /// # Errors
    /// If the tokens do not fit the context, there are none, or an option is out of range; the session is then as before.
    pub fn answer(
        &mut self,
        tokens: &[u32],
        options: &GenerateOptions,
        hook: Option<Box<dyn LogitsHook>>,
    ) -> Result<Generation<&mut Self>> {
        let shared = self.shared(tokens);
        Generation::new(self, shared, &tokens[shared..], options, hook).map_err(|(_, error)| error)
    }

    /// A generation that owns the session, so that it can be moved into a task or another thread
    /// ([`Generation::into_session`] gives the session back), with a hook on its logits if one is given. The prompt is taken as by
    /// [`generate`](Self::generate), [`generate_tokens`](Self::generate_tokens) and [`chat`](Self::chat).
    ///
    /// # Errors
    /// As these; beside the error comes the session, as it was before.
    pub fn into_generation(
        self,
        prompt: impl Into<Prompt>,
        options: &GenerateOptions,
        hook: Option<Box<dyn LogitsHook>>,
    ) -> Result<Generation, Box<(Self, Error)>> {
        let used = self.tokens.len();
        let tokens = match prompt.into() {
            Prompt::Text(text) => self
                .model
                .text_tokens(&text, used == 0)
                .map(|tokens| (used, tokens)),
            Prompt::Tokens(tokens) => Ok((used, tokens)),
            Prompt::Chat(messages) => self
                .model
                .chat_tokens(&messages, options)
                .map(|tokens| (self.shared(&tokens), tokens))
                .map(|(shared, mut tokens)| (shared, tokens.split_off(shared))),
        };
        match tokens {
            Ok((shared, tokens)) => {
                Generation::new(self, shared, &tokens, options, hook).map_err(Box::new)
            }
            Err(error) => Err(Box::new((self, error))),
        }
    }

    /// How many of `tokens`, at their beginning, the session holds. At least the last of them runs again: its logits are what an
    /// answer starts from.
    fn shared(&self, tokens: &[u32]) -> usize {
        let pairs = tokens.iter().zip(&self.tokens);
        let shared = pairs.take_while(|(a, b)| a == b).count();
        shared.min(tokens.len().saturating_sub(1))
    }

    /// Appends `tokens`, runs them, and returns the logits of the wanted positions: `[positions, vocabulary]`.
    ///
    /// # Errors
    /// If a token is not in the vocabulary or they do not fit the context; the session is then as before.
    pub fn forward(&mut self, tokens: &[u32], want: LogitsFor) -> Result<Vec<f32>> {
        now(self.forward_async(tokens, want))
    }

    /// [`forward`](Self::forward) for browsers, where a GPU's answer must be awaited.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub async fn forward_async(&mut self, tokens: &[u32], want: LogitsFor) -> Result<Vec<f32>> {
        let outputs = want.of(tokens.len());
        self.run(tokens, outputs).await.map(Output::into_logits)
    }

    /// Appends `tokens`, runs them, and returns the likeliest `count` tokens to follow, in the order of likelihood
    /// (equals in the order of their ids), with the logits that [`forward`](Self::forward) gives them. Where the head is
    /// screened ([`LmHeadMode`](crate::LmHeadMode)) this reads less memory.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_top(&mut self, tokens: &[u32], count: usize) -> Result<Vec<Candidate>> {
        now(self.forward_top_async(tokens, count))
    }

    /// [`forward_top`](Self::forward_top) for browsers, where a GPU's answer must be awaited.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub async fn forward_top_async(
        &mut self,
        tokens: &[u32],
        count: usize,
    ) -> Result<Vec<Candidate>> {
        let top = Top {
            count: count.max(1),
            also: &[],
        };
        let output = self
            .run(tokens, OutputRequest::Top { rows: 1, top })
            .await?;
        Ok(output.into_top().pop().unwrap_or_default())
    }

    /// How much each query head of `layer` attends, from the last token, to each token so far: `[query heads, tokens]`, rows
    /// that sum to 1. Nothing if there are no tokens yet.
    ///
    /// # Errors
    /// If there is no such layer, or the backend cannot tell; the session is then as before.
    pub fn attention(&mut self, layer: usize) -> Result<Vec<f32>> {
        let layers = self.model.architecture().layers;
        if layer >= layers {
            return Err(Error::Argument {
                what: "layer",
                expected: format!("below {layers}"),
                found: layer.to_string(),
            });
        }
        self.discard_lookahead();
        let Some(last) = self.tokens.len().checked_sub(1) else {
            return Ok(Vec::new());
        };
        let ran = self.state.len().min(last);
        self.state.truncate(last);
        let outcome = self.attend(layer, last);
        if outcome.is_err() {
            // A device may tell only now that what ran before did not.
            self.roll_back(ran);
        }
        outcome
    }

    /// What the heads of `layer` attend to from token `last`, which does not become part of the state.
    fn attend(&mut self, layer: usize, last: usize) -> Result<Vec<f32>> {
        self.begin_until(last, &mut |_, _| true, OutputRequest::Nothing)?;
        let input = Input::Tokens(&self.tokens[last..]);
        self.state.attention(input, layer)
    }

    /// Appends `tokens` and runs them.
    async fn run(&mut self, tokens: &[u32], outputs: OutputRequest<'_>) -> Result<Output> {
        self.discard_lookahead();
        self.check(self.tokens.len(), tokens)?;
        let (before, ran) = (self.tokens.len(), self.state.len());
        let result = self.run_unchecked(tokens, outputs).await;
        if result.is_err() {
            self.tokens.truncate(before);
            // A device may tell only now that what ran before did not.
            self.roll_back(ran);
        }
        result
    }

    async fn run_unchecked(
        &mut self,
        tokens: &[u32],
        outputs: OutputRequest<'_>,
    ) -> Result<Output> {
        self.begin_pending(&mut |_, _| true, OutputRequest::Nothing)?;
        if tokens.is_empty() {
            return Ok(Output::Nothing);
        }
        self.tokens.extend_from_slice(tokens);
        let pending = self.state.forward(Input::Tokens(tokens), outputs)?;
        Ok(pending.await?)
    }

    /// Refuses `tokens` that cannot follow the first `used`.
    fn check(&self, used: usize, tokens: &[u32]) -> Result<()> {
        self.model.check_tokens(tokens)?;
        let capacity = self.model.context();
        if tokens.len() > capacity.saturating_sub(used) {
            return Err(Error::ContextFull {
                capacity,
                used,
                wanted: tokens.len(),
            });
        }
        Ok(())
    }

    /// Puts `tokens`, which have yet to run, behind the first `shared`. Afterwards at least one token has yet to run.
    ///
    /// # Errors
    /// If `tokens` cannot stand there, or there would be no token at all; the session is then as before.
    pub(crate) fn replace(&mut self, shared: usize, tokens: &[u32]) -> Result<Before> {
        self.check(shared, tokens)?;
        check_not_empty(shared + tokens.len())?;
        self.discard_lookahead();
        let rest = self.tokens.split_off(shared);
        let ran = self.state.len().min(shared);
        self.tokens.extend_from_slice(tokens);
        // What follows starts from the logits of the last token.
        self.state.truncate(shared.min(self.tokens.len() - 1));
        Ok(Before { shared, rest, ran })
    }

    /// Takes a prompt back.
    pub(crate) fn put_back(&mut self, before: Before) {
        self.tokens.truncate(before.shared);
        self.tokens.extend(before.rest);
        self.ahead = false;
        self.roll_back(before.ran);
    }

    /// Forgets what an earlier generation ran ahead of its text, of which it never became part.
    fn discard_lookahead(&mut self) {
        if std::mem::take(&mut self.ahead) {
            // The last token is as one that has not run: nobody kept what follows it.
            self.state.truncate(self.tokens.len().saturating_sub(1));
        }
    }

    /// Adds a generated token, which runs when the next one is wanted.
    pub(crate) fn push_generated(&mut self, token: u32) {
        self.tokens.push(token);
    }

    /// Tokens that have yet to run.
    pub(crate) fn pending(&self) -> usize {
        self.tokens.len().saturating_sub(self.state.len())
    }

    /// Begins to run what has yet to run and `draft` behind it, which does not become part of the tokens; asks for the logits
    /// of all of them.
    pub(crate) fn begin_draft(&mut self, draft: &[u32]) -> Result<Pending<Output>> {
        self.ahead = true;
        let pending = self.pending();
        let mut batch = self.tokens[self.tokens.len() - pending..].to_vec();
        batch.extend_from_slice(draft);
        let input = Input::Tokens(&batch);
        self.state.forward(input, LogitsFor::All.of(batch.len()))
    }

    /// Begins to run the token that will be found likeliest by the forward pass before, and asks for the one that is likeliest
    /// after it. Not for backends that cannot [look ahead](Self::supports_lookahead).
    pub(crate) fn enqueue_next(&mut self) -> Result<Pending<Output>> {
        self.ahead = true;
        let top = Top {
            count: 1,
            also: &[],
        };
        let outputs = OutputRequest::Top { rows: 1, top };
        self.state.forward(Input::LastArgmax, outputs)
    }

    /// Whether another token can run, and the one after it will have a place.
    pub(crate) fn has_room_ahead(&self) -> bool {
        self.state.len() + 1 < self.model.context()
    }

    /// Forgets what ran behind the tokens, but for the first `count`.
    pub(crate) fn commit_draft(&mut self, count: usize) {
        self.state.truncate(self.tokens.len() + count);
    }

    /// Tokens that have run.
    pub(crate) fn positions(&self) -> usize {
        self.state.len().min(self.tokens.len())
    }

    /// Keys and values of `layer`, as [`DynSequence::read_layer`] gives them.
    pub(crate) fn read_layer(&self, layer: usize) -> Result<[Vec<f32>; 2]> {
        self.state.read_layer(layer)
    }

    /// Makes `tokens` the session's, the first `positions` of which have run elsewhere: see [`DynSequence::restore`].
    pub(crate) fn restore_tokens(
        &mut self,
        tokens: Vec<u32>,
        positions: usize,
        next: &mut dyn FnMut() -> Result<[Vec<f32>; 2]>,
    ) -> Result<()> {
        self.state.restore(positions, next)?;
        self.tokens = tokens;
        self.ahead = false;
        Ok(())
    }

    /// Whether another token would fit.
    pub(crate) fn is_full(&self) -> bool {
        self.tokens.len() >= self.model.context()
    }

    /// Forgets that the tokens from `len` on have run: they run again when the next one is wanted.
    pub(crate) fn roll_back(&mut self, len: usize) {
        self.state.truncate(len);
    }

    /// Begins to run the tokens that have yet to run, in batches; gives the outputs of the last batch.
    /// `progress` is told the tokens begun and their number before each batch, and stops the run by `false`.
    pub(crate) fn begin_pending(
        &mut self,
        progress: &mut dyn FnMut(usize, usize) -> bool,
        outputs: OutputRequest<'_>,
    ) -> Result<Pending<Output>> {
        self.begin_until(self.tokens.len(), progress, outputs)
    }

    /// [`begin_pending`](Self::begin_pending) for the first `len` tokens.
    fn begin_until(
        &mut self,
        len: usize,
        progress: &mut dyn FnMut(usize, usize) -> bool,
        outputs: OutputRequest<'_>,
    ) -> Result<Pending<Output>> {
        let start = self.state.len();
        let total = len - start;
        let batch = self.model.prompt_batch();
        let mut pending = Pending::ready(Output::Nothing);
        while self.state.len() < len {
            let done = self.state.len();
            if !progress(done - start, total) {
                return Err(Error::Cancelled);
            }
            let end = (done + batch).min(len);
            let outputs = if end == len {
                outputs
            } else {
                OutputRequest::Nothing
            };
            let input = Input::Tokens(&self.tokens[done..end]);
            pending = self.state.forward(input, outputs)?;
        }
        Ok(pending)
    }
}
