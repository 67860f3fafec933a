//! `POST /api/embed`: texts as vectors.

use super::request::Asked;
use crate::embed;
use crate::error::{ApiError, ApiResult};
use crate::state::{App, Incoming};
use axum::Json;
use axum::extract::State;
use bitnet::EmbedOptions;
use serde_json::{Value, json};
use std::sync::Arc;

/// Turns texts into vectors.
pub(crate) async fn embed(
    State(app): State<Arc<App>>,
    Incoming(mut body): Incoming,
) -> ApiResult<Json<Value>> {
    let asked = Asked::take(&mut body, &app)?;
    let texts = embed::texts(&mut body)?;
    let truncates = body.take("truncate")?.unwrap_or(true);
    let options = EmbedOptions {
        dimensions: body.within("dimensions", 1..=1 << 20)?,
        ..EmbedOptions::default()
    };
    body.only("options", &[json!({})])?;
    body.finish()?;
    let opened = asked.open(&app).await?;
    let embedded = embed::embed(&opened.served, texts, options).await?;
    if embedded.truncated > 0 && !truncates {
        let expected = format!(
            "texts of at most {} tokens",
            opened.served.model().context()
        );
        let found = format!("{} longer ones", embedded.truncated);
        return Err(ApiError::field("input", expected, found));
    }
    Ok(Json(json!({
        "model": opened.served.name,
        "embeddings": embedded.rows,
        "total_duration": opened.begin.elapsed().as_nanos() as u64,
        "load_duration": opened.loading.as_nanos() as u64,
        "prompt_eval_count": embedded.tokens.iter().sum::<usize>(),
    })))
}
