//! Calls of tools: the form of an answer that has them, and what is read from one.

use crate::{ResponseFormat, parse, thrown};
use bitnet::Result;
use bitnet::chat::{ReplyForm, ReplyParser, ReplyPart, Tool};
use bitnet::constraint::{Calls, Demand, Grammar};
use serde::Deserialize;
use serde_json::{Value, json};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

/// The calls that an answer may have, or must.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Offer {
    /// As OpenAI's clients describe them.
    tools: Vec<Value>,
    demand: Demand,
    /// Whether more than one call may come.
    parallel: bool,
}

impl Offer {
    fn tools(&self) -> Result<Vec<Tool>> {
        let numbered = self.tools.iter().enumerate();
        numbered
            .map(|(index, tool)| Tool::parse(tool, &format!("tools[{index}]")))
            .collect()
    }
}

/// The form of an answer with calls; `None` where any text may come.
pub(crate) fn grammar(
    form: &str,
    offer: &str,
    format: Option<ResponseFormat>,
) -> Result<Option<Grammar>> {
    let form: ReplyForm = parse("reply", form)?;
    let offer: Offer = parse("tools", offer)?;
    let tools = offer.tools()?;
    let answer = format.map(Grammar::from);
    Calls::in_reply(form.calls, &tools, &offer.demand, offer.parallel, answer)
}

/// An answer taken apart as it comes: what the model thinks, what it says, and what it calls.
#[wasm_bindgen]
pub struct Reply {
    parser: ReplyParser,
    parallel: bool,
    calls: usize,
}

#[wasm_bindgen]
impl Reply {
    /// An answer of `form`, JSON of a `ReplyForm`, in which the tools of `offer` may be called.
    ///
    /// # Errors
    /// If a tool is none.
    #[wasm_bindgen(constructor)]
    pub fn new(form: &str, offer: &str) -> std::result::Result<Reply, JsValue> {
        Self::read(form, offer).map_err(thrown)
    }

    /// Takes the next piece, and gives the thinking, the text and then the calls that it completes, each JSON with `name` and `arguments`.
    pub fn push(&mut self, piece: &str) -> Vec<String> {
        let parts = self.parser.push(piece);
        self.apart(parts)
    }

    /// The rest, when nothing more comes.
    pub fn finish(&mut self) -> Vec<String> {
        let parts = self.parser.finish();
        self.apart(parts)
    }
}

impl Reply {
    fn read(form: &str, offer: &str) -> Result<Self> {
        let form: ReplyForm = parse("reply", form)?;
        let offer: Offer = parse("tools", offer)?;
        Ok(Self {
            parser: ReplyParser::new(form.options(offer.tools()?)),
            parallel: offer.parallel,
            calls: 0,
        })
    }

    fn apart(&mut self, parts: Vec<ReplyPart>) -> Vec<String> {
        let mut apart = vec![String::new(), String::new()];
        for part in parts {
            match part {
                ReplyPart::Thinking(more) => apart[0] += &more,
                ReplyPart::Text(more) => apart[1] += &more,
                ReplyPart::Call(_) if self.calls > 0 && !self.parallel => {}
                ReplyPart::Call(call) => {
                    self.calls += 1;
                    let arguments = Value::Object(call.arguments).to_string();
                    apart.push(json!({"name": call.name, "arguments": arguments}).to_string());
                }
            }
        }
        apart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &str =
        r#"{"calls":"hermes","thinks":false,"beginsThinking":false,"hasThought":false}"#;
    const TOOL: &str = r#"{"type":"function","function":{"name":"look"}}"#;

    #[test]
    fn offers_become_grammars() {
        let offer = |tools: &str, demand: &str| {
            grammar(
                FORM,
                &format!(r#"{{"tools":[{tools}],"demand":{demand},"parallel":true}}"#),
                None,
            )
        };
        assert_eq!(offer(TOOL, r#""nothing""#).expect("an offer"), None);
        for demand in [r#""any""#, r#"{"named":"look"}"#] {
            let grammar = offer(TOOL, demand).expect("an offer");
            assert!(matches!(grammar, Some(Grammar::Calls(_))), "{grammar:?}");
        }
        for (tools, demand) in [(TOOL, r#"{"named":"other"}"#), ("{}", r#""any""#)] {
            let error = offer(tools, demand).expect_err("no such tool").to_string();
            assert!(error.contains("tool"), "{error}");
        }
    }

    #[test]
    fn calls_are_read_and_no_more_than_may_come() {
        let call = r#"<tool_call>{"name": "look", "arguments": {"at": 1}}</tool_call>"#;
        for (parallel, count) in [(true, 2), (false, 1)] {
            let offer = format!(r#"{{"tools":[{TOOL}],"demand":"any","parallel":{parallel}}}"#);
            let mut reply = Reply::read(FORM, &offer).expect("a form and an offer");
            let mut apart = reply.push(&format!("Well.{call}{call}"));
            apart.extend(reply.finish().split_off(2));
            assert_eq!(apart[..2], ["", "Well."]);
            let expected = json!({"name": "look", "arguments": r#"{"at":1}"#});
            assert_eq!(apart[2..], vec![expected.to_string(); count]);
        }
    }
}
