//! Replies of models, taken apart as they come: thinking, the answer, and calls of tools.
//!
//! Models mark these in their text: thinking ends with `</think>`, calls stand in `<tool_call>` or are the whole answer. A mark
//! that is spread over pieces is held back until it is known to be one; everything else goes on at once.
//!
//! A near call, such as one with a comma too many, or of a tool that was not offered, is text: it is never guessed what the model may
//! have meant.

mod calls;

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) const THINK: &str = "<think>";
pub(crate) const THINK_END: &str = "</think>";
pub(crate) const CALL: &str = "<tool_call>";
pub(crate) const CALL_END: &str = "</tool_call>";

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// The JSON Schema of its arguments, if there is one. Tells strings from numbers where a model's form of calls does not.
    pub parameters: Option<Value>,
    /// Whether its arguments are written by that schema where no call is demanded, too.
    pub strict: bool,
}

impl Tool {
    /// A tool as OpenAI's clients describe it: `{"type": "function", "function": {"name": …, "parameters": {…}}}`.
    ///
    /// # Errors
    /// [`Error::Argument`] if it is no function with a name. `place` says which one it is.
    pub fn parse(tool: &Value, place: &str) -> Result<Self> {
        let refused = |expected: &str, found: Option<&Value>| Error::Argument {
            what: "tools",
            expected: format!("{expected} in {place}"),
            found: found.map_or_else(|| "none".into(), Value::to_string),
        };
        let kind = tool.get("type");
        if kind.and_then(Value::as_str) != Some("function") {
            return Err(refused("the type \"function\"", kind));
        }
        let function = tool.get("function").unwrap_or(&Value::Null);
        let name = function.get("name");
        let text = name.and_then(Value::as_str).filter(|name| !name.is_empty());
        let text = text.ok_or_else(|| refused("a function with a name", name))?;
        let parameters = function.get("parameters");
        Ok(Self {
            name: text.to_owned(),
            parameters: parameters.filter(|value| !value.is_null()).cloned(),
            strict: function.get("strict") == Some(&Value::Bool(true)),
        })
    }
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// The tool's name, one of those that were offered.
    pub name: String,
    /// A JSON object.
    pub arguments: serde_json::Map<String, Value>,
}

/// How a model writes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CallFormat {
    /// `<tool_call>{"name": …, "arguments": {…}}</tool_call>`: Qwen 2.5 and 3, Hermes.
    Hermes,
    /// `<tool_call><function=…><parameter=…>…</parameter></function></tool_call>`: Qwen 3.5, Bonsai 2.
    Xml,
    /// The whole answer is `{"name": …, "parameters": {…}}`: Llama 3.1.
    Json,
    /// The whole answer is `[name(argument=value), …]`: Llama 3.2, and Falcon.
    Pythonic,
}

impl CallFormat {
    /// The form that a chat template asks for, by the marks in its source.
    pub fn of_template(source: &str) -> Self {
        if source.contains("<function=") {
            Self::Xml
        } else if source.contains(CALL) {
            Self::Hermes
        } else if source.contains("[func_name1(") {
            Self::Pythonic
        } else {
            Self::Json
        }
    }

    /// Whether calls stand between marks, in an answer that goes on around them.
    pub fn has_marks(self) -> bool {
        matches!(self, Self::Hermes | Self::Xml)
    }
}

/// A part of a reply.
#[derive(Debug, Clone, PartialEq)]
pub enum ReplyPart {
    /// More of what the model thinks before it answers.
    Thinking(String),
    /// More of the answer.
    Text(String),
    /// A call.
    Call(ToolCall),
}

/// The parts that a reply may have.
#[derive(Debug, Clone, Default)]
pub struct ReplyOptions {
    /// Whether the model thinks before it answers.
    pub thinks: bool,
    /// Whether the prompt has opened the thinking already.
    pub begins_thinking: bool,
    /// The tools that may be called, and how.
    pub tools: Option<(CallFormat, Vec<Tool>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but white space was written: thinking may begin, or a call that is the whole answer.
    Start,
    Thinking,
    Text,
    Call,
    /// All there is may be a call.
    Whole,
}

/// The readers of calls: of one between marks, and of those that a whole answer is.
#[derive(Debug, Clone, Copy)]
struct ReadCalls {
    marked: fn(CallFormat, &str, &[Tool]) -> Option<ToolCall>,
    whole: fn(CallFormat, &str, &[Tool]) -> Option<Vec<ToolCall>>,
}

/// Takes a reply apart.
#[derive(Debug, Clone)]
pub struct ReplyParser {
    options: ReplyOptions,
    /// How calls are read, if they are.
    read: Option<ReadCalls>,
    state: State,
    /// Text that is not given out yet.
    held: String,
    /// Whether the white space at the beginning of the answer, which parts it from the thinking, is to be dropped.
    trims: bool,
}

impl ReplyParser {
    /// A parser at the beginning of a reply.
    pub fn new(options: ReplyOptions) -> Self {
        let read = ReadCalls {
            marked: calls::marked,
            whole: calls::whole,
        };
        Self {
            read: Some(read),
            ..Self::without_calls(options)
        }
    }

