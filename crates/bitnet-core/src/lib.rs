//! Where numbers live and move: backends, kernels, and the shapes they agree on.

mod error;

pub use error::{Error, Result};
