//! Ollama's interface: `/api/chat`, `/api/generate`, `/api/embed` and what is said about models.

pub(crate) mod chat;
pub(crate) mod embed;
pub(crate) mod generate;
pub(crate) mod models;
mod reply;
mod request;

use chrono::{DateTime, SecondsFormat, Utc};

/// A time as Ollama writes it.
fn written(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Nanos, true)
}
