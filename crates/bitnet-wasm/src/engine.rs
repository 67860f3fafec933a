//! An open model with its one session, driven step by step.
//!
//! ```text
//! idle ──begin(tokens)──► reading the prompt ──prefill()… ──► writing ──step()… ──► idle
//! ```
//!
//! Every call does a bounded piece of work and returns, so that the Worker can look for messages in between. What the session already
//! holds of a prompt is not run again.

use crate::failure::{Failure, Result, thrown};
use crate::form::Form;
use crate::landing::Landing;
use crate::options::{self, Generate, Open};
use crate::reply::Reply;
use crate::report::{Info, Outcome, json};
use bitnet::chat::{ReplyForm, ReplyParser, TemplateOptions};
use bitnet::file::{Gguf, ModelFile};
use bitnet::hook::Hooks;
use bitnet::tokenizer::{EncodeOptions, TokenWords};
use bitnet::{
    EmbedOptions, GenerateOptions, Generation, LogitsFor, LogitsHook, Model, ModelOptions, Pooling,
    Session, TokenEntry,
};
use bitnet_core::Backend;
use bitnet_core::cpu::CpuBackend;
use bitnet_core::pending::now;
use js_sys::Function;
use serde_json::Value;
use sha2::{Digest, Sha256};
use wasm_bindgen::prelude::wasm_bindgen;

/// What the session is doing.
enum Phase {
    Idle(Session),
    /// Reading a prompt: these tokens of it have yet to run.
    Reading(Session, Vec<u32>, Box<Asked>),
    Writing(Box<Generation>),
    /// No session: while one phase becomes another, and in models that only embed texts.
    Between,
}

/// How a text is to be written.
struct Asked {
    options: GenerateOptions,
    hook: Option<Box<dyn LogitsHook>>,
    /// As [`Generate::logprobs`].
    logprobs: Option<usize>,
}

impl Phase {
    /// The session, whatever it was doing.
    fn into_session(self) -> Option<Session> {
        match self {
            Self::Idle(session) | Self::Reading(session, ..) => Some(session),
            Self::Writing(generation) => Some(generation.into_session()),
            Self::Between => None,
        }
    }
}

/// An open model.
///
/// What takes time is written once, for devices that answer later, and ready when the call returns for those that do not: in
/// the builds for CPUs these are plain functions. Builds for GPUs have asynchronous ones beside them (`gpu.rs`).
#[wasm_bindgen]
pub struct Engine {
    pub(crate) model: Model,
    pub(crate) file: Gguf,
    threads: usize,
    /// The kernels in use.
    kernels: &'static str,
    phase: Phase,
    /// How many of the texts that were embedded last had to be cut.
    truncated: usize,
    /// How many tokens they had.
    embedded_tokens: usize,
    /// The probabilities that `takeLogprobs` gives.
    logprobs: Vec<TokenEntry>,
}

#[wasm_bindgen]
impl Engine {
    /// Opens the file that has landed. `options` is a JSON object with `contextLength`, `i2sLayout`, `activations` and
    /// `chatTemplate` (`{source}` or `{name}`), all optional.
    ///
    /// # Errors
    /// If the file is incomplete, breaks its format, or is no model that this runtime runs; if memory is short.
    pub fn open(landing: Landing, options: &str) -> Result<Engine> {
        let options = options::parse::<Open>("options", options)?.resolve()?;
        let backend = CpuBackend::fastest(options.threads).map_err(|error| thrown(error.into()))?;
        #[cfg(target_feature = "atomics")]
        let backend = match crate::threads::take_helpers() {
            Some(helpers) => backend.with_helpers(helpers),
            None => backend,
        };
        let (threads, kernels) = (backend.threads(), backend.isa().name());
        Ok(Self::on(backend, (threads, kernels), landing, &options)?)
    }

    /// What the model is and how it runs, as JSON.
    pub fn info(&self) -> String {
        json(&Info::of(&self.model, self.threads, self.kernels))
    }

    /// The ids of `text`. With `special`, the spelling of control tokens stands for them; with `begin`, the model's beginning-of-text
    /// token comes first if the model wants one.
    ///
    /// # Errors
    /// If the tokenizer refuses the text.
    pub fn tokenize(&self, text: &str, special: bool, begin: bool) -> Result<Vec<u32>> {
        let tokenizer = self.model.tokenizer();
        let options = EncodeOptions {
            add_bos: begin && tokenizer.add_bos(),
            parse_special: special,
        };
        tokenizer.encode(text, options).map_err(thrown)
    }

    /// The text of `tokens`.
    pub fn detokenize(&self, tokens: &[u32]) -> String {
        self.model.tokenizer().decode(tokens)
    }

