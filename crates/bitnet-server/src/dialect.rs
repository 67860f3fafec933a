//! The interfaces that clients know, and how each of them tells errors.

use crate::error::ApiError;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

/// An interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// OpenAI's, as chat and completions have it.
    OpenAi,
    /// OpenAI's newer one, whose events have names.
    Responses,
    Anthropic,
    Ollama,
}

impl Dialect {
    /// The interface of a path. One that several interfaces have is told by the headers.
    pub(crate) fn of(path: &str, headers: &HeaderMap) -> Self {
        let is = |place: &str| {
            let rest = path.strip_prefix(place);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if is("/v1/messages") {
            Self::Anthropic
        } else if is("/v1/responses") {
            Self::Responses
        } else if is("/api") {
            Self::Ollama
        } else if headers.contains_key("anthropic-version") {
            Self::Anthropic
        } else {
            Self::OpenAi
        }
    }

    /// The body of an answer that is an error.
    pub(crate) fn error(self, error: &ApiError) -> Value {
        match self {
            Self::OpenAi | Self::Responses => json!({"error": {
                "message": error.message(),
                "type": error.kind,
                "param": error.param,
                "code": error.code,
            }}),
            Self::Anthropic => json!({
                "type": "error",
                "error": {"type": anthropic_kind(error.status), "message": error.message()},
            }),
            Self::Ollama => json!({"error": error.message()}),
        }
    }
}

/// The type of an error by its status, as Anthropic has it.
fn anthropic_kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
        StatusCode::GATEWAY_TIMEOUT => "timeout_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "api_error",
    }
}
