//! Which path does what, and what every request passes through.

use crate::error::ApiError;
use crate::openai::{chat, completions, embeddings, list};
use crate::state::App;
use crate::{status, tools};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, Method, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use std::sync::Arc;
use std::time::Instant;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{Any, CorsLayer};

/// The page for people who look whether it works.
const PAGE: &str = include_str!("page.html");

/// All paths.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let guarded = Router::new()
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/completions", post(completions::complete))
        .route("/v1/embeddings", post(embeddings::embed))
        .route("/v1/models", get(list::all))
        .route("/v1/models/{*name}", get(list::one))
        .route("/tokenize", post(tools::tokenize))
        .route("/detokenize", post(tools::detokenize))
        .route("/apply-template", post(tools::apply_template))
        .layer(from_fn_with_state(Arc::clone(app), authorize));
    let mut router = Router::new()
        .merge(guarded)
        .route("/health", get(status::health))
        .route("/ready", get(status::ready))
        .route("/metrics", get(status::metrics))
        .route("/", get(|| async { Html(PAGE) }))
        .fallback(|request: Request| async move { ApiError::no_such_path(request.uri().path()) })
        .method_not_allowed_fallback(|request: Request| async move {
            ApiError::no_such_method(request.method().as_str(), request.uri().path())
        })
        .layer(CatchPanicLayer::custom(|_| {
            ApiError::internal("the server has a fault: its log says more").into_response()
        }))
        .layer(from_fn(record));
    if app.options.any_origin {
        let cors = CorsLayer::new()
            .allow_origin(Any)
            .allow_methods([Method::GET, Method::POST])
            .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE]);
        router = router.layer(cors);
    }
    router.with_state(Arc::clone(app))
}

/// Lets those in who have a key, if there is one.
async fn authorize(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let keys = &app.options.keys;
    let given = request.headers().get(header::AUTHORIZATION);
    let given = given.map_or(&[][..], |value| value.as_bytes());
    let given = given.strip_prefix(b"Bearer ").unwrap_or_default();
    // All are compared in whole, so that the time says nothing about them.
    let known = keys.iter().fold(false, |known, key| {
        known | bool::from(subtle::ConstantTimeEq::ct_eq(key.as_bytes(), given))
    });
    if keys.is_empty() || known {
        next.run(request).await
    } else {
        ApiError::unauthorized().into_response()
    }
}

/// Gives each request an id, which the answer and the log have, and notes what became of it. No text of a prompt is noted.
async fn record(request: Request, next: Next) -> Response {
    const ID: HeaderName = HeaderName::from_static("x-request-id");
    let begin = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let id = uuid::Uuid::new_v4().simple().to_string();
    let mut response = next.run(request).await;
    tracing::info!(
        id,
        %method,
        path,
        status = response.status().as_u16(),
        milliseconds = begin.elapsed().as_millis() as u64,
        "request"
    );
    if let Ok(id) = id.parse() {
        response.headers_mut().insert(ID, id);
    }
    response
}
