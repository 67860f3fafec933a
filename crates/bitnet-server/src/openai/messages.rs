//! Conversations: messages as OpenAI's clients write them, and as chat templates read them.

use crate::body::{Body, kind};
use crate::error::{ApiError, ApiResult};
use crate::message;
use bitnet::chat::{CallFormat, Tool};
use bitnet::constraint::{Calls, Demand, Grammar};
use serde_json::{Map, Value, json};

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

/// The tools of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tools {
    /// As the client wrote them, for the template.
    pub(crate) written: Vec<Value>,
    /// As replies are read with.
    pub(crate) read: Vec<Tool>,
    /// Whether more than one call may come.
    pub(crate) parallel: bool,
    /// The call that must come.
    demand: Demand,
}

impl Tools {
    /// Takes `tools`, `tool_choice` and `parallel_tool_calls`.
    ///
    /// # Errors
    /// If one is no function with a name, or the choice is none that there is.
    pub(crate) fn take(body: &mut Body) -> ApiResult<Self> {
        let written: Vec<Value> = body.take("tools")?.unwrap_or_default();
        let numbered = written.iter().enumerate();
        let read = numbered.map(|(index, tool)| Tool::parse(tool, &format!("tools[{index}]")));
        let tools = Self {
            read: read.collect::<Result<_, _>>()?,
            written,
            parallel: body.take("parallel_tool_calls")?.unwrap_or(true),
            demand: Demand::Nothing,
        };
        let demand = match body.value("tool_choice") {
            None => Demand::Nothing,
            Some(Value::String(choice)) if choice == "auto" => Demand::Nothing,
            Some(Value::String(choice)) if choice == "none" => return Ok(Self::default()),
            Some(Value::String(choice)) if choice == "required" => Demand::Any,
            Some(choice @ Value::Object(_)) => {
                let mut choice = Body::of(choice, "tool_choice")?;
                choice.only("type", &[json!("function")])?;
                let mut function = Body::of(choice.require("function")?, "tool_choice.function")?;
                let name = function.require("name")?;
                function.finish()?;
                choice.finish()?;
                Demand::Named(name)
            }
            Some(choice) => {
                let expected = "\"auto\", \"none\", \"required\" or a function";
                return Err(ApiError::field("tool_choice", expected, choice));
            }
        };
        Ok(Self { demand, ..tools })
    }

    /// The form of an answer with calls in `format`, or one of the form `answer`; `None` for any text.
    ///
    /// # Errors
    /// If a call is demanded of a tool that is not there.
    pub(crate) fn grammar(
        &self,
        format: CallFormat,
        answer: Option<Grammar>,
    ) -> ApiResult<Option<Grammar>> {
        let Self { read, demand, .. } = self;
        Ok(Calls::in_reply(
            format,
            read,
            demand,
            self.parallel,
            answer,
        )?)
    }
}
