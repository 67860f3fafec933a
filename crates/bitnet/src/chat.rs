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

use std::collections::HashSet;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Value, context};
use serde::{Deserialize, Serialize};

use crate::file::{Gguf, ModelFile, SafeTensorsModel};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Sources longer than this are refused; real ones have up to 20 kB.
const MAX_SOURCE: usize = 1 << 20;

/// What one rendering may use: about one unit for an instruction and for 64 bytes of data.
const FUEL: u64 = 1_000_000;

/// Name of the one template in its environment.
const NAME: &str = "chat";

/// The template of microsoft/bitnet-b1.58-2B-4T, whose GGUF file carries another one that drops the system
/// message and ends the text before the answer.
const BITNET_2B_4T: &str = "{% for message in messages %}{{ message.role | capitalize }}: \
    {{ message.content | trim }}<|eot_id|>{% endfor %}\
    {% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}";

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

/// A compiled chat template.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos_text: String,
    eos_text: String,
}

impl ChatTemplate {
    /// Compiles `source`; `bos_text` and `eos_text` are what it may use as `bos_token` and `eos_token`.
    ///
    /// # Errors
    /// If the source is not valid or too long.
    pub fn new(source: &str, bos_text: &str, eos_text: &str) -> Result<Self> {
        if source.len() > MAX_SOURCE {
            return Err(Error::Template(format!(
                "its source has {} bytes; at most {MAX_SOURCE} are accepted",
                source.len()
            )));
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(failed)?;
        environment.set_syntax(syntax);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", python::raise_exception);
        environment.add_filter("tojson", python::tojson);
        environment
            .add_template_owned(NAME, python::without_generation_blocks(source))
            .map_err(failed)?;
        Ok(Self {
            environment,
            source: source.into(),
            bos_text: bos_text.into(),
            eos_text: eos_text.into(),
        })
    }

    /// The template of a model file, with the tokenizer of that file: the one it carries, unless that is known to be
    /// wrong, and none if it carries none.
    ///
    /// # Errors
    /// As [`ChatTemplate::new`] and [`ChatTemplate::source_in`].
    pub fn from_file(file: &ModelFile, tokenizer: &Tokenizer) -> Result<Option<Self>> {
        match file {
            ModelFile::Gguf(file) => Self::from_gguf(file, tokenizer),
            ModelFile::SafeTensors(file) => {
                Self::for_model(Self::source_beside(file)?.as_deref(), "", tokenizer)
            }
        }
    }

    /// As [`ChatTemplate::from_file`], from a GGUF file.
    ///
    /// # Errors
    /// As [`ChatTemplate::from_file`].
    pub(crate) fn from_gguf(file: &Gguf, tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let architecture = file.string("general.architecture")?;
        Self::for_model(
            file.string("tokenizer.chat_template")?,
            architecture.unwrap_or_default(),
            tokenizer,
        )
    }

    /// As [`ChatTemplate::from_file`], from what the file says: its template and GGUF's `general.architecture`.
    fn for_model(
        embedded: Option<&str>,
        architecture: &str,
        tokenizer: &Tokenizer,
    ) -> Result<Option<Self>> {
        let Some(mut source) = embedded else {
            return Ok(None);
        };
        if matches!(architecture, "bitnet-b1.58" | "bitnet-25")
            && source.contains("BITNETAssistant")
        {
            source = BITNET_2B_4T;
        }
        let text = |id: Option<u32>| {
            id.and_then(|id| tokenizer.token_text(id))
                .unwrap_or_default()
        };
        Self::new(source, &text(tokenizer.bos()), &text(tokenizer.eos())).map(Some)
    }

    /// The source of the template that a model file carries: in its metadata, or beside a checkpoint in
    /// `chat_template.jinja` or `tokenizer_config.json`.
    ///
    /// # Errors
    /// If one of them cannot be read or has the wrong type.
    pub fn source_in(file: &ModelFile) -> Result<Option<String>> {
        match file {
            ModelFile::Gguf(file) => Ok(file.string("tokenizer.chat_template")?.map(str::to_owned)),
            ModelFile::SafeTensors(file) => Self::source_beside(file),
        }
    }

    /// As [`ChatTemplate::source_in`], for a checkpoint.
    ///
    /// # Errors
    /// As [`ChatTemplate::source_in`].
    pub(crate) fn source_beside(file: &SafeTensorsModel) -> Result<Option<String>> {
        if let Some(path) = file.sibling("chat_template.jinja") {
            let text = std::fs::read_to_string(&path);
            return text.map(Some).map_err(|error| Error::io(&path, error));
        }
        let config = file.sibling_json("tokenizer_config.json")?;
        let source = config.as_ref().and_then(Self::source_in_config);
        Ok(source.map(str::to_owned))
    }

    /// The template source in a `tokenizer_config.json`: `chat_template`, which is the source or a list of
    /// named ones, of which the one named "default" is taken, or else the first.
    fn source_in_config(config: &serde_json::Value) -> Option<&str> {
        let entry = config.get("chat_template")?;
        entry.as_str().or_else(|| {
            let named = entry.as_array()?;
            let default = named
                .iter()
                .find(|template| template["name"] == "default")
                .or(named.first());
            default?.get("template")?.as_str()
        })
    }

    /// Gives the template the time, in seconds since 1970 (UTC), for `strftime_now`. Without it the function
    /// does not exist, templates that ask for it fall back on a date of their own, and prompts depend on
    /// nothing but the messages.
    #[must_use]
    pub fn with_unix_time(mut self, seconds: i64) -> Self {
        self.environment
            .add_function("strftime_now", move |format: String| {
                python::strftime(seconds, &format)
            });
        self
    }

    /// The source it was compiled from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The prompt as text. With `add_generation_prompt` it ends where the answer begins.
    ///
    /// # Errors
    /// If the template raises one (some insist on alternating roles), or uses up its budget.
    pub fn render(&self, messages: &[ChatMessage], add_generation_prompt: bool) -> Result<String> {
        let template = self.environment.get_template(NAME).map_err(failed)?;
        let turns: Vec<Value> = messages
            .iter()
            .map(|message| {
                Value::from_pairs([
                    ("role", message.role.as_str()),
                    ("content", message.content.as_str()),
                ])
            })
            .collect();
        template
            .render(context! {
                messages => turns,
                add_generation_prompt => add_generation_prompt,
                tools => (),
                documents => (),
                bos_token => self.bos_text.as_str(),
                eos_token => self.eos_text.as_str(),
            })
            .map_err(failed)
    }

    /// The ids of the prompt, up to where the answer begins, with exactly one beginning-of-text token if the
    /// model wants one. Marks count where the template wrote them, never inside messages.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`] and [`Tokenizer::encode`].
    pub fn render_tokens(
        &self,
        messages: &[ChatMessage],
        tokenizer: &Tokenizer,
    ) -> Result<Vec<u32>> {
        let guard = Guard::new(self, messages, tokenizer)?;
        let guarded: Vec<ChatMessage> = messages
            .iter()
            .map(|message| ChatMessage {
                role: guard.protect(&message.role),
                content: guard.protect(&message.content),
            })
            .collect();
        let text = self.render(&guarded, true)?;
        tokenizer.encode_guarded(&text, |plain| guard.restore(plain), tokenizer.add_bos())
    }
}

fn failed(error: minijinja::Error) -> Error {
    Error::Template(error.to_string())
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
        messages: &[ChatMessage],
        tokenizer: &'a Tokenizer,
    ) -> Result<Self> {
        let marks: Vec<&str> = tokenizer.control_texts().collect();
        let private = |c: &char| matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{ffffd}');
        let used: HashSet<char> = messages
            .iter()
            .flat_map(|message| [message.role.as_str(), message.content.as_str()])
            .chain([template.source.as_str()])
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
