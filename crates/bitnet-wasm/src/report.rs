//! What JavaScript is told, as JSON.

use bitnet::{Generation, Model, StopReason};
use serde::Serialize;

/// A model that is open.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Info<'a> {
    name: &'a str,
    architecture: &'a str,
    device: String,
    isa: &'static str,
    threads: usize,
    layers: usize,
    hidden: usize,
    feed_forward: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocabulary: usize,
    context_length: usize,
    trained_context_length: usize,
    parameters: u64,
    weight_bytes: u64,
    kv_bytes_per_token: u64,
    has_chat_template: bool,
    embeds_only: bool,
}

impl<'a> Info<'a> {
    /// About `model`, which runs on `threads` threads by the kernels `isa`.
    pub(crate) fn of(model: &'a Model, threads: usize, isa: &'static str) -> Self {
        let shape = model.architecture();
        Self {
            name: model.name(),
            architecture: &shape.name,
            device: model.device(),
            isa,
            threads,
            layers: shape.layers,
            hidden: shape.hidden,
            feed_forward: shape.feed_forward,
            heads: shape.heads.query,
            kv_heads: shape.heads.kv,
            head_dim: shape.heads.dim,
            vocabulary: model.vocabulary(),
            context_length: model.context(),
            trained_context_length: shape.context,
            parameters: model.parameters(),
            weight_bytes: model.weight_bytes(),
            kv_bytes_per_token: shape.kv_bytes_per_position(model.kv_type()),
            has_chat_template: model.chat_template().is_some(),
            embeds_only: model.embeds_only(),
        }
    }
}

/// How a generation went.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outcome {
    /// `end`, `stop`, `length`, `context` or `cancelled`; absent while it runs.
    reason: Option<&'static str>,
    /// Tokens that were generated.
    generated_tokens: usize,
    /// Milliseconds from the first generated token to the last.
    decode_milliseconds: f64,
    /// Milliseconds for the last batch of the prompt.
    last_batch_milliseconds: f64,
    drafted_tokens: usize,
    accepted_tokens: usize,
}

impl Outcome {
    pub(crate) fn of(generation: &Generation) -> Self {
        let timings = generation.timings();
        Self {
            reason: generation.stop_reason().map(StopReason::name),
            generated_tokens: timings.generated_tokens,
            decode_milliseconds: timings.decode_time.as_secs_f64() * 1e3,
            last_batch_milliseconds: timings.prompt_time.as_secs_f64() * 1e3,
            drafted_tokens: timings.drafted_tokens,
            accepted_tokens: timings.accepted_tokens,
        }
    }
}

/// What is said as JSON. Numbers, texts and lists of them always can be.
pub(crate) fn json(report: &impl Serialize) -> String {
    serde_json::to_string(report).unwrap_or_default()
}
