//! `GET /api/tags`, `/api/ps`, `/api/version`, and `POST /api/show`: what there is.

use super::request;
use super::written;
use crate::error::ApiResult;
use crate::models::Served;
use crate::state::{App, Incoming};
use axum::Json;
use axum::extract::State;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// All models. Of those that are not open, no more than the name is known.
pub(crate) async fn tags(State(app): State<Arc<App>>) -> Json<Value> {
    let opened = app.models.opened().await;
    let models = app.models.names().map(|name| {
        let served = opened.iter().find(|served| served.name == name);
        let mut entry = entry(name, served.map(|served| &**served));
        entry["modified_at"] = begun(&app).into();
        entry
    });
    let models: Vec<_> = models.collect();
    Json(json!({"models": models}))
}

/// The models that are open.
pub(crate) async fn ps(State(app): State<Arc<App>>) -> Json<Value> {
    let opened = app.models.opened().await;
    let models = opened.iter().map(|served| {
        let mut entry = entry(&served.name, Some(served));
        entry["context_length"] = served.model().context().into();
        // Weights lie where the processors read them.
        entry["size_vram"] = 0.into();
        let left = app.models.closes_in(&served.name);
        let left = left.and_then(|left| TimeDelta::from_std(left).ok());
        if let Some(time) = left.and_then(|left| Utc::now().checked_add_signed(left)) {
            entry["expires_at"] = written(time).into();
        }
        entry
    });
    let models: Vec<_> = models.collect();
    Json(json!({"models": models}))
}

/// The server's version.
pub(crate) async fn version() -> Json<Value> {
    Json(json!({"version": env!("CARGO_PKG_VERSION")}))
}

/// What is known about a model, which is opened.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Incoming(mut body): Incoming,
) -> ApiResult<Json<Value>> {
    let name = request::model(&mut body, &app)?;
    // All there is is always told.
    body.skip(&["verbose"]);
    body.finish()?;
    let served = app.models.get(Some(&name)).await?;
    let model = served.model();
    let template = model.chat_template();
    let template = template.and_then(|template| template.source());
    let has = |mark| template.is_some_and(|source| source.contains(mark));
    let mut capabilities = Vec::new();
    if !model.embeds_only() {
        capabilities.push("completion");
    }
    capabilities.push("embedding");
    if has("tools") {
        capabilities.push("tools");
    }
    if has("</think>") {
        capabilities.push("thinking");
    }
    let architecture = model.architecture();
    let family = &architecture.name;
    let mut info = Map::new();
    info.insert("general.architecture".into(), family.as_str().into());
    info.insert("general.parameter_count".into(), model.parameters().into());
    for (key, number) in [
        ("context_length", model.context()),
        ("embedding_length", architecture.hidden),
        ("block_count", architecture.layers),
        ("feed_forward_length", architecture.feed_forward),
        ("vocab_size", model.vocabulary()),
    ] {
        info.insert(format!("{family}.{key}"), number.into());
    }
    Ok(Json(json!({
        "template": template.unwrap_or_default(),
        "details": details(&served),
        "model_info": info,
        "capabilities": capabilities,
        "modified_at": begun(&app),
    })))
}

/// When the server began: models do not change behind that.
fn begun(app: &App) -> String {
    let created = i64::try_from(app.models.created).unwrap_or_default();
    written(DateTime::from_timestamp(created, 0).unwrap_or_default())
}

fn entry(name: &str, served: Option<&Served>) -> Value {
    // Clients tell models apart by it, and a name is of one model here.
    let digest = Sha256::digest(name);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut entry = json!({"name": name, "model": name, "digest": digest});
    if let Some(served) = served {
        entry["size"] = served.model().weight_bytes().into();
        entry["details"] = details(served);
    }
    entry
}

fn details(served: &Served) -> Value {
    let model = served.model();
    let family = &model.architecture().name;
    let millions = model.parameters() as f64 / 1e6;
    let size = if millions < 1000.0 {
        format!("{millions:.2}M")
    } else {
        format!("{:.1}B", millions / 1000.0)
    };
    json!({
        "parent_model": "",
        "family": family,
        "families": [family],
        "parameter_size": size,
        "quantization_level": "ternary",
    })
}
