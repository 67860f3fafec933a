//! OpenAI's interface.

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod embeddings;
mod format;
pub(crate) mod list;
mod logprobs;
pub(crate) mod messages;
mod options;
pub(crate) mod responses;

use crate::generation::Usage;
use serde_json::{Value, json};

/// Tokens as OpenAI counts them.
fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.generated,
        "total_tokens": usage.prompt + usage.generated,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.thinking},
    })
}
