//! The thinking at the beginning of a reply, in tokens: where it ends, and how long it may be.

use super::{CallFormat, ChatTemplate, ReplyOptions, THINK, THINK_END, Tool};
use crate::Result;
use crate::hook::{HookScope, LogitsHook};
use crate::tokenizer::{EncodeOptions, Tokenizer};
use bitnet_core::Candidate;
use serde::{Deserialize, Serialize};

/// The form of a reply, by a chat template and a prompt that it wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplyForm {
    /// The form of calls that the template asks for.
    pub calls: CallFormat,
    /// Whether the template knows of thinking.
    thinks: bool,
    /// Whether the prompt ends within the thinking.
    begins_thinking: bool,
    /// Whether the prompt ends behind it.
    has_thought: bool,
}

impl ReplyForm {
    /// The form of replies to `prompt`, which `template` wrote.
    pub fn of(template: &ChatTemplate, tokenizer: &Tokenizer, prompt: &[u32]) -> Self {
        /// Tokens that the end of the prompt is looked for in.
        const END: usize = 8;
        let end = tokenizer.decode(&prompt[prompt.len().saturating_sub(END)..]);
        let end = end.trim_end();
        let source = template.source().unwrap_or_default();
        Self {
            calls: CallFormat::of_template(source),
            thinks: source.contains(THINK_END),
            begins_thinking: end.ends_with(THINK),
            has_thought: end.ends_with(THINK_END),
        }
    }

    /// How replies are read, with the tools that were offered.
    pub fn options(&self, tools: Vec<Tool>) -> ReplyOptions {
        ReplyOptions {
            thinks: self.thinks,
            begins_thinking: self.begins_thinking,
            tools: (!tools.is_empty()).then_some((self.calls, tools)),
        }
    }

    /// The thinking before the answer; `None` where there is none.
    ///
    /// # Errors
    /// If the vocabulary cannot write its marks.
    pub fn thinking(&self, tokenizer: &Tokenizer) -> Result<Option<Thinking>> {
        if !self.begins_thinking && (!self.thinks || self.has_thought) {
            return Ok(None);
        }
        Thinking::new(tokenizer, self.begins_thinking).map(Some)
    }
}

/// The thinking of a reply: a text from `<think>`, or from the beginning if the prompt ends with that, up to `</think>`.
#[derive(Debug, Clone)]
pub struct Thinking {
    tokenizer: Tokenizer,
    is_open: bool,
    begin: Vec<u32>,
    end: Vec<u32>,
}

/// The thinking before an answer, as far as constraints need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ThinkingOutline {
    /// Whether the prompt has begun it already.
    pub is_open: bool,
    /// The tokens that begin and end it, if each mark is one token: the model then writes it so.
    pub marks: Option<(u32, u32)>,
}

impl Thinking {
    /// The thinking of a reply; `is_open` says whether the prompt has begun it already.
    ///
    /// # Errors
    /// If the vocabulary cannot write its marks.
    pub fn new(tokenizer: &Tokenizer, is_open: bool) -> Result<Self> {
        let options = EncodeOptions {
            add_bos: false,
            parse_special: true,
        };
        Ok(Self {
            is_open,
            begin: tokenizer.encode(THINK, options)?,
            end: tokenizer.encode(THINK_END, options)?,
            tokenizer: tokenizer.clone(),
        })
    }

    /// The outline that constraints need.
    pub fn outline(&self) -> ThinkingOutline {
        ThinkingOutline {
            is_open: self.is_open,
            marks: match (self.begin.as_slice(), self.end.as_slice()) {
                ([begin], [end]) => Some((*begin, *end)),
                _ => None,
            },
        }
    }

    /// A hook that ends it after `tokens` tokens, if it has not ended by then.
    pub fn budget(self, tokens: usize) -> ThinkingBudget {
        ThinkingBudget {
            thinking: self,
            most: tokens,
            start: None,
        }
    }
}

/// A hook that ends thinking which takes too long.
#[derive(Debug, Clone)]
pub struct ThinkingBudget {
    thinking: Thinking,
    most: usize,
    /// Tokens before the reply.
    start: Option<usize>,
}

impl ThinkingBudget {
    /// How many tokens of the closing mark are there, if the next one is due.
    fn due(&mut self, tokens: &[u32]) -> Option<usize> {
        // The first call is at the beginning of the reply.
        let start = *self.start.get_or_insert(tokens.len());
        let text = tokens.get(start..)?;
        let Thinking {
            tokenizer,
            is_open,
            end,
            ..
        } = &self.thinking;
        // However its mark is written in tokens, and white space before it.
        let begin = if *is_open {
            0
        } else {
            let most = text.len().min(THINK.len() + 2);
            (1..=most).find(|count| {
                let begun = tokenizer.decode(&text[..*count]);
                begun.trim_start().starts_with(THINK)
            })?
        };
        let thought = &text[begin..];
        // The mark does not come amid a character, which a token may end within.
        let most = (self.most..self.most.saturating_add(CHARACTER))
            .find(|count| {
                (thought.get(..*count)).is_none_or(|thought| is_whole(tokenizer, thought))
            })
            .unwrap_or(self.most);
        let written = thought.len().checked_sub(most)?;
        if written >= end.len() || thought[most..] != end[..written] {
            return None;
        }
        let has_ended = tokenizer.decode(&thought[..most]).contains(THINK_END);
        (!has_ended).then_some(written)
    }
}

/// Bytes of the longest character.
const CHARACTER: usize = 4;

/// Whether the last character of a text is whole.
fn is_whole(tokenizer: &Tokenizer, tokens: &[u32]) -> bool {
    let last = &tokens[tokens.len().saturating_sub(CHARACTER)..];
    let bytes: Vec<u8> = last
        .iter()
        .filter_map(|id| tokenizer.token_bytes(*id))
        .flat_map(|bytes| bytes.into_owned())
        .collect();
    let rest = bytes
        .utf8_chunks()
        .last()
        .map_or(&[][..], |chunk| chunk.invalid());
    // Nothing is wrong with it but its end.
    !std::str::from_utf8(rest).is_err_and(|error| error.error_len().is_none())
}

impl LogitsHook for ThinkingBudget {
    fn scope(&mut self, tokens: &[u32]) -> Result<HookScope<'_>> {
        Ok(match self.due(tokens) {
            Some(written) => HookScope::Tokens(&self.thinking.end[written..=written]),
            None => HookScope::Nothing,
        })
    }

    fn apply(&mut self, tokens: &[u32], candidates: &mut Vec<Candidate>) -> Result<()> {
        if let Some(written) = self.due(tokens) {
            let next = self.thinking.end[written];
            candidates.retain(|candidate| candidate.id == next);
        }
        Ok(())
    }
}
