//! Chat templates: from messages to the prompt a model was trained on.
//!
//! A template is the Jinja source that a model file carries, rendered as Hugging Face's libraries do: blocks
//! swallow the line end after them and the indentation before them, Python's string methods work, and
//! `raise_exception`, `tojson` and (once a time is given) `strftime_now` are there. Templates come from files
//! of unknown origin, so that their size, their work and the memory they use are bounded.
//!
//! # Messages cannot forge marks
//!
//! A prompt is text in which marks such as `<|eot_id|>` separate the turns, and the ids a model knows come
//! from encoding that text as a whole: "User: " and "Hi" share the token " Hi". A message that contains
//! `<|eot_id|>` would then end its turn. [`ChatTemplate::render_tokens`] therefore puts a private-use character
//! into the spelling of every mark that occurs in a message, renders, cuts the result at the marks that are
//! still whole (those that the template wrote), removes the character from the text between them, and encodes
//! that text as plain text. For messages without marks the ids are those of the whole text.

mod python;
mod templates;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, OnceLock};

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Value};
use serde::{Deserialize, Serialize};

use crate::generate::Cancel;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

pub use templates::{ChatTemplates, TemplateChoice};

/// Sources longer than this are refused; real ones have up to 20 kB.
const MAX_SOURCE: usize = 1 << 20;

/// What one rendering may use: about one unit for an instruction and for 64 bytes of data.
const FUEL: u64 = 1_000_000;

/// Name of the one template in its environment.
const NAME: &str = "chat";

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Who speaks: "system", "user" or "assistant".
    pub role: String,
    /// What is said.
    pub content: String,
}

impl ChatMessage {
    /// A message of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }

    /// Instructions that precede the conversation.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// What the user says.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// What the model answered.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }
}

/// How to render a template.
#[derive(Debug, Clone)]
pub struct TemplateOptions {
    /// Whether the prompt ends where the model's answer begins, rather than after the last message.
    pub add_generation_prompt: bool,
    /// Further variables of the template, as `chat_template_kwargs` of Hugging Face's libraries: `enable_thinking`,
    /// `reasoning_effort`, `tools`, `documents` and whatever else it reads. They go before the variables of the
    /// same name that every template has, except `messages`, which they may not name.
    pub kwargs: serde_json::Map<String, serde_json::Value>,
    /// Ends the rendering with [`Error::Cancelled`].
    pub cancel: Cancel,
    /// The longest prompt, in bytes of UTF-8. Nothing longer is rendered or kept.
    pub max_bytes: usize,
}

impl Default for TemplateOptions {
    /// A prompt that ends where the answer begins, no further variables, at most 4 MiB.
    fn default() -> Self {
        Self {
            add_generation_prompt: true,
            kwargs: serde_json::Map::new(),
            cancel: Cancel::default(),
            max_bytes: 4 << 20,
        }
    }
}

/// A chat template. Its source is compiled when it is first needed; clones share the result.
#[derive(Debug, Clone)]
pub struct ChatTemplate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Where it comes from, for errors.
    origin: String,
    /// The source, or why there is none.
    source: Result<String, String>,
    bos_text: String,
    eos_text: String,
    clock: Option<Clock>,
    compiled: OnceLock<Result<Environment<'static>, String>>,
}

/// The time that a template is told.
#[derive(Debug, Clone, Copy)]
struct Clock {
    /// Seconds since 1970, UTC.
    unix: i64,
    /// What the local time is ahead of UTC, in seconds.
    offset: i32,
}

impl ChatTemplate {
    /// A template from its source. `origin` is what errors call it, such as the name of its file; `bos_text` and
    /// `eos_text` are what it may use as `bos_token` and `eos_token`. Nothing is compiled yet.
    pub fn new(
        origin: impl Into<String>,
        source: impl Into<String>,
        bos_text: impl Into<String>,
        eos_text: impl Into<String>,
    ) -> Self {
        Self::with_outcome(
            origin.into(),
            Ok(source.into()),
            (bos_text.into(), eos_text.into()),
        )
    }

    /// A template from its source, for the model whose tokenizer is given.
    pub fn for_tokenizer(
        origin: impl Into<String>,
        source: impl Into<String>,
        tokenizer: &Tokenizer,
    ) -> Self {
        Self::with_outcome(origin.into(), Ok(source.into()), ends_of(tokenizer))
    }

    /// A template from its source, or from what kept it from being read.
    fn with_outcome(
        origin: String,
        source: Result<String, String>,
        (bos_text, eos_text): (String, String),
    ) -> Self {
        Self(Arc::new(Inner {
            origin,
            source,
            bos_text,
            eos_text,
            clock: None,
            compiled: OnceLock::new(),
        }))
    }

