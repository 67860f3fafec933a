//! Many texts at once: one engine runs the requests of many callers together.
//!
//! ```no_run
//! use bitnet::{Engine, EngineOptions, GenerateOptions, Model, Request};
//!
//! # fn main() -> bitnet::Result<()> {
//! let engine = Engine::new(&Model::open("ggml-model-i2_s.gguf")?, EngineOptions::default())?;
//! let options = GenerateOptions::default();
//! let streams = ["One", "Two"].map(|prompt| engine.submit(Request::new(prompt, &options)));
//! for stream in streams {
//!     for piece in stream? {
//!         print!("{}", piece?.text);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A [`Batcher`] does the work, one step at a time: every running text gets its next token, and what is left of a budget of tokens
//! is shared among the prompts that are being read, so that a long one does not stop the others. [`Engine`] is a thread
//! around it; where there are no threads, as in a browser, the caller drives the batcher.
//!
//! **A text does not depend on the others.** Its logits have the bits that they would have alone, whatever runs beside it, however
//! its prompt is divided, and if it had to make room and run again. (Bits are the same on one backend; on a CPU they are the
//! same on every one.)
//!
//! Keys and values that were computed once are kept while there is room: a prompt that begins as an earlier one did is read from
//! where it differs.

mod ahead;
mod batcher;
mod budget;
mod gauges;
mod handle;
mod options;
mod prefix;
mod request;
mod room;
mod sequence;
mod stream;

pub use batcher::Batcher;
pub use gauges::{Gauges, STEP_SIZES};
pub use handle::Engine;
pub use options::EngineOptions;
pub use request::Request;
pub use stream::{Finish, TokenStream};

/// Positions of a block of keys and values: prefixes are shared by whole blocks.
const BLOCK: usize = 64;