    /// The prompt for a conversation, as ids up to where the answer begins. `messages` is a JSON array of `{role, content}`, of an answer
    /// also with `reasoning_content`, `kwargs` a JSON object of further variables for the chat template.
    ///
    /// # Errors
    /// If the model has no chat template, or the template does not compile or refuses the messages.
    #[wasm_bindgen(js_name = chatTokens)]
    pub fn chat_tokens(&self, messages: &str, kwargs: &str) -> Result<Vec<u32>> {
        let messages: Vec<Value> = options::parse("messages", messages)?;
        let options = TemplateOptions {
            kwargs: options::parse("chatTemplateKwargs", kwargs)?,
            ..TemplateOptions::default()
        };
        let offers_tools = options.kwargs.contains_key("tools");
        let Some(template) = self.model.chat_template() else {
            return Err(Failure {
                code: "template",
                message: format!(
                    "{} has no chat template: use generate, or give one as chatTemplate",
                    self.model.name()
                ),
                tensor: None,
            }
            .into());
        };
        if offers_tools && !template.knows_tools() {
            let name = self.model.name();
            let message = format!("tools: the chat template of {name} knows nothing of them");
            let code = "unsupported";
            return Err(Failure {
                code,
                message,
                tensor: None,
            }
            .into());
        }
        template
            .render_tokens(&messages, self.model.tokenizer(), &options)
            .map_err(thrown)
    }

    /// The words of all tokens, for the module of constraints: the bytes of [`TokenWords`].
    #[wasm_bindgen(js_name = tokenWords)]
    pub fn token_words(&self) -> Vec<u8> {
        TokenWords::of(self.model.tokenizer(), self.model.vocabulary()).to_bytes()
    }

    /// The thinking before an answer to the prompt `tokens`, which a chat template wrote, for the module of constraints: JSON of a
    /// `ThinkingOutline`. Nothing if there is none.
    ///
    /// # Errors
    /// If the vocabulary cannot write its marks.
    pub fn thinking(&self, tokens: &[u32]) -> Result<Option<String>> {
        let Some(template) = self.model.chat_template() else {
            return Ok(None);
        };
        let tokenizer = self.model.tokenizer();
        let thinking = ReplyForm::of(template, tokenizer, tokens).thinking(tokenizer);
        let thinking = thinking.map_err(thrown)?;
        Ok(thinking.map(|thinking| json(&thinking.outline())))
    }

    /// The form of answers to the prompt `tokens`, which a chat template wrote, for the module of constraints: JSON of a `ReplyForm`.
    /// Nothing if there is no template.
    #[wasm_bindgen(js_name = replyForm)]
    pub fn reply_form(&self, tokens: &[u32]) -> Option<String> {
        let template = self.model.chat_template()?;
        let form = ReplyForm::of(template, self.model.tokenizer(), tokens);
        Some(json(&form))
    }

    /// A parser of the answer to the prompt `tokens`, which a chat template wrote. Nothing if there is no template.
    pub fn reply(&self, tokens: &[u32]) -> Option<Reply> {
        let template = self.model.chat_template()?;
        let form = ReplyForm::of(template, self.model.tokenizer(), tokens);
        let options = form.options(Vec::new());
        Some(Reply(ReplyParser::without_calls(options)))
    }

    /// Begins a generation from `tokens`, the whole context; ends the one under way. Returns how many of them the session already
    /// holds, which do not run again. `options` is a JSON object. `allowed` is told the tokens of the text so far, and gives those
    /// that may come next, a bit for each in an `Uint32Array`, or nothing where any may.
    ///
    /// # Errors
    /// If an option is unknown or out of range, there are no tokens, or they do not fit the context; nothing has changed then.
    pub fn begin(
        &mut self,
        tokens: Vec<u32>,
        options: &str,
        allowed: Option<Function>,
    ) -> Result<usize> {
        let asked: Generate = options::parse("options", options)?;
        let mut hooks = asked.hooks(tokens.len(), self.model.vocabulary())?;
        let logprobs = asked.logprobs;
        let options = GenerateOptions::from(asked);
        options.sampling.validate().map_err(thrown)?;
        if tokens.is_empty() {
            return Err(
                Failure::argument("prompt: expected at least one token, found none").into(),
            );
        }
        self.model.check_tokens(&tokens).map_err(thrown)?;
        if tokens.len() > self.model.context() {
            let full = bitnet::Error::ContextFull {
                capacity: self.model.context(),
                used: 0,
                wanted: tokens.len(),
            };
            return Err(thrown(full));
        }
        let mut session = self.take_session()?;
        let held = session
            .tokens()
            .iter()
            .zip(&tokens)
            .take_while(|(a, b)| a == b)
            .count();
        // At least the last token runs again: what follows starts from its logits.
        let held = held.min(tokens.len() - 1);
        session.truncate(held);
        if let Some(allowed) = allowed {
            hooks.push(Box::new(Form::new(allowed, tokens.len())));
        }
        let hook = Hooks::of(hooks);
        let asked = Asked {
            options,
            hook,
            logprobs,
        };
        self.logprobs.clear();
        let rest = tokens[held..].to_vec();
        self.phase = Phase::Reading(session, rest, Box::new(asked));
        Ok(held)
    }

