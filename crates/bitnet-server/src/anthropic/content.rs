//! Messages of content blocks, as chat templates read them.

use crate::body::Body;
use crate::error::{ApiError, ApiResult};
use crate::message::{self, Answer};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Takes `system` and `messages`.
///
/// # Errors
/// If there are no messages, or one has a role or a block that is not known.
pub(super) fn take(body: &mut Body) -> ApiResult<Vec<Value>> {
    let system = body.value("system");
    let system = message::content(system, &body.name("system"))?;
    let mut ready: Vec<Value> = Vec::new();
    ready.extend(system.map(|text| message::plain("system", text)));
    let mut conversation = Conversation {
        ready,
        names: HashMap::new(),
    };
    let mut last = String::new();
    for (message, place) in message::list(body, "messages")? {
        last = conversation.push(message, &place)?;
    }
    if last == "assistant" {
        let advice = "the model begins its answers itself; end with a message of the user";
        return Err(ApiError::unsupported(
            "a last message of the assistant",
            advice,
        ));
    }
    Ok(conversation.ready)
}

struct Conversation {
    ready: Vec<Value>,
    /// The tools that calls were of, by the calls' ids.
    names: HashMap<String, String>,
}

impl Conversation {
    /// Adds a message; its role.
    fn push(&mut self, message: Value, place: &str) -> ApiResult<String> {
        let mut body = Body::of(message, place)?;
        let role: String = body.require("role")?;
        let blocks = match body.value("content") {
            Some(Value::Array(blocks)) if role != "system" => blocks,
            content => {
                let text = message::content(content, &body.name("content"))?;
                let text = text.ok_or_else(|| {
                    ApiError::field(body.name("content"), "a text or a list of blocks", "none")
                })?;
                vec![serde_json::json!({"type": "text", "text": text})]
            }
        };
        let content = body.name("content");
        let places = (0..).map(|index| format!("{content}[{index}]"));
        let blocks = blocks.into_iter().zip(places);
        match role.as_str() {
            "user" => self.user(blocks)?,
            "assistant" => self.assistant(blocks)?,
            "system" => {
                for (block, place) in blocks {
                    let (block, kind) = open(block, &place)?;
                    let text = message::text(block, &kind, &place)?;
                    self.ready.push(message::plain("system", text));
                }
            }
            _ => {
                let expected = "user, assistant or system";
                let found = format!("{role:?}");
                return Err(ApiError::field(body.name("role"), expected, found));
            }
        }
        body.finish()?;
        Ok(role)
    }

    /// A user's message: texts, and results of calls, which are messages of their own.
    fn user(&mut self, blocks: impl Iterator<Item = (Value, String)>) -> ApiResult<()> {
        let mut texts: Option<String> = None;
        for (block, place) in blocks {
            let (mut block, kind) = open(block, &place)?;
            if kind != "tool_result" {
                *texts.get_or_insert_default() += &message::text(block, &kind, &place)?;
                continue;
            }
            self.ready
                .extend(texts.take().map(|text| message::plain("user", text)));
            let id: String = block.require("tool_use_id")?;
            let content = message::content(block.value("content"), &block.name("content"))?;
            let mut content = content.unwrap_or_default();
            if block.take("is_error")?.unwrap_or(false) {
                // Templates have no other place for it.
                content.insert_str(0, "Error: ");
            }
            block.skip(&["cache_control"]);
            block.finish()?;
            let name = self.names.get(&id).cloned();
            self.ready.push(message::result(Some(id), name, content));
        }
        self.ready
            .extend(texts.map(|text| message::plain("user", text)));
        Ok(())
    }

    /// An earlier answer.
    fn assistant(&mut self, blocks: impl Iterator<Item = (Value, String)>) -> ApiResult<()> {
        let mut answer = Answer::default();
        for (block, place) in blocks {
            let (mut block, kind) = open(block, &place)?;
            match kind.as_str() {
                "thinking" => {
                    answer.thinking += &block.require::<String>("thinking")?;
                    block.skip(&["signature"]);
                    block.finish()?;
                }
                "tool_use" => {
                    let id: String = block.require("id")?;
                    let name: String = block.require("name")?;
                    let input: Map<String, Value> = block.require("input")?;
                    block.skip(&["cache_control", "caller"]);
                    block.finish()?;
                    let call = message::call(Some(id.clone()), &name, input.into());
                    answer.calls.push(call);
                    self.names.insert(id, name);
                }
                _ => answer.text += &message::text(block, &kind, &place)?,
            }
        }
        self.ready.push(answer.into_message());
        Ok(())
    }
}

/// A block and its type.
fn open(block: Value, place: &str) -> ApiResult<(Body, String)> {
    let mut block = Body::of(block, place)?;
    let kind = block.require("type")?;
    Ok((block, kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn blocks_become_messages_that_templates_read() {
        let request = json!({
            "system": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief.", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {"role": "user", "content": "Look."},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "Where?", "signature": ""},
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "a", "name": "look", "input": {"at": "dog"}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "It ran away."}], "is_error": true},
                    {"type": "text", "text": "And "},
                    {"type": "text", "text": "now?"},
                ]},
            ],
        });
        let mut body = Body::of(request, "").expect("an object");
        let messages = take(&mut body).expect("messages");
        let call = json!({"id": "a", "type": "function", "function": {"name": "look", "arguments": {"at": "dog"}}});
        let expected = json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Look."},
            {"role": "assistant", "content": "I look.", "reasoning_content": "Where?", "tool_calls": [call]},
            {"role": "tool", "content": "Error: It ran away.", "name": "look", "tool_call_id": "a"},
            {"role": "user", "content": "And now?"},
        ]);
        assert_eq!(Value::from(messages), expected);
        body.finish().expect("nothing is left");
    }
}