    /// A parser that leaves calls in the text, whatever tools there are. A program that has no other is without the code for calls.
    pub fn without_calls(options: ReplyOptions) -> Self {
        let state = if options.begins_thinking {
            State::Thinking
        } else {
            State::Start
        };
        Self {
            options,
            read: None,
            state,
            held: String::new(),
            trims: false,
        }
    }

    /// Whether the model is thinking.
    pub fn is_thinking(&self) -> bool {
        self.state == State::Thinking
    }

    /// The parts that `text` completes.
    pub fn push(&mut self, text: &str) -> Vec<ReplyPart> {
        self.held += text;
        let mut parts = Vec::new();
        while self.advance(&mut parts) {}
        parts
    }

    /// The rest, when nothing more comes.
    pub fn finish(&mut self) -> Vec<ReplyPart> {
        let mut held = std::mem::take(&mut self.held);
        if self.trims && self.state != State::Call {
            held.drain(..held.len() - held.trim_start().len());
        }
        let mut parts = Vec::new();
        match (self.state, self.calls()) {
            (State::Whole, Some((read, format, tools))) => match (read.whole)(format, &held, tools)
            {
                Some(calls) => parts.extend(calls.into_iter().map(ReplyPart::Call)),
                None => push_text(&mut parts, held),
            },
            (State::Thinking, _) => push_thinking(&mut parts, held),
            // The end of the text ends a call, too.
            (State::Call, Some((read, format, tools))) => match (read.marked)(format, &held, tools)
            {
                Some(call) => parts.push(ReplyPart::Call(call)),
                None => push_text(&mut parts, CALL.to_owned() + &held),
            },
            _ => push_text(&mut parts, held),
        }
        self.state = State::Text;
        parts
    }

    /// Does one thing; whether there may be more to do.
    fn advance(&mut self, parts: &mut Vec<ReplyPart>) -> bool {
        match self.state {
            State::Start => self.begin(),
            State::Thinking => {
                let (thought, ended) = self.take_until(THINK_END);
                push_thinking(parts, thought);
                if ended {
                    // The answer may be a call as a whole.
                    self.state = State::Start;
                    self.options.thinks = false;
                    self.trims = true;
                }
                ended
            }
            State::Text => {
                if self.trims {
                    let kept = self.held.trim_start().len();
                    self.held.drain(..self.held.len() - kept);
                    if kept == 0 {
                        return false;
                    }
                    self.trims = false;
                }
                if !self.has_marked_calls() {
                    push_text(parts, std::mem::take(&mut self.held));
                    return false;
                }
                let (text, ended) = self.take_until(CALL);
                push_text(parts, text);
                if ended {
                    self.state = State::Call;
                }
                ended
            }
            State::Call => {
                let Some(end) = self.held.find(CALL_END) else {
                    return false;
                };
                let body: String = self.held.drain(..end).collect();
                self.held.drain(..CALL_END.len());
                let calls = self.calls();
                match calls.and_then(|(read, format, tools)| (read.marked)(format, &body, tools)) {
                    Some(call) => parts.push(ReplyPart::Call(call)),
                    None => push_text(parts, [CALL, &body, CALL_END].concat()),
                }
                self.state = State::Text;
                self.trims = true;
                true
            }
            State::Whole => false,
        }
    }

    /// Looks at the beginning of a reply; whether it is known what it is.
    fn begin(&mut self) -> bool {
        let text = self.held.trim_start();
        let Some(first) = text.chars().next() else {
            return false;
        };
        let whole = match self.calls() {
            Some((_, CallFormat::Json, _)) => first == '{',
            Some((_, CallFormat::Pythonic, _)) => first == '[',
            _ => false,
        };
        if whole {
            self.state = State::Whole;
        } else if self.options.thinks && text.starts_with(THINK) {
            let skipped = self.held.len() - text.len() + THINK.len();
            self.held.drain(..skipped);
            self.state = State::Thinking;
        } else if self.options.thinks && THINK.starts_with(text) {
            return false;
        } else {
            self.state = State::Text;
        }
        self.state != State::Whole
    }

    fn has_marked_calls(&self) -> bool {
        self.calls()
            .is_some_and(|(_, format, _)| format.has_marks())
    }

    /// How calls are read, and of which tools; `None` where there are none.
    fn calls(&self) -> Option<(ReadCalls, CallFormat, &[Tool])> {
        let (format, tools) = self.options.tools.as_ref()?;
        Some((self.read?, *format, tools))
    }

    /// Takes what stands before `mark`, and the mark; or what surely stands before one.
    fn take_until(&mut self, mark: &str) -> (String, bool) {
        if let Some(place) = self.held.find(mark) {
            let before = self.held.drain(..place).collect();
            self.held.drain(..mark.len());
            return (before, true);
        }
        let begun = (1..mark.len())
            .rev()
            .find(|&len| self.held.ends_with(&mark[..len]))
            .unwrap_or(0);
        let kept = self.held.split_off(self.held.len() - begun);
        (std::mem::replace(&mut self.held, kept), false)
    }
}

fn push_text(parts: &mut Vec<ReplyPart>, text: String) {
    if !text.is_empty() {
        parts.push(ReplyPart::Text(text));
    }
}

fn push_thinking(parts: &mut Vec<ReplyPart>, text: String) {
    if !text.is_empty() {
        parts.push(ReplyPart::Thinking(text));
    }
}

#[cfg(test)]
mod tests;