    /// Runs at most `most` tokens of the prompt. Returns how many have yet to run; with 0, `step` gives the text.
    ///
    /// # Errors
    /// If memory is short.
    pub fn prefill(&mut self, most: usize) -> Result<usize> {
        Ok(now(self.read(most))?)
    }

    /// The next piece of text, of one token or more; nothing at the end.
    ///
    /// # Errors
    /// If memory is short.
    pub fn step(&mut self) -> Result<Option<String>> {
        Ok(now(self.write())?)
    }

    /// The logarithmic probabilities of the tokens that were written since the last call: JSON of `logprobs.content` in OpenAI's
    /// interface. Nothing if there are none.
    #[wasm_bindgen(js_name = takeLogprobs)]
    pub fn take_logprobs(&mut self) -> Option<String> {
        let entries = std::mem::take(&mut self.logprobs);
        (!entries.is_empty()).then(|| json(&entries))
    }

    /// Whether a generation has ended by itself, and what it took, as JSON; nothing if none was begun.
    pub fn outcome(&self) -> Option<String> {
        match &self.phase {
            Phase::Writing(generation) => Some(json(&Outcome::of(generation))),
            _ => None,
        }
    }

    /// Ends the generation under way. What it has run stays in the session.
    ///
    /// # Errors
    /// If memory for a session is short, where an earlier failure lost it.
    pub fn end(&mut self) -> Result<()> {
        let session = self.take_session()?;
        self.phase = Phase::Idle(session);
        Ok(())
    }

    /// The tokens of the session, prompt and generated.
    pub fn tokens(&self) -> Vec<u32> {
        match &self.phase {
            Phase::Idle(session) | Phase::Reading(session, ..) => session.tokens().to_vec(),
            Phase::Writing(generation) => generation.session().tokens().to_vec(),
            Phase::Between => Vec::new(),
        }
    }

    /// The vectors of `texts`, a JSON array of strings, one behind the other. `pooling` is `mean`, `first` or `last`, or as the model
    /// wants it; `dimensions` is how many numbers of a vector are kept, `instruction` what the texts are queries for.
    ///
    /// # Errors
    /// If an argument is none of these, a text has no token, or memory is short.
    pub fn embed(
        &mut self,
        texts: &str,
        pooling: Option<String>,
        normalize: bool,
        dimensions: Option<usize>,
        instruction: Option<String>,
    ) -> Result<Vec<f32>> {
        let texts: Vec<String> = options::parse("texts", texts)?;
        let known = [Pooling::Mean, Pooling::First, Pooling::Last];
        let pooling = match &pooling {
            None => None,
            Some(name) => match known.into_iter().find(|known| known.name() == name) {
                None => {
                    let message = format!("pooling: expected mean, first or last, found {name:?}");
                    return Err(Failure::argument(message).into());
                }
                known => known,
            },
        };
        let options = EmbedOptions {
            pooling,
            normalize,
            dimensions,
            instruction,
            ..EmbedOptions::default()
        };
        let embeddings = self.model.embed(&texts, &options).map_err(thrown)?;
        self.truncated = embeddings.truncated;
        self.embedded_tokens = embeddings.tokens.iter().sum();
        Ok(embeddings.rows.concat())
    }

    /// How many of the texts that `embed` took last were longer than the context, and were cut to it.
    pub fn truncated(&self) -> usize {
        self.truncated
    }

    /// How many tokens the texts had that `embed` took last.
    #[wasm_bindgen(js_name = embeddedTokens)]
    pub fn embedded_tokens(&self) -> usize {
        self.embedded_tokens
    }

    /// Bytes of keys and values that the session holds.
    #[wasm_bindgen(js_name = cacheBytes)]
    pub fn cache_bytes(&self) -> f64 {
        let bytes = match &self.phase {
            Phase::Idle(session) | Phase::Reading(session, ..) => session.cache_bytes(),
            Phase::Writing(generation) => generation.session().cache_bytes(),
            Phase::Between => 0,
        };
        bytes as f64
    }

