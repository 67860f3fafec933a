//! Which path does what, and what every request passes through.

use crate::anthropic::messages;
use crate::dialect::Dialect;
use crate::error::ApiError;
use crate::openai::{chat, completions, embeddings, list, responses};
use crate::state::App;
use crate::{ollama, status, tokens};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use std::sync::Arc;
use std::time::Instant;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

/// The page for people who look whether it works.
const PAGE: &str = include_str!("page.html");

/// All paths.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let guarded = Router::new()
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/completions", post(completions::complete))
        .route("/v1/embeddings", post(embeddings::embed))
        .route("/v1/responses", post(responses::create))
        .route("/v1/messages", post(messages::create))
        .route("/v1/messages/count_tokens", post(messages::count_tokens))
        .route("/v1/models", get(list::all))
        .route("/v1/models/{*name}", get(list::one))
        .route("/api/chat", post(ollama::chat::answer))
        .route("/api/generate", post(ollama::generate::answer))
        .route("/api/embed", post(ollama::embed::embed))
        .route("/api/show", post(ollama::models::show))
        .route("/api/tags", get(ollama::models::tags))
        .route("/api/ps", get(ollama::models::ps))
        .route("/api/version", get(ollama::models::version))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/apply-template", post(tokens::apply_template))
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
            // Clients tell much about themselves.
            .allow_headers(AllowHeaders::mirror_request());
        router = router.layer(cors);
    }
    router.with_state(Arc::clone(app))
}

/// Lets those in who have a key, if there is one.
async fn authorize(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let keys = &app.options.keys;
    let given = given_key(request.headers());
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

/// The key of a request: `Authorization: Bearer …` of most clients, `x-api-key` of Anthropic's. Empty if there is none.
fn given_key(headers: &HeaderMap) -> &[u8] {
    let bearer = headers.get(header::AUTHORIZATION);
    let bearer = bearer.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let plain = || headers.get("x-api-key").map(|value| value.as_bytes());
    bearer.or_else(plain).unwrap_or_default()
}

/// Gives each request an id, which the answer and the log have, and notes what became of it. No text of a prompt is noted. Errors
/// are written here, in the language of the request.
async fn record(request: Request, next: Next) -> Response {
    const ID: HeaderName = HeaderName::from_static("x-request-id");
    /// The same for Anthropic's clients.
    const ANTHROPIC_ID: HeaderName = HeaderName::from_static("request-id");
    let dialect = Dialect::of(request.uri().path(), request.headers());
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
    if let Some(error) = response.extensions_mut().remove::<Arc<ApiError>>() {
        let body = axum::Json(dialect.error(&error));
        let (mut parts, _) = response.into_parts();
        parts.headers.remove(header::CONTENT_LENGTH);
        response = (parts, body).into_response();
    }
    if let Ok(id) = id.parse::<HeaderValue>() {
        if dialect == Dialect::Anthropic {
            response.headers_mut().insert(ANTHROPIC_ID, id.clone());
        }
        response.headers_mut().insert(ID, id);
    }
    response
}
