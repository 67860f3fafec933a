//! Texts of a given form: JSON by a schema, a regular expression, a grammar, one of some texts.
//!
//! A [`Grammars`] knows a model's tokens; a [`Constraint`] of it is a [`LogitsHook`] that rules out, at each token, what would
//! leave the form. Where few tokens may come next, the head stays screened; where many may, all logits are computed.
//!
//! Grammars come from strangers: how long they may be, and how long they and each token may take, is bounded.

use crate::hook::{HookScope, LogitsHook};
use crate::model::Model;
use crate::tokenizer::TokenKind;
use crate::{Error, Result};
use bitnet_core::Candidate;
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, SimpleVob, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use std::sync::Arc;

/// The longest grammar in bytes.
const LONGEST: usize = 1 << 20;
/// The most tokens that a screened head is asked about beside its likeliest ones.
const FEW: usize = 256;

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
    /// One of some texts.
    Choice(Vec<String>),
}

impl Grammar {
    fn compile(&self) -> Result<TopLevelGrammar> {
        let bytes = match self {
            Self::JsonObject => 0,
            Self::JsonSchema(schema) => schema.to_string().len(),
            Self::Regex(text) | Self::Lark(text) => text.len(),
            Self::Choice(texts) => texts.iter().map(String::len).sum(),
        };
        if bytes > LONGEST {
            return Err(Error::Argument {
                what: "grammar",
                expected: format!("at most {LONGEST} bytes"),
                found: format!("{bytes}"),
            });
        }
        Ok(match self {
            Self::JsonObject => json_grammar(json!({"type": "object"})),
            Self::JsonSchema(schema) => json_grammar(schema.clone()),
            Self::Regex(text) => TopLevelGrammar::from_regex(text),
            Self::Lark(text) => TopLevelGrammar::from_lark(text.clone()),
            Self::Choice(texts) if texts.is_empty() => {
                return Err(Error::Argument {
                    what: "grammar",
                    expected: "at least one text to choose".into(),
                    found: "none".into(),
                });
            }
            // The strings of Lark are those of JSON.
            Self::Choice(texts) => {
                let quoted: Vec<_> = texts.iter().map(|text| json!(text).to_string()).collect();
                TopLevelGrammar::from_lark(format!("start: {}", quoted.join(" | ")))
            }
        })
    }
}

/// The tokens of a model in a tree, which its constraints have in common. Clones share it.
#[derive(Clone)]
pub struct Grammars {
    factory: Arc<ParserFactory>,
    ends: Arc<[u32]>,
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
        let tokenizer = model.tokenizer();
        let ends: Arc<[u32]> = tokenizer.stops().into();
        let Some(end) = ends.first() else {
            return Err(Error::Argument {
                what: "grammar",
                expected: "a model with a token that ends a text".into(),
                found: model.name().into(),
            });
        };
        let words: Vec<Vec<u8>> = (0..model.vocabulary() as u32)
            .map(|id| match tokenizer.token_kind(id) {
                // No text of a grammar is made of marks.
                Some(TokenKind::Control) => {
                    let name = tokenizer.token_text(id).unwrap_or_default();
                    [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_bytes()].concat()
                }
                _ => tokenizer.token_bytes(id).unwrap_or_default().into_owned(),
            })
            .collect();
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
        })
    }

    /// A constraint to a form.
    ///
    /// # Errors
    /// If the grammar is none, is too long, or would take too much.
    pub fn constraint(&self, grammar: &Grammar) -> Result<Constraint> {
        let parser = self.factory.create_parser(grammar.compile()?);
        let matcher = Matcher::new(parser);
        if let Some(error) = matcher.get_error() {
            return Err(refused(error));
        }
        Ok(Constraint {
            matcher,
            ends: Arc::clone(&self.ends),
            after: Vec::new(),
            begins: None,
            taken: Vec::new(),
            mask: None,
            few: None,
        })
    }
}

/// A hook that keeps a text to a form.
pub struct Constraint {
    matcher: Matcher,
    ends: Arc<[u32]>,
    /// The tokens behind which the form begins; where there are none, it begins with the text.
    after: Vec<u32>,
    /// The first token of the form, if it has begun.
    begins: Option<usize>,
    /// The tokens of the form that the matcher has.
    taken: Vec<u32>,
    /// The tokens that may come next; `None` until they are computed.
    mask: Option<SimpleVob>,
    /// The same as a list, if it is short.
    few: Option<Vec<u32>>,
}

impl Constraint {
    /// The same for a model that thinks before it answers: the form begins behind `tokens`, such as that of `</think>`.
    #[must_use]
    pub fn after(mut self, tokens: Vec<u32>) -> Self {
        self.after = tokens;
        self
    }

