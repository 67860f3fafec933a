//! Constraints for the browser: JSON by a schema, a regular expression, a grammar, one of some texts, and calls of tools, which are
//! also read here.
//!
//! A module beside that of models (`crates/bitnet-wasm`), so that a page fetches it when a text of a given form is asked for, and not
//! before. It learns once what the tokens of a model write ([`Grammars`]), compiles a form ([`Constraint`]), and says before
//! each token which ones may come.

mod calls;

use bitnet::Error;
use bitnet::chat::ThinkingOutline;
use bitnet::constraint::{self, Grammar};
use bitnet::tokenizer::TokenWords;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

pub use calls::Reply;

/// The form of a text, as pages write it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum ResponseFormat {
    JsonObject {},
    JsonSchema { schema: Value },
    Regex { regex: String },
    Grammar { grammar: String },
    Choice { choice: Vec<String> },
}

impl From<ResponseFormat> for Grammar {
    fn from(format: ResponseFormat) -> Self {
        match format {
            ResponseFormat::JsonObject {} => Self::JsonObject,
            ResponseFormat::JsonSchema { schema } => Self::JsonSchema(schema),
            ResponseFormat::Regex { regex } => Self::Regex(regex),
            ResponseFormat::Grammar { grammar } => Self::from_text(grammar),
            ResponseFormat::Choice { choice } => Self::Choice(choice),
        }
    }
}

/// The tokens of a model, which its constraints have in common.
#[wasm_bindgen]
pub struct Grammars(constraint::Grammars);

#[wasm_bindgen]
impl Grammars {
    /// The grammars of the model whose engine gave `words`.
    ///
    /// # Errors
    /// If they are none, or no token ends a text.
    #[wasm_bindgen(constructor)]
    pub fn new(words: &[u8]) -> Result<Grammars, JsValue> {
        let words = TokenWords::from_bytes(words).map_err(thrown)?;
        constraint::Grammars::of_words(&words)
            .map(Self)
            .map_err(thrown)
    }

    /// A constraint to `format`, JSON of `{type: "json_object"}`, `{type: "json_schema", schema}`, `{type: "regex", regex}`,
    /// `{type: "grammar", grammar}` (Lark or GBNF) or `{type: "choice", choice}`; behind `thinking`, as the engine says it.
    ///
    /// # Errors
    /// If it is none of these, or its grammar is none, is too long, or would take too much.
    pub fn constraint(
        &self,
        format: &str,
        thinking: Option<String>,
    ) -> Result<Constraint, JsValue> {
        let (grammar, thinking) = read(format, thinking.as_deref()).map_err(thrown)?;
        self.follow(&grammar, thinking).map_err(thrown)
    }

    /// A constraint to an answer of `form`, JSON of a `ReplyForm`, in which the tools of `offer` may be called, or must be; it is of
    /// the form `format` otherwise, if there is one. Nothing where any text may come.
    ///
    /// # Errors
    /// As `constraint`; if a tool is none, or a call is demanded of one that is not there.
    #[wasm_bindgen(js_name = callConstraint)]
    pub fn call_constraint(
        &self,
        form: &str,
        offer: &str,
        format: Option<String>,
        thinking: Option<String>,
    ) -> Result<Option<Constraint>, JsValue> {
        let format = format.as_deref().unwrap_or("null");
        let grammar = calls::grammar(
            form,
            offer,
            parse("responseFormat", format).map_err(thrown)?,
        );
        let Some(grammar) = grammar.map_err(thrown)? else {
            return Ok(None);
        };
        let thinking = parse("thinking", thinking.as_deref().unwrap_or("null"));
        let constraint = self.follow(&grammar, thinking.map_err(thrown)?);
        constraint.map(Some).map_err(thrown)
    }
}

impl Grammars {
    fn follow(
        &self,
        grammar: &Grammar,
        thinking: Option<ThinkingOutline>,
    ) -> bitnet::Result<Constraint> {
        let constraint = match thinking {
            None => self.0.constraint(grammar),
            Some(thinking) => self.0.constraint_behind(grammar, thinking),
        };
        constraint.map(Constraint)
    }
}

/// The form of one text.
#[wasm_bindgen]
pub struct Constraint(constraint::Constraint);

#[wasm_bindgen]
impl Constraint {
    /// The tokens that may follow the tokens of the text so far, of which there are none in the first call: a bit for each. Nothing
    /// while the model thinks, and any may.
    ///
    /// # Errors
    /// If the text has left the form, or what may follow would take too much to find.
    pub fn allowed(&mut self, text: &[u32]) -> Result<Option<Vec<u32>>, JsValue> {
        let mask = self.0.allowed(text).map_err(thrown)?;
        Ok(mask.map(|mask| mask.words().to_vec()))
    }
}

/// Reads the form and the thinking that JavaScript asks for.
fn read(
    format: &str,
    thinking: Option<&str>,
) -> bitnet::Result<(Grammar, Option<ThinkingOutline>)> {
    let format: ResponseFormat = parse("responseFormat", format)?;
    let thinking = parse("thinking", thinking.unwrap_or("null"))?;
    Ok((format.into(), thinking))
}

/// Reads JSON; `what` is what errors call it.
fn parse<T: DeserializeOwned>(what: &'static str, json: &str) -> bitnet::Result<T> {
    serde_json::from_str(json).map_err(|error| Error::Argument {
        what,
        expected: "JSON of a kind that is known".into(),
        found: error.to_string(),
    })
}

/// An error as JavaScript sees it.
fn thrown(error: Error) -> JsValue {
    let thrown = js_sys::Error::new(&error.to_string());
    thrown.set_name("BitNetError");
    // Setting a property of an object made here cannot fail.
    let _ = js_sys::Reflect::set(&thrown, &"code".into(), &"argument".into());
    thrown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read_and_others_refused() {
        let (grammar, thinking) = read(
            r#"{"type":"choice","choice":["a","b"]}"#,
            Some(r#"{"isOpen":true,"marks":[3,4]}"#),
        )
        .expect("a form");
        assert_eq!(grammar, Grammar::Choice(vec!["a".into(), "b".into()]));
        let outline = ThinkingOutline {
            is_open: true,
            marks: Some((3, 4)),
        };
        assert_eq!(thinking, Some(outline));
        for wrong in [
            r#"{"type":"xml"}"#,
            r#"{"type":"regex"}"#,
            r#"{"type":"json_object","schema":{}}"#,
            "{",
        ] {
            let error = read(wrong, None).expect_err(wrong).to_string();
            assert!(error.contains("responseFormat"), "{error}");
        }
    }
}
