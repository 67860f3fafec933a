//! Messages as chat templates read them, JSON objects with `role` and `content`, made of what the interfaces have in common.

use crate::body::{Body, kind};
use crate::error::{ApiError, ApiResult};
use serde_json::{Map, Value, json};

/// The most messages of a conversation.
const MOST_MESSAGES: usize = 10_000;

/// Takes a list of messages; each with its place, for errors.
///
/// # Errors
/// If there are none, or too many.
pub(crate) fn list(
    body: &mut Body,
    name: &str,
) -> ApiResult<impl Iterator<Item = (Value, String)> + use<>> {
    let messages: Vec<Value> = body.require(name)?;
    let name = body.name(name);
    if messages.is_empty() || messages.len() > MOST_MESSAGES {
        let expected = format!("1 to {MOST_MESSAGES} messages");
        return Err(ApiError::field(name, expected, messages.len()));
    }
    let numbered = messages.into_iter().enumerate();
    Ok(numbered.map(move |(index, message)| (message, format!("{name}[{index}]"))))
}

/// A content: a text, or parts that are texts.
///
/// # Errors
/// If it is something else, such as an image.
pub(crate) fn content(value: Option<Value>, place: &str) -> ApiResult<Option<String>> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Array(parts)) => {
            let mut whole = String::new();
            for (index, part) in parts.into_iter().enumerate() {
                let place = format!("{place}[{index}]");
                let mut part = Body::of(part, &place)?;
                let kind: String = part.require("type")?;
                whole += &text(part, &kind, &place)?;
            }
            Ok(Some(whole))
        }
        Some(other) => Err(ApiError::field(
            place,
            "a text or a list of parts",
            kind(&other),
        )),
    }
}

/// The text of a part of a content, of which the type was taken.
///
/// # Errors
/// If it is of another type than text.
pub(crate) fn text(mut part: Body, kind: &str, place: &str) -> ApiResult<String> {
    if !["text", "input_text", "output_text"].contains(&kind) {
        let advice = "the models that this server runs read text alone";
        return Err(ApiError::unsupported(
            format!("{place} of type {kind:?}"),
            advice,
        ));
    }
    let text = part.require("text")?;
    part.skip(&["annotations", "cache_control", "citations", "logprobs"]);
    part.finish()?;
    Ok(text)
}

/// A message that is a text.
pub(crate) fn plain(role: &str, content: String) -> Value {
    json!({"role": role, "content": content})
}

/// The result of a call.
pub(crate) fn result(id: Option<String>, name: Option<String>, content: String) -> Value {
    let mut message = plain("tool", content);
    for (field, text) in [("name", name), ("tool_call_id", id)] {
        if let Some(text) = text {
            message[field] = text.into();
        }
    }
    message
}

/// A call of an earlier answer.
pub(crate) fn call(id: Option<String>, name: &str, arguments: Value) -> Value {
    json!({
        "id": id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    })
}

/// The arguments of an earlier call, written as JSON: an object for a template.
pub(crate) fn arguments(text: String) -> Value {
    match serde_json::from_str::<Value>(&text) {
        Ok(object @ Value::Object(_)) => object,
        // The model wrote it, and may read it again.
        _ => Value::String(text),
    }
}

/// An earlier answer, gathered part by part.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) thinking: String,
    pub(crate) text: String,
    pub(crate) calls: Vec<Value>,
}

impl Answer {
    /// Whether nothing was gathered.
    pub(crate) fn is_empty(&self) -> bool {
        self.thinking.is_empty() && self.text.is_empty() && self.calls.is_empty()
    }

    /// The message that it is.
    pub(crate) fn into_message(self) -> Value {
        let mut message = Map::new();
        message.insert("role".into(), "assistant".into());
        message.insert("content".into(), self.text.into());
        if !self.thinking.is_empty() {
            message.insert("reasoning_content".into(), self.thinking.into());
        }
        if !self.calls.is_empty() {
            message.insert("tool_calls".into(), self.calls.into());
        }
        Value::Object(message)
    }
}