    /// Brings the matcher to `tokens`, prompt and text; whether the form has begun.
    fn advance(&mut self, tokens: &[u32]) -> Result<bool> {
        let begins = match self.begins {
            Some(begins) => begins,
            // The first call is at the beginning of the text.
            None if self.after.is_empty() => *self.begins.insert(tokens.len()),
            None => {
                if !tokens.ends_with(&self.after) {
                    return Ok(false);
                }
                *self.begins.insert(tokens.len())
            }
        };
        if tokens.len() < begins {
            // The draft in which it began was taken back.
            self.begins = None;
            self.take_back(0)?;
            return Ok(false);
        }
        let text = &tokens[begins..];
        let common = self.taken.iter().zip(text).take_while(|(a, b)| a == b);
        let common = common.count();
        if common < self.taken.len() {
            self.take_back(common)?;
        }
        let new = &text[common..];
        if !new.is_empty() {
            self.matcher.consume_tokens(new).map_err(refused)?;
            self.taken.extend_from_slice(new);
            self.mask = None;
        }
        Ok(true)
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

    /// The tokens that may come next.
    fn mask(&mut self) -> Result<&SimpleVob> {
        if self.mask.is_none() {
            let mut mask = self.matcher.compute_mask_or_eos().map_err(refused)?;
            if self.ends.iter().any(|end| mask.is_allowed(*end)) {
                self.ends.iter().for_each(|end| mask.allow_token(*end));
            }
            self.few = (mask.num_set() <= FEW).then(|| mask.to_list());
            self.mask = Some(mask);
        }
        self.mask.as_ref().ok_or(Error::Stopped)
    }
}

impl LogitsHook for Constraint {
    fn scope(&mut self, tokens: &[u32]) -> Result<HookScope<'_>> {
        if !self.advance(tokens)? {
            return Ok(HookScope::Nothing);
        }
        self.mask()?;
        Ok(match &self.few {
            Some(few) => HookScope::Tokens(few),
            None => HookScope::Vocabulary,
        })
    }

    fn apply(&mut self, tokens: &[u32], candidates: &mut Vec<Candidate>) -> Result<()> {
        if self.advance(tokens)? {
            let mask = self.mask()?;
            let len = mask.len();
            candidates
                .retain(|candidate| (candidate.id as usize) < len && mask.is_allowed(candidate.id));
        }
        Ok(())
    }
}

/// The grammar of a schema. White space is what people and models write, and not as much as a model that loses itself would.
fn json_grammar(mut schema: Value) -> TopLevelGrammar {
    if let Value::Object(fields) = &mut schema {
        let options = json!({"whitespace_pattern": "( |\\n {0,16})?"});
        fields.entry("x-guidance").or_insert(options);
    }
    TopLevelGrammar::from_json_schema(schema)
}

fn refused(error: impl std::fmt::Display) -> Error {
    Error::Argument {
        what: "grammar",
        expected: "one that can be followed".into(),
        found: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Engine, EngineOptions, GenerateOptions, Request, SamplingOptions};

    fn write(grammar: &Grammar, seed: u64) -> String {
        let model = Model::demo().expect("the demo model");
        let grammars = Grammars::new(&model).expect("its tokens");
        let engine = Engine::new(&model, EngineOptions::default()).expect("an engine");
        let constraint = grammars.constraint(grammar).expect("a grammar");
        let options = GenerateOptions {
            max_tokens: 200,
            sampling: SamplingOptions {
                seed,
                temperature: 1.0,
                ..SamplingOptions::default()
            },
            ..GenerateOptions::default()
        };
        let request = Request {
            hook: Some(Box::new(constraint)),
            ..Request::new("Once upon a time", &options)
        };
        let stream = engine.submit(request).expect("a stream");
        stream.text().expect("a text").0
    }

    #[test]
    fn texts_keep_their_form() {
        for seed in 0..4 {
            let text = write(
                &Grammar::Choice(vec!["a dog".into(), "a \"cat\"".into()]),
                seed,
            );
            assert!(text == "a dog" || text == "a \"cat\"", "{text:?}");
            let text = write(&Grammar::Regex("[0-9]{2}-[a-f]{3}".into()), seed);
            assert_eq!(text.len(), 6, "{text:?}");
            assert!(
                text[..2].parse::<u8>().is_ok() && text[2..].starts_with('-'),
                "{text:?}"
            );
            let schema = json!({
                "type": "object", "additionalProperties": false, "required": ["name", "age"],
                "properties": {"name": {"enum": ["Tom", "Mia"]}, "age": {"type": "integer", "minimum": 1, "maximum": 9}},
            });
            let text = write(&Grammar::JsonSchema(schema), seed);
            let value: Value =
                serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
            assert!(["Tom", "Mia"].contains(&value["name"].as_str().expect("a name")));
            assert!((1..=9).contains(&value["age"].as_i64().expect("an age")));
            let text = write(&Grammar::Lark("start: \"x\" | \"y\" start".into()), seed);
            assert!(text.trim_start_matches('y') == "x", "{text:?}");
        }
    }

    #[test]
    fn grammars_that_are_none_or_explode_are_refused() {
        let model = Model::demo().expect("the demo model");
        let grammars = Grammars::new(&model).expect("its tokens");
        let deep = (0..12).fold(
            json!({"type": "string"}),
            |inner, _| json!({"anyOf": [inner.clone(), {"type": "array", "items": inner}]}),
        );
        for grammar in [
            Grammar::Regex("(a".into()),
            Grammar::Lark("begin: \"x\"".into()),
            Grammar::JsonSchema(json!({"type": "colour"})),
            Grammar::JsonSchema(json!({"$ref": "https://example.com/schema"})),
            Grammar::JsonSchema(json!({"allOf": [deep, {"type": "colour"}]})),
            Grammar::Choice(vec![]),
            Grammar::Regex("a".repeat(LONGEST + 1)),
        ] {
            let error = match grammars.constraint(&grammar) {
                // What is only found out at a token is refused there.
                Ok(mut constraint) => constraint.scope(&[1]).err().map(|error| error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            let error = error.unwrap_or_else(|| panic!("{grammar:?} was taken"));
            assert!(error.starts_with("grammar: expected"), "{error}");
        }
        // What is as long when it is written out may be taken, but takes no longer to follow.
        let long = grammars.constraint(&Grammar::Regex("(((a{1000}){1000}){1000}){1000}".into()));
        if let Ok(mut constraint) = long {
            let scope = constraint.scope(&[1]);
            assert!(matches!(scope, Ok(HookScope::Tokens(_)) | Err(_)));
        }
    }
}
