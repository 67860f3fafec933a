//! Whether the server lives, can be asked, and how much it does.

use crate::error::{ApiError, ApiResult};
use crate::state::App;
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Whether the server lives.
pub(crate) async fn health() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// Whether requests should be sent here: a model is open, and the server is not about to end.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> ApiResult<Json<Value>> {
    if app.draining.load(Ordering::Relaxed) {
        return Err(ApiError::unavailable("the server is about to end"));
    }
    if app.models.opened().await.is_empty() {
        return Err(ApiError::unavailable("no model is open"));
    }
    Ok(Json(json!({"status": "ready"})))
}

/// All counts, for Prometheus.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> ApiResult<impl IntoResponse> {
    let text = app.metrics.text(&app.models).await;
    let text = text.map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text))
}
