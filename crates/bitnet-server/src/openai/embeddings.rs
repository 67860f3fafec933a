//! `POST /v1/embeddings`: texts as vectors.

use crate::error::{ApiError, ApiResult};
use crate::prompt;
use crate::state::{App, Incoming};
use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use bitnet::EmbedOptions;
use serde_json::{Value, json};
use std::sync::Arc;

/// The most texts of one request: OpenAI's number.
const MOST_TEXTS: usize = 2048;

/// Turns texts into vectors.
pub(crate) async fn embed(
    State(app): State<Arc<App>>,
    Incoming(mut body): Incoming,
) -> ApiResult<Json<Value>> {
    let name: Option<String> = body.take("model")?;
    let texts = match body.value("input") {
        Some(Value::String(text)) => vec![text],
        Some(list @ Value::Array(_)) => serde_json::from_value(list)
            .map_err(|error| ApiError::field("input", "a text or a list of texts", error))?,
        _ => {
            return Err(ApiError::field(
                "input",
                "a text or a list of texts",
                "none",
            ));
        }
    };
    if texts.is_empty() || texts.len() > MOST_TEXTS {
        let expected = format!("1 to {MOST_TEXTS} texts");
        return Err(ApiError::field("input", expected, texts.len()));
    }
    let format: Option<String> = body.take("encoding_format")?;
    let is_base64 = match format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => return Err(ApiError::field("encoding_format", "float or base64", other)),
    };
    let options = EmbedOptions {
        dimensions: body.within("dimensions", 1..=1 << 20)?,
        instruction: body.take("instruction")?,
        ..EmbedOptions::default()
    };
    body.skip(&["user"]);
    body.finish()?;
    let served = app.models.get(name.as_deref()).await?;
    let embedded = {
        let turn = served.embedding.acquire().await;
        let _turn = turn.map_err(|error| ApiError::unavailable(error.to_string()))?;
        prompt::blocking(&served, move |served, cancel| {
            let options = EmbedOptions { cancel, ..options };
            Ok(served.model().embed(&texts, &options)?)
        })
        .await?
    };
    let rows = embedded.rows.iter().enumerate();
    let data: Vec<_> = rows
        .map(|(index, row)| {
            let embedding = if is_base64 {
                let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
                json!(base64::engine::general_purpose::STANDARD.encode(bytes))
            } else {
                json!(row)
            };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    let tokens: usize = embedded.tokens.iter().sum();
    Ok(Json(json!({
        "object": "list",
        "data": data,
        "model": served.name,
        "pooling": embedded.pooling.name(),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })))
}
