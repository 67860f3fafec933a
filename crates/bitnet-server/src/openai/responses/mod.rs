//! `POST /v1/responses`: OpenAI's newer interface, without the part that keeps conversations.

mod input;
mod output;
mod request;

use crate::error::ApiResult;
use crate::state::{App, Incoming};
use axum::extract::State;
use axum::response::Response;
use output::Output;
use request::Asked;
use std::sync::Arc;

/// Answers a conversation.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Incoming(mut body): Incoming,
) -> ApiResult<Response> {
    let asked = Asked::take(&mut body)?;
    let served = app.models.get(asked.model.as_deref()).await?;
    let (question, settings) = asked.question(body, &app, &served)?;
    let streams = settings.streams;
    let answers = question.ask(&app, &served).await?;
    let output = Output::new(answers, settings);
    if streams {
        Ok(output.stream())
    } else {
        output.whole().await
    }
}
