//! Texts of a given form: JSON by a schema, a regular expression, a grammar, one of some texts.
//!
//! A [`Grammars`] knows a model's tokens; a [`Constraint`] of it is a [`LogitsHook`] that rules out, at each token, what would
//! leave the form. Where few tokens may come next, the head stays screened; where many may, all logits are computed.
//!
//! A model that thinks does so first: [`Grammars::constraint_after`] leaves it alone until then.
//!
//! Grammars come from strangers: how long they may be, and how long they and each token may take, is bounded.

mod calls;
mod depth;
mod gbnf;

use crate::chat::{THINK, THINK_END, Thinking, ThinkingOutline};
use crate::hook::{HookScope, LogitsHook, TokenMask};
use crate::model::Model;
use crate::tokenizer::{TokenWord, TokenWords, Tokenizer};
use crate::{Error, Result};
use bitnet_core::Candidate;
pub use calls::{Calls, Demand, Otherwise};
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory, regex_to_lark};
use serde_json::{Value, json};
use std::sync::Arc;

/// The rule of a grammar that is the text.
const START: &str = "start";
/// The longest grammar in bytes.
const LONGEST: usize = 1 << 20;

/// The form of a text.
#[derive(Debug, Clone, PartialEq)]
pub enum Grammar {
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema describes.
    JsonSchema(Value),
    /// A text that a regular expression matches as a whole.
    Regex(String),
    /// A grammar in the notation of Lark, whose rule `start` is the text.
    Lark(String),
    /// A grammar in the notation of llama.cpp, whose rule `root` is the text. Tokens in it are refused.
    Gbnf(String),
    /// One of some texts.
    Choice(Vec<String>),
    /// Calls of tools.
    Calls(Box<Calls>),
}

impl Grammar {
    /// A grammar in either of the two notations: GBNF if its first rule has `::=` behind its name, or else Lark.
    pub fn from_text(text: impl Into<String>) -> Self {
        let text = text.into();
        if gbnf::is_gbnf(&text) {
            Self::Gbnf(text)
        } else {
            Self::Lark(text)
        }
    }

    /// The rules of the form in the notation of Lark; the first one is called `name`.
    fn rules(&self, name: &str) -> Result<String> {
        Ok(match self {
            Self::JsonObject => format!("{name}: {}\n", json_text(&json!({"type": "object"}))),
            Self::JsonSchema(schema) => format!("{name}: {}\n", json_text(schema)),
            Self::Regex(text) => format!("{name}: /{}/\n", regex_to_lark(text, "")),
            Self::Lark(text) if name == START => text.clone(),
            Self::Lark(text) => format!("{name}: %lark {{\n{text}\n}}\n"),
            Self::Gbnf(text) => gbnf::to_lark(text, name)?,
            Self::Choice(texts) if texts.is_empty() => {
                return Err(argument("grammar", "at least one text to choose", "none"));
            }
            Self::Choice(texts) => {
                let quoted: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
                format!("{name}: {}\n", quoted.join(" | "))
            }
            Self::Calls(calls) => calls.rules(name)?,
        })
    }

    /// The grammar of the form; behind thinking, if it is to be part of the grammar.
    fn compile(&self, thinking: Option<ThinkingOutline>) -> Result<TopLevelGrammar> {
        // What is too long is not written out.
        let size = match self {
            Self::JsonObject | Self::Calls(_) => 0,
            Self::JsonSchema(schema) => schema.to_string().len(),
            Self::Regex(text) | Self::Lark(text) | Self::Gbnf(text) => text.len(),
            Self::Choice(texts) => texts.iter().map(String::len).sum(),
        };
        let rules = match thinking {
            _ if size > LONGEST => String::new(),
            None => self.rules(START)?,
            Some(thinking) => {
                let open = quoted(if thinking.is_open { "" } else { THINK });
                let rest = if thinking.is_open { "" } else { " | form" };
                let end = quoted(THINK_END);
                let form = self.rules("form")?;
                format!(
                    "{START}: thinking /\\n{{1,2}}/? form{rest}\n\
                     thinking[suffix={end}]: {open} /(?s:.*)/\n{form}"
                )
            }
        };
        let size = size.max(rules.len());
        if size > LONGEST {
            let expected = format!("at most {LONGEST} bytes");
            return Err(argument("grammar", expected, size.to_string()));
        }
        depth::check(&rules)?;
        Ok(TopLevelGrammar::from_lark(rules))
    }
}

/// The tokens of a model in a tree, which its constraints have in common. Clones share it.
#[derive(Clone)]
pub struct Grammars {
    factory: Arc<ParserFactory>,
    ends: Arc<[u32]>,
    breaks: Arc<[u32]>,
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammars")
            .field("ends", &self.ends)
            .finish()
    }
}

impl Grammars {
    /// The grammars of a model. Takes a second for a large vocabulary: keep it.
    ///
    /// # Errors
    /// If the model has no token that ends a text.
    pub fn new(model: &Model) -> Result<Self> {
        Self::of_tokenizer(model.tokenizer(), model.vocabulary())
    }