    /// The same template, told the time in seconds since 1970 (UTC) and what the local time is ahead of UTC, in
    /// seconds: `strftime_now` gives the local time. Without it the function does not exist, templates that ask
    /// for it fall back on a date of their own, and prompts depend on nothing but the messages.
    #[must_use]
    pub fn with_time(&self, unix_seconds: i64, utc_offset: i32) -> Self {
        let inner = &self.0;
        Self(Arc::new(Inner {
            origin: inner.origin.clone(),
            source: inner.source.clone(),
            bos_text: inner.bos_text.clone(),
            eos_text: inner.eos_text.clone(),
            clock: Some(Clock {
                unix: unix_seconds,
                offset: utc_offset,
            }),
            compiled: OnceLock::new(),
        }))
    }

    /// Where it comes from, as errors say it.
    pub fn origin(&self) -> &str {
        &self.0.origin
    }

    /// Its source; `None` if it could not be read, of which [`compile`](Self::compile) says why.
    pub fn source(&self) -> Option<&str> {
        self.0.source.as_deref().ok()
    }

    /// Compiles the template, if that was not done yet. Rendering does it too.
    ///
    /// # Errors
    /// [`Error::Template`] if the source could not be read, is too long or not valid.
    pub fn compile(&self) -> Result<()> {
        self.compiled().map(|_| ())
    }

    fn compiled(&self) -> Result<&Environment<'static>> {
        let outcome = self.0.compiled.get_or_init(|| {
            let source = self.0.source.as_ref().map_err(String::clone)?;
            compile(source, self.0.clock)
        });
        outcome.as_ref().map_err(|message| self.failed(message))
    }

    /// The prompt as text. A message is [`ChatMessage`], or whatever serializes as what the template reads, such as
    /// a JSON object with `role`, `content`, `tool_calls`.
    ///
    /// # Errors
    /// [`Error::Template`] if the template does not compile, raises an error (some insist on alternating roles), or
    /// uses up its budget; [`Error::Argument`] if the options name `messages`; [`Error::Cancelled`].
    pub fn render<M: Serialize>(
        &self,
        messages: &[M],
        options: &TemplateOptions,
    ) -> Result<String> {
        let messages = serde_json::to_value(messages).map_err(|error| self.failed(error))?;
        self.render_values(&messages, &options.kwargs, options)
    }

    fn render_values(
        &self,
        messages: &serde_json::Value,
        kwargs: &serde_json::Map<String, serde_json::Value>,
        options: &TemplateOptions,
    ) -> Result<String> {
        if kwargs.contains_key("messages") {
            return Err(Error::Argument {
                what: "chat template kwargs",
                expected: "names other than messages, which the conversation gives".into(),
                found: "messages".into(),
            });
        }
        if options.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let environment = self.compiled()?;
        let mut variables: BTreeMap<&str, Value> = BTreeMap::from([
            ("messages", Value::from(minijinja::value::Serde(messages))),
            (
                "add_generation_prompt",
                options.add_generation_prompt.into(),
            ),
            ("tools", ().into()),
            ("documents", ().into()),
            ("bos_token", self.0.bos_text.as_str().into()),
            ("eos_token", self.0.eos_text.as_str().into()),
        ]);
        for (name, value) in kwargs {
            variables.insert(name, Value::from(minijinja::value::Serde(value)));
        }
        let template = environment
            .get_template(NAME)
            .map_err(|error| self.failed(error))?;
        let text = template
            .render(variables)
            .map_err(|error| self.failed(error))?;
        if text.len() > options.max_bytes {
            return Err(self.failed(format_args!(
                "its prompt is longer than {} bytes",
                options.max_bytes
            )));
        }
        Ok(text)
    }

    /// The ids of the prompt, with exactly one beginning-of-text token if the model wants one. Marks count where
    /// the template wrote them, never where messages or further variables did.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`] and [`Tokenizer::encode`].
    pub fn render_tokens<M: Serialize>(
        &self,
        messages: &[M],
        tokenizer: &Tokenizer,
        options: &TemplateOptions,
    ) -> Result<Vec<u32>> {
        let mut messages = serde_json::to_value(messages).map_err(|error| self.failed(error))?;
        let mut kwargs = serde_json::Value::Object(options.kwargs.clone());
        let guard = Guard::new(self, [&messages, &kwargs], tokenizer)?;
        guard.protect_all(&mut messages);
        guard.protect_all(&mut kwargs);
        let kwargs = kwargs.as_object().cloned().unwrap_or_default();
        let text = self.render_values(&messages, &kwargs, options)?;
        tokenizer.encode_guarded(&text, |plain| guard.restore(plain), tokenizer.add_bos())
    }

    fn failed(&self, error: impl std::fmt::Display) -> Error {
        Error::Template(format!("{}: {error}", self.0.origin))
    }
}

