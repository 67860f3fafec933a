//! `GET /v1/models`.

use crate::error::ApiResult;
use crate::state::App;
use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use std::sync::Arc;

/// All models.
pub(crate) async fn all(State(app): State<Arc<App>>) -> Json<Value> {
    let models: Vec<_> = app.models.names().map(|name| entry(&app, name)).collect();
    Json(json!({"object": "list", "data": models}))
}

/// The model of a name, which may have slashes in it.
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> ApiResult<Json<Value>> {
    app.models.check(&name)?;
    Ok(Json(entry(&app, &name)))
}

fn entry(app: &App, name: &str) -> Value {
    json!({"id": name, "object": "model", "created": app.models.created, "owned_by": "bitnet"})
}
