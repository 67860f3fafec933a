//! `POST /v1/embeddings`: texts as vectors.

use crate::embed;
use crate::error::{ApiError, ApiResult};
use crate::state::{App, Incoming};
use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use bitnet::EmbedOptions;
use serde_json::{Value, json};
use std::sync::Arc;

/// Turns texts into vectors.
pub(crate) async fn embed(
    State(app): State<Arc<App>>,
    Incoming(mut body): Incoming,
) -> ApiResult<Json<Value>> {
    let name: Option<String> = body.take("model")?;
    let texts = embed::texts(&mut body)?;
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
    let embedded = embed::embed(&served, texts, options).await?;
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