    /// The grammars of models with this tokenizer and logits for `vocabulary` tokens.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_tokenizer(tokenizer: &Tokenizer, vocabulary: usize) -> Result<Self> {
        Self::of_words(&TokenWords::of(tokenizer, vocabulary))
    }

    /// The grammars of models whose tokens write `words`, and which have logits for as many.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_words(words: &TokenWords) -> Result<Self> {
        let ends: Arc<[u32]> = words.ends.as_slice().into();
        let Some(end) = ends.first() else {
            let expected = "a vocabulary with a token that ends a text";
            return Err(argument("grammar", expected, "none"));
        };
        let words: Vec<Vec<u8>> = (words.words.iter())
            .map(|word| match word {
                TokenWord::Text(word) => word.clone(),
                // No text of a grammar is made of marks.
                TokenWord::Mark(name) => [&[TokTrie::SPECIAL_TOKEN_MARKER], &name[..]].concat(),
            })
            .collect();
        let is_break = |word: &[u8]| matches!(word, b"\n" | b"\n\n");
        let breaks = (0..).zip(&words).filter(|(_, word)| is_break(word));
        let breaks = breaks.map(|(id, _)| id).collect();
        let info = TokRxInfo::new(words.len() as u32, *end);
        let trie = TokTrie::from(&info, &words).with_eos_tokens(&ends);
        let tokens: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&tokens).map_err(refused)?;
        *factory.limits_mut() = ParserLimits {
            max_grammar_size: 200_000,
            max_lexer_states: 100_000,
            verbose_errors: false,
            ..factory.limits().clone()
        };
        factory.quiet();
        Ok(Self {
            factory: Arc::new(factory),
            ends,
            breaks,
        })
    }

    /// A constraint to a form.
    ///
    /// # Errors
    /// If the grammar is none, is too long, or would take too much.
    pub fn constraint(&self, grammar: &Grammar) -> Result<Constraint> {
        self.follow(grammar.compile(None)?, None)
    }

    /// The same for a model that thinks before it answers: the form begins behind that, and a line break.
    ///
    /// Where the marks of thinking are tokens, the model is left alone until the last of them. Where they are mere text, thinking is
    /// part of the grammar, and all logits are computed.
    ///
    /// # Errors
    /// As [`constraint`](Self::constraint).
    pub fn constraint_after(&self, grammar: &Grammar, thinking: &Thinking) -> Result<Constraint> {
        self.constraint_behind(grammar, thinking.outline())
    }

    /// [`constraint_after`](Self::constraint_after) thinking of which no more is known.
    ///
    /// # Errors
    /// As [`constraint`](Self::constraint).
    pub fn constraint_behind(
        &self,
        grammar: &Grammar,
        thinking: ThinkingOutline,
    ) -> Result<Constraint> {
        match thinking.marks {
            Some((begin, end)) => {
                let begin = (!thinking.is_open).then_some(begin);
                self.follow(grammar.compile(None)?, Some(Marks { begin, end }))
            }
            None => self.follow(grammar.compile(Some(thinking))?, None),
        }
    }

    fn follow(&self, grammar: TopLevelGrammar, thinking: Option<Marks>) -> Result<Constraint> {
        let matcher = depth::on_a_deep_stack(|| Matcher::new(self.factory.create_parser(grammar)))?;
        if let Some(error) = matcher.get_error() {
            return Err(refused(error));
        }
        Ok(Constraint {
            matcher,
            ends: Arc::clone(&self.ends),
            breaks: Arc::clone(&self.breaks),
            thinking,
            start: None,
            thought: None,
            taken: Vec::new(),
            mask: None,
        })
    }
}

/// The tokens around thinking; none begins it where the prompt has done so.
#[derive(Debug, Clone, Copy)]
struct Marks {
    begin: Option<u32>,
    end: u32,
}

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The model thinks.
    Thinking,
    /// The form is due: after that many tokens of the text.
    Form(usize),
    /// The same, but thinking may begin first.
    BeforeThinking,
    /// The same at the end of thinking, after which a line may end.
    AfterThinking(usize),
}

/// A hook that keeps a text to a form.
pub struct Constraint {
    matcher: Matcher,
    ends: Arc<[u32]>,
    /// Tokens that are nothing but one or two line breaks.
    breaks: Arc<[u32]>,
    thinking: Option<Marks>,
    /// Tokens before the text, once they are known.
    start: Option<usize>,
    /// Tokens of the text up to the end of thinking, if that has come.
    thought: Option<usize>,
    /// The tokens of the form that the matcher has.
    taken: Vec<u32>,
    /// The tokens that may come next, and where; `None` until they are computed.
    mask: Option<(Place, TokenMask)>,
}

