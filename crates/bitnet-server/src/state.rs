//! The state that all requests share, and how their bodies are read.

use crate::body::Body;
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::models::Models;
use crate::options::ServerOptions;
use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use bitnet::{GenerateOptions, StopReason};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

/// A server.
pub(crate) struct App {
    pub(crate) models: Models,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) options: ServerOptions,
    /// Whether it takes no more requests, but finishes those that it has.
    pub(crate) draining: AtomicBool,
}

impl App {
    /// How texts are generated where a request says nothing, with at most `tokens` tokens.
    pub(crate) fn defaults(&self, tokens: usize) -> GenerateOptions {
        GenerateOptions {
            max_tokens: tokens,
            sampling: self.options.sampling,
            speculation: self.options.speculation,
            ..GenerateOptions::default()
        }
    }
}

/// A request's body, read whole.
pub(crate) struct Incoming(pub(crate) Body);

impl FromRequest<Arc<App>> for Incoming {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let most = app.options.max_body_bytes;
        let bytes = to_bytes(request.into_body(), most)
            .await
            .map_err(|_| ApiError::too_large(most))?;
        Body::parse(&bytes).map(Self)
    }
}

/// Why a text ended, as OpenAI says it.
pub(crate) fn finish_reason(reason: StopReason) -> &'static str {
    match reason {
        StopReason::EndToken(_) | StopReason::StopString(_) => "stop",
        StopReason::MaxTokens | StopReason::ContextFull => "length",
        StopReason::Cancelled | StopReason::Deadline => "abort",
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}
