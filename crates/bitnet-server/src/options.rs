//! How a server behaves.

use crate::models::ModelLimits;
use bitnet::{EngineOptions, SamplingOptions, Speculation};
use std::time::Duration;

/// How a server behaves.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Keys one of which each request must have (`Authorization: Bearer …`, or `x-api-key`); anybody may ask if there are none.
    pub keys: Vec<String>,
    /// How texts of each model share the machine.
    pub engine: EngineOptions,
    /// How texts are sampled where a request says nothing.
    pub sampling: SamplingOptions,
    /// The seed of requests that name none; another for each of them if `None`.
    pub seed: Option<u64>,
    /// Whether several tokens are tried at once.
    pub speculation: Speculation,
    /// Which models stay open.
    pub models: ModelLimits,
    /// The longest body of a request in bytes.
    pub max_body_bytes: usize,
    /// The longest time from a request to the end of its text; no limit if `None`.
    pub time_limit: Option<Duration>,
    /// How long texts may go on after the server was told to stop.
    pub drain: Duration,
    /// Whether pages of any origin may ask (CORS).
    pub any_origin: bool,
}

impl Default for ServerOptions {
    /// No key, the engine's defaults, bodies of at most 16 MiB, 10 minutes for a text, 30 seconds to drain.
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            engine: EngineOptions::default(),
            sampling: SamplingOptions::default(),
            seed: None,
            speculation: Speculation::default(),
            models: ModelLimits::default(),
            max_body_bytes: 16 << 20,
            time_limit: Some(Duration::from_secs(600)),
            drain: Duration::from_secs(30),
            any_origin: false,
        }
    }
}
