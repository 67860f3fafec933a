//! `POST /api/generate`: the answer to a text, or its continuation.

use super::chat::load;
use super::reply::Shape;
use super::request::{self, Asked};
use crate::answers::{Before, Question};
use crate::error::{ApiError, ApiResult};
use crate::message;
use crate::prompt::Conversation;
use crate::state::{App, Incoming};
use crate::tools::Tools;
use axum::extract::State;
use axum::response::Response;
use bitnet::Prompt;
use serde_json::json;
use std::sync::Arc;

/// Answers a text by the model's template, or continues it if it is `raw` or the model has none. No text opens the model, or
/// closes it.
pub(crate) async fn answer(
    State(app): State<Arc<App>>,
    Incoming(mut body): Incoming,
) -> ApiResult<Response> {
    let asked = Asked::take(&mut body, &app)?;
    let prompt: Option<String> = body.take("prompt")?;
    let system: Option<String> = body.take("system")?;
    let system = system.filter(|system| !system.is_empty());
    body.only("suffix", &[json!("")])?;
    body.only("template", &[json!("")])?;
    body.only("context", &[json!([])])?;
    request::no_images(&mut body)?;
    let raw = body.take("raw")?.unwrap_or(false);
    let Some(prompt) = prompt.filter(|prompt| !prompt.is_empty()) else {
        return load(&app, body, asked, Shape::Generate).await;
    };
    let kwargs = request::think(&mut body)?;
    let grammar = request::format(&mut body)?;
    let streams = body.take("stream")?.unwrap_or(true);
    body.only("logprobs", &[json!(false)])?;
    let opened = asked.open(&app).await?;
    let sampling = request::options(&mut body, &app, &opened.served)?;
    body.finish()?;
    let before = if raw || opened.served.model().chat_template().is_none() {
        if system.is_some() || !kwargs.is_empty() {
            let field = if system.is_some() { "system" } else { "think" };
            let advice = "a text that is continued as it is has no place for it";
            return Err(ApiError::unsupported(field, advice));
        }
        Before::Text(Prompt::Text(prompt))
    } else {
        let system = system.map(|text| message::plain("system", text));
        let messages = system.into_iter().chain([message::plain("user", prompt)]);
        Before::Conversation(Conversation {
            messages: messages.collect(),
            tools: Vec::new(),
            kwargs,
        })
    };
    let question = Question {
        before,
        tools: Tools::default(),
        sampling,
        grammar,
        logprobs: None,
        thinking_budget: None,
    };
    Shape::Generate
        .answer(&app, opened, question, streams)
        .await
}