/// What the tokens that begin and end a text are called in templates.
fn ends_of(tokenizer: &Tokenizer) -> (String, String) {
    let text = |id: Option<u32>| {
        id.and_then(|id| tokenizer.token_text(id))
            .unwrap_or_default()
    };
    (text(tokenizer.bos()), text(tokenizer.eos()))
}

fn compile(source: &str, clock: Option<Clock>) -> Result<Environment<'static>, String> {
    if source.len() > MAX_SOURCE {
        return Err(format!(
            "its source has {} bytes; at most {MAX_SOURCE} are accepted",
            source.len()
        ));
    }
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .map_err(|error| error.to_string())?;
    environment.set_syntax(syntax);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", python::raise_exception);
    environment.add_filter("tojson", python::tojson);
    if let Some(clock) = clock {
        environment.add_function("strftime_now", move |format: String| {
            python::strftime(clock.unix.saturating_add(clock.offset.into()), &format)
        });
    }
    environment
        .add_template_owned(NAME, python::without_generation_blocks(source))
        .map_err(|error| error.to_string())?;
    Ok(environment)
}

/// Keeps the marks in messages from being read as marks.
struct Guard<'a> {
    marks: Vec<&'a str>,
    /// Interrupts the spelling of a mark.
    breaker: char,
    /// Marks of one character cannot be interrupted; these stand for them.
    stand_ins: Vec<(char, char)>,
}

impl<'a> Guard<'a> {
    fn new(
        template: &ChatTemplate,
        values: [&serde_json::Value; 2],
        tokenizer: &'a Tokenizer,
    ) -> Result<Self> {
        let marks: Vec<&str> = tokenizer.control_texts().collect();
        let private = |c: &char| matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{ffffd}');
        let spelled = values.map(serde_json::Value::to_string);
        let used: HashSet<char> = spelled
            .iter()
            .map(String::as_str)
            .chain(template.source())
            .chain(marks.iter().copied())
            .flat_map(str::chars)
            .filter(private)
            .collect();
        let mut free = ('\u{e000}'..='\u{f8ff}')
            .chain('\u{f0000}'..='\u{ffffd}')
            .filter(|c| !used.contains(c));
        let mut next = || {
            free.next().ok_or_else(|| {
                Error::Template("the messages use every private-use character".into())
            })
        };
        let breaker = next()?;
        let mut stand_ins = Vec::new();
        for mark in &marks {
            let mut chars = mark.chars();
            if let (Some(only), None) = (chars.next(), chars.next()) {
                stand_ins.push((only, next()?));
            }
        }
        Ok(Self {
            marks,
            breaker,
            stand_ins,
        })
    }

    /// Protects every text in `value`, names of members included.
    fn protect_all(&self, value: &mut serde_json::Value) {
        match value {
            serde_json::Value::String(text) => *text = self.protect(text),
            serde_json::Value::Array(items) => {
                items.iter_mut().for_each(|item| self.protect_all(item));
            }
            serde_json::Value::Object(members) => {
                *members = std::mem::take(members)
                    .into_iter()
                    .map(|(name, mut member)| {
                        self.protect_all(&mut member);
                        (self.protect(&name), member)
                    })
                    .collect();
            }
            _ => {}
        }
    }

    /// `text` with no mark left whole.
    fn protect(&self, text: &str) -> String {
        let mut safe: String = text
            .chars()
            .map(|c| {
                let stand_in = self.stand_ins.iter().find(|(only, _)| *only == c);
                stand_in.map_or(c, |(_, stand_in)| *stand_in)
            })
            .collect();
        for mark in &self.marks {
            let first = mark.chars().next().map_or(0, char::len_utf8);
            let mut from = 0;
            while let Some(found) = safe.get(from..).and_then(|rest| rest.find(mark)) {
                from += found + first;
                safe.insert(from, self.breaker);
            }
        }
        // The beginning of a mark at the end could be completed by what follows in the prompt.
        let end = safe.trim_end().len();
        let begun = self.marks.iter().any(|mark| {
            mark.char_indices()
                .skip(1)
                .any(|(at, _)| safe[..end].ends_with(&mark[..at]))
        });
        if begun {
            safe.insert(end, self.breaker);
        }
        safe
    }

    /// What [`Guard::protect`] changed, changed back.
    fn restore(&self, text: &str) -> String {
        text.chars()
            .filter(|c| *c != self.breaker)
            .map(|c| {
                let original = self.stand_ins.iter().find(|(_, stand_in)| *stand_in == c);
                original.map_or(c, |(only, _)| *only)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
