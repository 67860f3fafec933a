//! Run ternary (1.58-bit) language models.

pub mod chat;
mod error;
pub mod file;
#[cfg(all(feature = "hub", not(target_arch = "wasm32")))]
pub mod hub;
pub mod sampler;
pub mod stop;
pub mod tokenizer;

pub use error::{Error, Result};
