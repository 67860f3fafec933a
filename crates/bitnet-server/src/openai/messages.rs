//! Conversations: messages as OpenAI's clients write them, and as chat templates read them.

use crate::body::{Body, kind};
use crate::error::{ApiError, ApiResult};
use crate::message;
use serde_json::{Map, Value};

/// Takes `messages`, made ready for a template: contents are texts, and the arguments of calls are objects.
///
/// # Errors
/// If there are none, one has no role, or a content that is no text.
pub(crate) fn take(body: &mut Body) -> ApiResult<Vec<Value>> {
    let messages = message::list(body, "messages")?;
    messages
        .map(|(message, place)| one(message, &place))
        .collect()
}

fn one(message: Value, place: &str) -> ApiResult<Value> {
    let mut body = Body::of(message, place)?;
    let role: String = body.require("role")?;
    // OpenAI's newer name of the same.
    let role = if role == "developer" {
        "system".to_owned()
    } else {
        role
    };
    if !["system", "user", "assistant", "tool", "function"].contains(&role.as_str()) {
        let expected = "system, developer, user, assistant or tool";
        return Err(ApiError::field(
            body.name("role"),
            expected,
            format!("{role:?}"),
        ));
    }
    let calls = body.value("tool_calls");
    let content = message::content(body.value("content"), &body.name("content"))?;
    if content.is_none() && calls.is_none() {
        return Err(ApiError::field(body.name("content"), "a text", "none"));
    }
    let mut ready = Map::new();
    ready.insert("role".into(), role.into());
    ready.insert("content".into(), content.unwrap_or_default().into());
    for field in ["name", "tool_call_id", "reasoning_content"] {
        if let Some(text) = body.take::<String>(field)? {
            ready.insert(field.into(), text.into());
        }
    }
    if let Some(calls) = calls {
        let name = body.name("tool_calls");
        ready.insert("tool_calls".into(), tool_calls(calls, &name)?);
    }
    body.skip(&[
        "refusal",
        "annotations",
        "audio",
        "function_call",
        "reasoning",
    ]);
    body.finish()?;
    Ok(Value::Object(ready))
}

/// Calls of an earlier answer. Their arguments are text in JSON, and an object for a template.
fn tool_calls(value: Value, place: &str) -> ApiResult<Value> {
    let Value::Array(calls) = value else {
        return Err(ApiError::field(place, "a list", kind(&value)));
    };
    let mut ready = Vec::with_capacity(calls.len());
    for (index, call) in calls.into_iter().enumerate() {
        let mut call = Body::of(call, &format!("{place}[{index}]"))?;
        let id: Option<String> = call.take("id")?;
        let mut function = Body::of(call.require("function")?, &call.name("function"))?;
        let name: String = function.require("name")?;
        let arguments = match function.value("arguments") {
            None => Value::Object(Map::new()),
            Some(Value::String(text)) => message::arguments(text),
            Some(other) => other,
        };
        function.finish()?;
        call.skip(&["type", "index"]);
        call.finish()?;
        ready.push(message::call(id, &name, arguments));
    }
    Ok(Value::Array(ready))
}
