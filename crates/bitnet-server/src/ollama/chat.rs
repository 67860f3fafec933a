//! `POST /api/chat`.

use super::reply::Shape;
use super::request::{self, Asked, KeepAlive};
use crate::answers::{Before, Question};
use crate::body::Body;
use crate::error::{ApiError, ApiResult};
use crate::message::{self, Answer};
use crate::prompt::Conversation;
use crate::state::{App, Incoming};
use crate::tools::Tools;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Answers a conversation. One without messages opens the model, or closes it.
pub(crate) async fn answer(
    State(app): State<Arc<App>>,
    Incoming(mut body): Incoming,
) -> ApiResult<Response> {
    let asked = Asked::take(&mut body, &app)?;
    let messages = body.peek("messages");
    if messages.is_none_or(|messages| *messages == json!([])) {
        return load(&app, body, asked, Shape::Chat).await;
    }
    let mut messages = Vec::new();
    for (message, place) in message::list(&mut body, "messages")? {
        messages.push(one(Body::of(message, &place)?)?);
    }
    let tools = json!({"tools": body.value("tools")});
    let tools = Tools::take(&mut Body::of(tools, "")?)?;
    let kwargs = request::think(&mut body)?;
    let grammar = request::format(&mut body)?;
    let streams = body.take("stream")?.unwrap_or(true);
    body.only("logprobs", &[json!(false)])?;
    let opened = asked.open(&app).await?;
    let sampling = request::options(&mut body, &app, &opened.served)?;
    body.finish()?;
    let question = Question {
        before: Before::Conversation(Conversation {
            messages,
            tools: tools.written.clone(),
            kwargs,
        }),
        tools,
        sampling,
        grammar,
        logprobs: None,
        thinking_budget: None,
    };
    Shape::Chat.answer(&app, opened, question, streams).await
}

/// Opens the model of a request that asks nothing; closes it if it is to stay open for no time.
///
/// # Errors
/// If it cannot be opened.
pub(super) async fn load(
    app: &App,
    mut body: Body,
    asked: Asked,
    shape: Shape,
) -> ApiResult<Response> {
    body.skip(&["messages", "prompt", "stream", "options"]);
    body.finish()?;
    if asked.keep_alive == Some(KeepAlive::For(Duration::ZERO)) {
        app.models.keep(&asked.model, Some(Duration::ZERO))?;
        app.models.close_idle().await;
        return Ok(shape.nothing(&asked.model, "unload"));
    }
    asked.open(app).await?;
    Ok(shape.nothing(&asked.model, "load"))
}

/// A message as templates read it.
fn one(mut body: Body) -> ApiResult<Value> {
    let role: String = body.require("role")?;
    let content = body.take::<String>("content")?.unwrap_or_default();
    request::no_images(&mut body)?;
    let message = match role.as_str() {
        "system" | "user" => message::plain(&role, content),
        "tool" => {
            let name = body.take("tool_name")?;
            message::result(body.take("tool_call_id")?, name, content)
        }
        "assistant" => Answer {
            text: content,
            thinking: body.take("thinking")?.unwrap_or_default(),
            calls: calls(&mut body)?,
        }
        .into_message(),
        _ => {
            let expected = "system, user, assistant or tool";
            let found = format!("{role:?}");
            return Err(ApiError::field(body.name("role"), expected, found));
        }
    };
    body.finish()?;
    Ok(message)
}

/// The calls of an earlier answer.
fn calls(body: &mut Body) -> ApiResult<Vec<Value>> {
    let calls: Vec<Value> = body.take("tool_calls")?.unwrap_or_default();
    let mut ready = Vec::with_capacity(calls.len());
    for (index, call) in calls.into_iter().enumerate() {
        let place = format!("{}[{index}]", body.name("tool_calls"));
        let mut call = Body::of(call, &place)?;
        let id = call.take("id")?;
        let mut function = Body::of(call.require("function")?, &call.name("function"))?;
        let name: String = function.require("name")?;
        let arguments: Option<Map<String, Value>> = function.take("arguments")?;
        function.skip(&["index"]);
        function.finish()?;
        call.skip(&["type"]);
        call.finish()?;
        let arguments = arguments.unwrap_or_default();
        ready.push(message::call(id, &name, arguments.into()));
    }
    Ok(ready)
}
