//! The fields that chat and completions have in common.

use crate::body::Body;
use crate::error::{ApiError, ApiResult};
use crate::models::Served;
use crate::sampling::{Names, Sampling};
use crate::state::App;
use serde_json::json;

/// The most texts of one request.
pub(super) const MOST_CHOICES: usize = 128;
/// The most alternatives to a token.
pub(super) const MOST_ALTERNATIVES: usize = 20;
/// What fields are called here.
pub(super) const NAMES: Names = Names {
    stop: "stop",
    repetition_penalty: "repetition_penalty",
};

/// The values of the fields.
pub(super) struct Options {
    pub(super) sampling: Sampling,
    /// Whether the answer comes piece by piece.
    pub(super) streams: bool,
    /// Whether the last chunk says how many tokens there were.
    pub(super) includes_usage: bool,
}

impl Options {
    /// Takes the fields. Texts end after `most` tokens if nothing is said.
    ///
    /// # Errors
    /// If a field has a value that it cannot have.
    pub(super) fn take(
        body: &mut Body,
        app: &App,
        served: &Served,
        most: usize,
    ) -> ApiResult<Self> {
        let longer = body.take("max_completion_tokens")?;
        let shorter = body.take("max_tokens")?;
        let most = longer.or(shorter).unwrap_or(most);
        let mut sampling = Sampling::take(body, app, served, most, &NAMES)?;
        sampling.count = body.within("n", 1..=MOST_CHOICES)?.unwrap_or(1);
        let streams = body.take("stream")?.unwrap_or(false);
        let includes_usage = stream_options(body, streams)?;
        unused(body)?;
        Ok(Self {
            sampling,
            streams,
            includes_usage,
        })
    }
}

/// Takes `stream_options`; whether token counts come at the end.
///
/// # Errors
/// If nothing is streamed, or events are to be padded.
pub(super) fn stream_options(body: &mut Body, streams: bool) -> ApiResult<bool> {
    let name = body.name("stream_options");
    match body.value("stream_options") {
        None => Ok(false),
        Some(_) if !streams => {
            let expected = "none where `stream` is false";
            Err(ApiError::field(name, expected, "some"))
        }
        Some(value) => {
            let mut inner = Body::of(value, &name)?;
            let includes = inner.take("include_usage")?.unwrap_or(false);
            inner.only("include_obfuscation", &[json!(false)])?;
            inner.finish()?;
            Ok(includes)
        }
    }
}

/// Takes fields that say who asks, or where the answer is kept, on which nothing depends here.
///
/// # Errors
/// If the answer is to be kept, or to be made in another way.
pub(super) fn unused(body: &mut Body) -> ApiResult<()> {
    body.skip(&["user", "safety_identifier", "metadata", "prompt_cache_key"]);
    // Routers of vLLM and SGLang write these out whatever the client sent: what we do anyway.
    for field in [
        "no_stop_trim",
        "continue_final_message",
        "return_hidden_states",
    ] {
        body.only(field, &[json!(false)])?;
    }
    for field in [
        "skip_special_tokens",
        "separate_reasoning",
        "stream_reasoning",
        "include_reasoning",
    ] {
        body.only(field, &[json!(true)])?;
    }
    body.only("store", &[json!(false)])?;
    body.only("service_tier", &[json!("auto"), json!("default")])
}