    /// SHA-256 of the little-endian bits of the logits of all positions of `tokens`, `batch` of them run at once: the same on
    /// every machine and build, as `bitnet logits --digest` prints it. In a session of its own.
    ///
    /// # Errors
    /// If a token is none, or they do not fit the context.
    #[wasm_bindgen(js_name = logitsDigest)]
    pub fn logits_digest(&self, tokens: Vec<u32>, batch: usize) -> Result<String> {
        let mut session = self.model.session().map_err(thrown)?;
        let mut hash = Sha256::new();
        for piece in tokens.chunks(batch.max(1)) {
            for value in session.forward(piece, LogitsFor::All).map_err(thrown)? {
                hash.update(value.to_le_bytes());
            }
        }
        Ok(crate::hasher::hex(hash))
    }
}

impl Engine {
    /// Opens the file that has landed, on `backend`.
    pub(crate) fn on<B: Backend>(
        backend: B,
        (threads, kernels): (usize, &'static str),
        landing: Landing,
        options: &ModelOptions,
    ) -> std::result::Result<Self, Failure> {
        let (name, pieces) = landing.finish()?;
        let file = ModelFile::parse_gguf(name, pieces)?;
        let model = Model::from_gguf_on(&file, backend, options, |_, _| ())?;
        let phase = match model.embeds_only() {
            true => Phase::Between,
            false => Phase::Idle(model.session()?),
        };
        Ok(Self {
            model,
            file,
            threads,
            kernels,
            phase,
            truncated: 0,
            embedded_tokens: 0,
            logprobs: Vec::new(),
        })
    }

    /// See `prefill`.
    pub(crate) async fn read(&mut self, most: usize) -> std::result::Result<usize, Failure> {
        let (mut session, mut rest, asked) =
            match std::mem::replace(&mut self.phase, Phase::Between) {
                Phase::Reading(session, rest, asked) => (session, rest, asked),
                other => {
                    self.phase = other;
                    return Ok(0);
                }
            };
        if rest.len() > most.max(1) {
            let later = rest.split_off(most.max(1));
            let left = later.len();
            return match run(&mut session, &rest).await {
                Ok(()) => {
                    self.phase = Phase::Reading(session, later, asked);
                    Ok(left)
                }
                Err(error) => {
                    self.phase = Phase::Idle(session);
                    Err(error.into())
                }
            };
        }
        let Asked {
            options,
            hook,
            logprobs,
        } = *asked;
        let mut generation = match session.into_generation(rest, &options, hook) {
            Ok(generation) => generation,
            Err(refused) => {
                let (session, error) = *refused;
                self.phase = Phase::Idle(session);
                return Err(error.into());
            }
        };
        if let Some(alternatives) = logprobs {
            generation.report_logprobs(alternatives);
        }
        match generation.prefill_async(|_, _| ()).await {
            Ok(()) => {
                self.phase = Phase::Writing(Box::new(generation));
                Ok(0)
            }
            Err(error) => {
                self.phase = Phase::Idle(generation.into_session());
                Err(error.into())
            }
        }
    }

    /// See `step`.
    pub(crate) async fn write(&mut self) -> std::result::Result<Option<String>, Failure> {
        let Phase::Writing(generation) = &mut self.phase else {
            return Ok(None);
        };
        // A generation goes on in another future where the last one was left.
        while let Some(piece) = generation.next_token().await.transpose()? {
            if let (Some(id), Some(logprobs)) = (piece.token, piece.logprobs) {
                let entry = logprobs.entry(self.model.tokenizer(), id);
                self.logprobs.push(entry);
            }
            if !piece.text.is_empty() {
                return Ok(Some(piece.text));
            }
        }
        Ok(None)
    }
}

/// Runs a part of a prompt. Returns when that is done, so that whoever waits can tell how long it takes.
async fn run(session: &mut Session, tokens: &[u32]) -> bitnet::Result<()> {
    if session.supports_lookahead() {
        session.forward_top_async(tokens, 1).await?;
    } else {
        session.forward(tokens, LogitsFor::Nothing)?;
    }
    Ok(())
}

impl Engine {
    /// The session, out of whatever it was doing.
    pub(crate) fn take_session(&mut self) -> std::result::Result<Session, Failure> {
        match std::mem::replace(&mut self.phase, Phase::Between).into_session() {
            Some(session) => Ok(session),
            None => Ok(self.model.session()?),
        }
    }

    /// Takes the session back, which then does nothing.
    pub(crate) fn give_session(&mut self, session: Session) {
        self.phase = Phase::Idle(session);
    }
}
