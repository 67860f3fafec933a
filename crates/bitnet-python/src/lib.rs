//! The native part of the Python module `bitnet_rust`: models, engines and sessions as classes, thin over the library.
//!
//! | file | content |
//! |---|---|
//! | `process` | what runs long while Python waits: signals interrupt it, and a forked child is refused |
//! | `error` | errors as the exceptions of `bitnet_rust.errors` |
//! | `model`, `tokenizer`, `session` | what they are called |
//! | `engine` | many texts at once: the server of `bitnet-server` without a network |
//! | `files` | inspection and conversion of model files |
//! | `log` | what the library says, to Python's `logging` |
//!
//! Names and types that people see are in Python, beside this crate in `python/bitnet_rust`.

mod engine;
mod error;
mod files;
mod log;
mod model;
mod process;
mod session;
mod tokenizer;

use pyo3::prelude::*;

/// The native part of `bitnet_rust`.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::engine::{Engine, Reply};
    #[pymodule_export]
    use super::files::{convert, inspect, run_command};
    #[pymodule_export]
    use super::model::Model;
    #[pymodule_export]
    use super::session::{Session, SessionStream};
    #[pymodule_export]
    use super::tokenizer::Tokenizer;

    /// The version of the library.
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
