//! Anthropic's interface: `/v1/messages` and `/v1/messages/count_tokens`.

mod content;
pub(crate) mod messages;
mod request;
