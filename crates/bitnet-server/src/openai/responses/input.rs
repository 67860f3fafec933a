//! `input`: a text, or items: messages, calls, results of calls, thoughts.

use crate::body::{Body, kind};
use crate::error::{ApiError, ApiResult};
use crate::message::{self, Answer};
use serde_json::Value;
use std::collections::HashMap;

/// Takes `instructions` and `input`, as messages that templates read.
///
/// # Errors
/// If there is no input, or an item is of no type that is known.
pub(super) fn take(body: &mut Body) -> ApiResult<Vec<Value>> {
    let mut conversation = Conversation::default();
    if let Some(text) = body.take::<String>("instructions")? {
        conversation.ready.push(message::plain("system", text));
    }
    match body.value("input") {
        Some(Value::String(text)) => conversation.ready.push(message::plain("user", text)),
        Some(list @ Value::Array(_)) => {
            let mut items = Body::of(serde_json::json!({"input": list}), "")?;
            for (item, place) in message::list(&mut items, "input")? {
                conversation.push(Body::of(item, &place)?)?;
            }
            conversation.end_answer();
        }
        other => {
            let found = other.as_ref().map_or("none", kind);
            return Err(ApiError::field("input", "a text or a list of items", found));
        }
    }
    Ok(conversation.ready)
}

#[derive(Default)]
struct Conversation {
    ready: Vec<Value>,
    /// The parts of an earlier answer that came so far, each an item of its own.
    answer: Answer,
    /// The functions that calls were of, by the calls' ids.
    names: HashMap<String, String>,
}

impl Conversation {
    /// Adds an item.
    fn push(&mut self, mut item: Body) -> ApiResult<()> {
        let kind: Option<String> = item.take("type")?;
        match kind.as_deref().unwrap_or("message") {
            "message" => self.message(&mut item)?,
            "reasoning" => self.reasoning(&mut item)?,
            "function_call" => {
                let id: String = item.require("call_id")?;
                let name: String = item.require("name")?;
                let arguments = message::arguments(item.require("arguments")?);
                let call = message::call(Some(id.clone()), &name, arguments);
                self.answer.calls.push(call);
                self.names.insert(id, name);
            }
            "function_call_output" => {
                let id: String = item.require("call_id")?;
                let output = message::content(item.value("output"), &item.name("output"))?;
                let output =
                    output.ok_or_else(|| ApiError::field(item.name("output"), "a text", "none"))?;
                self.end_answer();
                let name = self.names.get(&id).cloned();
                self.ready.push(message::result(Some(id), name, output));
            }
            other => {
                let advice =
                    "items are messages, reasoning, and calls of functions with their output";
                let name = format!("{} {other:?}", item.name("type"));
                return Err(ApiError::unsupported(name, advice));
            }
        }
        item.skip(&["id", "status"]);
        item.finish()
    }

    fn message(&mut self, item: &mut Body) -> ApiResult<()> {
        let role: String = item.require("role")?;
        let content = message::content(item.value("content"), &item.name("content"))?;
        let text =
            content.ok_or_else(|| ApiError::field(item.name("content"), "a text", "none"))?;
        item.skip(&["phase"]);
        match role.as_str() {
            "assistant" => {
                // An answer has one text, and its calls follow that.
                if !self.answer.text.is_empty() || !self.answer.calls.is_empty() {
                    self.end_answer();
                }
                self.answer.text = text;
            }
            "user" | "system" | "developer" => {
                self.end_answer();
                let role = if role == "user" { "user" } else { "system" };
                self.ready.push(message::plain(role, text));
            }
            _ => {
                let expected = "user, assistant, system or developer";
                let found = format!("{role:?}");
                return Err(ApiError::field(item.name("role"), expected, found));
            }
        }
        Ok(())
    }

    /// What the model thought, as this server told it.
    fn reasoning(&mut self, item: &mut Body) -> ApiResult<()> {
        if !self.answer.is_empty() {
            self.end_answer();
        }
        let parts: Vec<Value> = item.take("content")?.unwrap_or_default();
        for (index, part) in parts.into_iter().enumerate() {
            let place = format!("{}[{index}]", item.name("content"));
            let mut part = Body::of(part, &place)?;
            part.only("type", &["reasoning_text".into()])?;
            self.answer.thinking += &part.require::<String>("text")?;
            part.finish()?;
        }
        item.only("summary", &[Value::Array(Vec::new())])?;
        Ok(())
    }

    /// Adds the answer whose items came, if any did.
    fn end_answer(&mut self) {
        let answer = std::mem::take(&mut self.answer);
        if !answer.is_empty() {
            self.ready.push(answer.into_message());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn items_of_an_answer_become_one_message() {
        let request = json!({
            "instructions": "Be brief.",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "Look."}]},
                {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Where?"}]},
                {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
                 "content": [{"type": "output_text", "text": "I look.", "annotations": [], "logprobs": []}]},
                {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "look", "arguments": "{\"at\": \"dog\"}"},
                {"type": "function_call", "call_id": "b", "name": "look", "arguments": "at the cat"},
                {"type": "function_call_output", "call_id": "a", "output": "It sleeps."},
                {"type": "message", "role": "assistant", "content": "It sleeps."},
                {"type": "message", "role": "assistant", "content": "So does the cat."},
            ],
        });
        let mut body = Body::of(request, "").expect("an object");
        let messages = take(&mut body).expect("messages");
        let call = |id: &str, arguments: Value| json!({"id": id, "type": "function", "function": {"name": "look", "arguments": arguments}});
        let calls = [
            call("a", json!({"at": "dog"})),
            call("b", json!("at the cat")),
        ];
        let expected = json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Look."},
            {"role": "assistant", "content": "I look.", "reasoning_content": "Where?", "tool_calls": calls},
            {"role": "tool", "content": "It sleeps.", "name": "look", "tool_call_id": "a"},
            {"role": "assistant", "content": "It sleeps."},
            {"role": "assistant", "content": "So does the cat."},
        ]);
        assert_eq!(Value::from(messages), expected);
        body.finish().expect("nothing is left");
    }
}
