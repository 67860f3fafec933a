//! Texts as vectors, the same for every interface.

use crate::body::{Body, kind};
use crate::error::{ApiError, ApiResult};
use crate::models::Served;
use crate::prompt;
use bitnet::{EmbedOptions, Embeddings};
use serde_json::Value;
use std::sync::Arc;

/// The most texts of one request: OpenAI's number.
const MOST_TEXTS: usize = 2048;

/// Takes `input`: a text or a list of some.
///
/// # Errors
/// If there is none, or too many.
pub(crate) fn texts(body: &mut Body) -> ApiResult<Vec<String>> {
    let expected = "a text or a list of texts";
    let texts: Vec<String> = match body.value("input") {
        Some(Value::String(text)) => vec![text],
        Some(list @ Value::Array(_)) => serde_json::from_value(list)
            .map_err(|error| ApiError::field("input", expected, error))?,
        other => {
            let found = other.as_ref().map_or("none", kind);
            return Err(ApiError::field("input", expected, found));
        }
    };
    if texts.is_empty() || texts.len() > MOST_TEXTS {
        let expected = format!("1 to {MOST_TEXTS} texts");
        return Err(ApiError::field("input", expected, texts.len()));
    }
    Ok(texts)
}

/// The vectors of texts. One request at a time: each takes all threads.
///
/// # Errors
/// As [`Model::embed`](bitnet::Model::embed).
pub(crate) async fn embed(
    served: &Arc<Served>,
    texts: Vec<String>,
    options: EmbedOptions,
) -> ApiResult<Embeddings> {
    let turn = served.embedding.acquire().await;
    let _turn = turn.map_err(|error| ApiError::unavailable(error.to_string()))?;
    prompt::blocking(served, move |served, cancel| {
        let options = EmbedOptions { cancel, ..options };
        Ok(served.model().embed(&texts, &options)?)
    })
    .await
}
