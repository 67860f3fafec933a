//! Why requests fail, whichever interface they came by.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bitnet::BackendError;
use std::sync::Arc;

/// Seconds after which a client whom a full queue turned away may ask again.
const RETRY_AFTER: u64 = 1;

/// The result of a request.
pub(crate) type ApiResult<T> = Result<T, ApiError>;

/// Why a request failed.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    /// OpenAI's name of its kind.
    pub(crate) kind: &'static str,
    /// OpenAI's name of the fault.
    pub(crate) code: Option<&'static str>,
    /// The field that is at fault.
    pub(crate) param: Option<String>,
    message: String,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            code: None,
            param: None,
            message: message.into(),
        }
    }

    /// A request that says what it must not.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// A request whose field at `path` is at fault.
    pub(crate) fn invalid_at(path: String, message: String) -> Self {
        Self {
            param: Some(path),
            code: Some("invalid_value"),
            ..Self::invalid(message)
        }
    }

    /// A field with a value that it cannot have.
    pub(crate) fn field(
        name: impl Into<String>,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> Self {
        let name = name.into();
        let message = format!("{name}: expected {expected}, found {found}");
        Self::invalid_at(name, message)
    }

    /// A field, or a value of one, that this server does not know.
    pub(crate) fn unsupported(name: impl Into<String>, advice: impl std::fmt::Display) -> Self {
        let name = name.into();
        let message = format!("{name} is not supported: {advice}");
        Self {
            param: Some(name),
            code: Some("unsupported_parameter"),
            ..Self::invalid(message)
        }
    }

    /// A model that is not served; `served` are the names of those that are.
    pub(crate) fn model_not_found(name: &str, served: &str) -> Self {
        let message = format!("model: expected one of {served}, found {name:?}");
        Self {
            code: Some("model_not_found"),
            param: Some("model".into()),
            ..Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
        }
    }

    /// A request without the right key.
    pub(crate) fn unauthorized() -> Self {
        let message =
            "expected the server's key in the header `Authorization: Bearer …` or `x-api-key`";
        Self {
            code: Some("invalid_api_key"),
            ..Self::new(StatusCode::UNAUTHORIZED, "authentication_error", message)
        }
    }

    /// A path that is not served.
    pub(crate) fn no_such_path(path: &str) -> Self {
        let message = format!("there is nothing at {path}");
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
    }

    /// A method that a path does not have.
    pub(crate) fn no_such_method(method: &str, path: &str) -> Self {
        let message = format!("{path} does not take {method}");
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self::new(status, "invalid_request_error", message)
    }

    /// A body longer than the server takes.
    pub(crate) fn too_large(most: usize) -> Self {
        let message = format!("expected a body of at most {most} bytes, found a longer one");
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        Self::new(status, "invalid_request_error", message)
    }

    /// A text that took longer than the server allows.
    pub(crate) fn timed_out() -> Self {
        let message =
            "the text was not finished within the server's time limit: ask for fewer tokens";
        let status = StatusCode::GATEWAY_TIMEOUT;
        Self::new(status, "server_error", message)
    }

    /// A server that ends, or cannot answer now.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message)
    }

    /// A fault of the server.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// The fault, in a sentence.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl From<bitnet::Error> for ApiError {
    fn from(error: bitnet::Error) -> Self {
        use bitnet::Error;
        let message = error.to_string();
        match error {
            Error::ContextFull { .. } => Self {
                code: Some("context_length_exceeded"),
                param: Some("messages".into()),
                ..Self::invalid(message)
            },
            Error::Argument { what, .. } => Self {
                code: Some("invalid_value"),
                param: Some(what.into()),
                ..Self::invalid(message)
            },
            Error::Template(_) | Error::Tokenizer { .. } | Error::Unsupported { .. } => {
                Self::invalid(message)
            }
            Error::Overloaded { .. } => Self {
                code: Some("rate_limit_exceeded"),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message)
            },
            Error::Stopped | Error::Cancelled => Self::unavailable(message),
            Error::Backend(BackendError::OutOfMemory { .. }) => Self::unavailable(message),
            _ => Self::internal(message),
        }
    }
}

impl IntoResponse for ApiError {
    /// An answer without a body, which the router writes in the language of the request's path.
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::error!(status = self.status.as_u16(), "{}", self.message);
        }
        let mut response = self.status.into_response();
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            let after = HeaderValue::from(RETRY_AFTER);
            response.headers_mut().insert(header::RETRY_AFTER, after);
        }
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}
