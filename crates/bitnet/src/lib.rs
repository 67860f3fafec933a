//! Run ternary (1.58-bit) language models: model files, tokenizer, transformer, sampler.
//!
//! [`Model::open`] (or `Model::demo`, the model that ships with the crate) gives a [`Model`], [`Model::session`] a
//! [`Session`], and [`Session::generate`] its text, piece by piece:
//!
//! ```no_run
//! use bitnet::{GenerateOptions, Model};
//!
//! # fn main() -> bitnet::Result<()> {
//! let model = Model::open("ggml-model-i2_s.gguf")?;
//! let mut session = model.session()?;
//! for piece in session.generate("The capital of France is", &GenerateOptions::default())? {
//!     print!("{}", piece?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Logits are the same bits on every instruction set, for every number of threads, and however a prompt is cut into
//! batches.

mod cancel;
pub mod chat;
#[cfg(feature = "constraints")]
pub mod constraint;
mod decoder;
mod embed;
pub mod engine;
mod error;
pub mod file;
mod generate;
pub mod hook;
#[cfg(all(feature = "hub", not(target_arch = "wasm32")))]
pub mod hub;
mod logprobs;
mod model;
mod perplexity;
mod prompt;
pub mod sampler;
mod saved;
mod session;
mod speculate;
pub mod stop;
pub mod tokenizer;

pub use bitnet_core::cpu::Isa;
pub use bitnet_core::device::AdapterChoice;
pub use bitnet_core::pool::{MovementStats, ZeroCopyStats};
pub use bitnet_core::pool::{PoolStats, Tag, TagStats};
pub use bitnet_core::{Activations, Candidate, Device, KvType, LmHeadMode, LmHeadStats};
pub use bitnet_quant::I2sLayout;
pub use cancel::Cancel;
pub use chat::ChatMessage;
pub use decoder::Piece;
pub use embed::{EmbedOptions, Embeddings, Pooling};
pub use engine::{Engine, EngineOptions, Request};
pub use error::{BackendError, DownloadFault, Error, Result};
pub use generate::{GenerateOptions, Generation, StopReason, Timings};
pub use hook::{HookScope, LogitBias, LogitsHook};
pub use logprobs::{TokenEntry, TokenLogprobs};
pub use model::{
    Architecture, Fingerprint, Hybrid, LogitsFor, Mixture, Model, ModelOptions, RopeScaling,
    ScalingKind, WindowRotation, Windows,
};
pub use perplexity::{Likelihood, Perplexity, likelihoods, perplexity};
pub use prompt::Prompt;
pub use sampler::SamplingOptions;
pub use session::Session;
pub use speculate::Speculation;

/// The examples of the README, compiled and run as tests.
#[cfg(all(doctest, feature = "demo"))]
#[doc = include_str!("../../../README.md")]
struct Readme;
