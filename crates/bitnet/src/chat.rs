//! Chat templates: from messages to the prompt a model was trained on.
//!
//! A template is the Jinja source that a model file carries, rendered as Hugging Face's transformers do. Templates come
//! from files of unknown origin: their size, depth, work, memory and output are bounded.
//!
//! # Messages cannot forge marks
//!
//! A prompt is text in which marks such as `<|eot_id|>` separate the turns, and the ids a model knows come from encoding
//! that text as a whole: "User: " and "Hi" share the token " Hi". A message that contains `<|eot_id|>` would then end
//! its turn. Every character of a rendered prompt therefore knows whether it comes from the template or from a message
//! or another variable, whatever the template did with it, and [`ChatTemplate::render_tokens`] takes a spelling for a
//! mark only if all of it comes from the template. For messages without marks the ids are those of the whole text.

mod guard;
mod history;
mod jinja;
mod reply;
mod templates;
mod thinking;

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::cancel::Cancel;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

use jinja::{Clock, Fault, Glyph, Setting, Template, Variable};

pub use history::{FittedChat, Message};
#[cfg(feature = "constraints")]
pub(crate) use reply::{CALL, CALL_END};
pub use reply::{CallFormat, ReplyOptions, ReplyParser, ReplyPart, Tool, ToolCall};
pub(crate) use reply::{THINK, THINK_END};
pub(crate) use templates::NAMED_TEMPLATES;
pub use templates::{ChatTemplates, TemplateChoice};
pub use thinking::{ReplyForm, Thinking, ThinkingBudget, ThinkingOutline};

/// Sources longer than this are refused; real ones have up to 20 kB.
const MAX_SOURCE: usize = 1 << 19;

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
    compiled: OnceLock<Result<Template, String>>,
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

    /// Whether it can tell a model of tools: whether its source speaks of them.
    pub fn knows_tools(&self) -> bool {
        self.source().is_some_and(|source| source.contains("tools"))
    }

    /// Refuses a template whose source could not be read.
    pub(crate) fn readable(&self) -> Result<()> {
        let source = self.0.source.as_ref();
        source.map(|_| ()).map_err(|why| self.failed(why))
    }

    /// Compiles the template, if that was not done yet. Rendering does it too.
    ///
    /// # Errors
    /// [`Error::Template`] if the source could not be read, is too long or not valid.
    pub fn compile(&self) -> Result<()> {
        self.compiled().map(|_| ())
    }

    fn compiled(&self) -> Result<&Template> {
        let outcome = self.0.compiled.get_or_init(|| {
            let source = self.0.source.as_ref().map_err(String::clone)?;
            if source.len() > MAX_SOURCE {
                return Err(format!(
                    "its source has {} bytes; at most {MAX_SOURCE} are accepted",
                    source.len()
                ));
            }
            Template::compile(source).map_err(|fault| match fault {
                Fault::Message(message) => message,
                Fault::Cancelled => "cancelled".to_owned(),
            })
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
        let glyphs = self.render_glyphs(messages, options)?;
        Ok(glyphs.iter().map(|glyph| glyph.char()).collect())
    }

    /// The ids of the prompt, with exactly one beginning-of-text token if the model wants one. Marks count where
    /// the template wrote them, never where messages or further variables did. (The role of a message is the
    /// template's own text if it is a plain word: templates make marks such as `<|user|>` of it.)
    ///
    /// # Errors
    /// As [`ChatTemplate::render`] and [`Tokenizer::encode`].
    pub fn render_tokens<M: Serialize>(
        &self,
        messages: &[M],
        tokenizer: &Tokenizer,
        options: &TemplateOptions,
    ) -> Result<Vec<u32>> {
        let glyphs = self.render_glyphs(messages, options)?;
        let guarded = guard::Guarded::new(&glyphs, tokenizer).map_err(|why| self.failed(why))?;
        tokenizer.encode_guarded(
            guarded.text(),
            |plain| guarded.restore(plain),
            tokenizer.add_bos(),
        )
    }

    fn render_glyphs<M: Serialize>(
        &self,
        messages: &[M],
        options: &TemplateOptions,
    ) -> Result<Vec<Glyph>> {
        if options.kwargs.contains_key("messages") {
            return Err(Error::Argument {
                what: "chat template kwargs",
                expected: "names other than messages, which the conversation gives".into(),
                found: "messages".into(),
            });
        }
        let template = self.compiled()?;
        let messages = serde_json::to_value(messages).map_err(|error| self.failed(error))?;
        let none = serde_json::Value::Null;
        let mut variables = vec![
            ("messages", Variable::Input(&messages)),
            (
                "add_generation_prompt",
                Variable::Flag(options.add_generation_prompt),
            ),
            ("tools", Variable::Input(&none)),
            ("documents", Variable::Input(&none)),
            ("bos_token", Variable::Trusted(&self.0.bos_text)),
            ("eos_token", Variable::Trusted(&self.0.eos_text)),
        ];
        let further = options.kwargs.iter();
        variables.extend(further.map(|(name, value)| (name.as_str(), Variable::Input(value))));
        let setting = Setting {
            clock: self.0.clock,
            cancel: options.cancel.clone(),
            longest: options.max_bytes,
        };
        let glyphs = template
            .render(&variables, setting)
            .map_err(|fault| match fault {
                Fault::Message(message) => self.failed(message),
                Fault::Cancelled => Error::Cancelled,
            })?;
        let bytes: usize = glyphs.iter().map(|glyph| glyph.char().len_utf8()).sum();
        if bytes > options.max_bytes {
            let most = options.max_bytes;
            return Err(self.failed(format_args!("its prompt is longer than {most} bytes")));
        }
        Ok(glyphs)
    }

    fn failed(&self, error: impl std::fmt::Display) -> Error {
        Error::Template(format!("{}: {error}", self.0.origin))
    }
}

/// The texts of the tokens that begin and end a text, as templates name them.
fn ends_of(tokenizer: &Tokenizer) -> (String, String) {
    let text = |id: Option<u32>| {
        id.and_then(|id| tokenizer.token_text(id))
            .unwrap_or_default()
    };
    (text(tokenizer.bos()), text(tokenizer.eos()))
}

#[cfg(test)]
mod tests;