impl Constraint {
    /// Where the end of `text` is.
    fn place(&mut self, text: &[u32]) -> Place {
        let Some(Marks { begin, end }) = self.thinking else {
            return Place::Form(0);
        };
        if begin.is_some() {
            match text.first() {
                None => return Place::BeforeThinking,
                first if first != begin.as_ref() => return Place::Form(0),
                _ => {}
            }
        }
        // Each token is seen when it is the last; a draft that is taken back may take the end along.
        match self.thought {
            Some(thought) if thought <= text.len() => {}
            _ => self.thought = (text.last() == Some(&end)).then_some(text.len()),
        }
        match self.thought.map(|thought| (thought, text.get(thought))) {
            None => Place::Thinking,
            Some((thought, None)) => Place::AfterThinking(thought),
            Some((thought, Some(next))) => {
                Place::Form(thought + usize::from(self.breaks.contains(next)))
            }
        }
    }

    /// Brings the matcher to `tokens`, prompt and text; where that is.
    fn advance(&mut self, tokens: &[u32]) -> Result<Place> {
        // The first call is at the beginning of the text.
        let start = *self.start.get_or_insert(tokens.len());
        let text = tokens.get(start..).unwrap_or_default();
        let place = self.place(text);
        let form = match place {
            Place::Thinking | Place::BeforeThinking => &[],
            Place::Form(begin) | Place::AfterThinking(begin) => &text[begin..],
        };
        let common = self.taken.iter().zip(form).take_while(|(a, b)| a == b);
        let common = common.count();
        if common < self.taken.len() {
            self.take_back(common)?;
        }
        let new = &form[common..];
        if !new.is_empty() {
            self.matcher.consume_tokens(new).map_err(refused)?;
            self.taken.extend_from_slice(new);
            self.mask = None;
        }
        Ok(place)
    }

    /// Takes all tokens back but the first `kept`.
    fn take_back(&mut self, kept: usize) -> Result<()> {
        let count = self.taken.len() - kept;
        if count > 0 {
            self.matcher.rollback(count).map_err(refused)?;
            self.taken.truncate(kept);
            self.mask = None;
        }
        Ok(())
    }

    /// The tokens that may come next at `place`, which the matcher is at.
    fn mask(&mut self, place: Place) -> Result<&TokenMask> {
        if self.mask.as_ref().is_none_or(|(known, _)| *known != place) {
            let mut mask = self.matcher.compute_mask_or_eos().map_err(refused)?;
            if self.ends.iter().any(|end| mask.is_allowed(*end)) {
                self.ends.iter().for_each(|end| mask.allow_token(*end));
            }
            match (place, self.thinking) {
                (Place::BeforeThinking, Some(marks)) => {
                    marks.begin.iter().for_each(|id| mask.allow_token(*id));
                }
                (Place::AfterThinking(_), _) => {
                    self.breaks.iter().for_each(|id| mask.allow_token(*id));
                }
                _ => {}
            }
            self.mask = Some((place, TokenMask::new(mask.as_slice().to_vec())));
        }
        let mask = self.mask.as_ref();
        mask.map(|(_, mask)| mask).ok_or(Error::Stopped)
    }

    /// The tokens that may follow `tokens`, prompt and text, of which the first call has the prompt alone; `None` while the model
    /// thinks and any may.
    ///
    /// # Errors
    /// If the text has left the form, or what may follow would take too much to find.
    pub fn allowed(&mut self, tokens: &[u32]) -> Result<Option<&TokenMask>> {
        match self.advance(tokens)? {
            Place::Thinking => Ok(None),
            place => self.mask(place).map(Some),
        }
    }
}

impl LogitsHook for Constraint {
    fn scope(&mut self, tokens: &[u32]) -> Result<HookScope<'_>> {
        let mask = self.allowed(tokens)?;
        Ok(mask.map_or(HookScope::Nothing, TokenMask::scope))
    }

    fn apply(&mut self, tokens: &[u32], candidates: &mut Vec<Candidate>) -> Result<()> {
        if let Some(mask) = self.allowed(tokens)? {
            mask.keep(candidates);
        }
        Ok(())
    }
}

/// The expression of JSON by a schema. White space is what people and models write, and not as much as a model that loses itself
/// would.
fn json_text(schema: &Value) -> String {
    let mut schema = match schema {
        Value::Bool(true) => json!({}),
        schema => schema.clone(),
    };
    if let Value::Object(fields) = &mut schema {
        let options = json!({"whitespace_pattern": "( |\\n {0,16})?"});
        fields.entry("x-guidance").or_insert(options);
    }
    format!("%json {schema}")
}

/// The expression of a text. The strings of Lark are those of JSON, but for one letter.
fn quoted(text: &str) -> String {
    json!(text).to_string().replace('\u{7f}', "\\u007f")
}

fn argument(what: &'static str, expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::Argument {
        what,
        expected: expected.into(),
        found: found.into(),
    }
}

fn refused(error: impl std::fmt::Display) -> Error {
    argument("grammar", "one that can be followed", error.to_string())
}

#[cfg(test)]
mod tests;
