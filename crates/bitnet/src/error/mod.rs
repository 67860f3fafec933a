//! Everything that can go wrong between a model's name and its text.

mod download;

use std::path::PathBuf;

pub use bitnet_core::Error as BackendError;
pub use download::DownloadFault;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed. Every message names the file or tensor, what was expected and what was found.
///
/// Kinds are matched without another crate: what a backend says is a [`BackendError`], what a download says a
/// [`DownloadFault`].
///
/// ```
/// use bitnet::{BackendError, DownloadFault, Error};
///
/// fn status(error: &Error) -> u16 {
///     match error {
///         Error::Argument { .. } | Error::ContextFull { .. } => 400,
///         Error::Download { fault: DownloadFault::NotFound { .. }, .. } => 404,
///         Error::Download { fault: DownloadFault::Forbidden { .. }, .. } => 403,
///         Error::Overloaded { .. } | Error::Backend(BackendError::OutOfMemory { .. }) => 503,
///         _ => 500,
///     }
/// }
/// assert_eq!(status(&Error::Overloaded { waiting: 9 }), 503);
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read, map or write a file.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file breaks the rules of its format.
    #[error("{file}: {what}: expected {expected}, found {found}")]
    Malformed {
        /// The file's name, or "memory" for a buffer.
        file: String,
        /// The field or key at fault.
        what: String,
        /// What the format demands there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// A tensor is missing, or does not have the shape, type or content that the model needs.
    #[error("{file}: tensor {tensor}: expected {expected}, found {found}")]
    Tensor {
        /// The file's name.
        file: String,
        /// The tensor's name.
        tensor: String,
        /// What the model demands.
        expected: String,
        /// What the file holds.
        found: String,
    },
    /// A well-formed file that this runtime does not run; `advice` says what to do instead.
    #[error("{file}: {what} is not supported; {advice}")]
    Unsupported {
        /// The file's name.
        file: String,
        /// The feature.
        what: String,
        /// What the user can do.
        advice: String,
    },
    /// The tokenizer cannot be built from its description, or refused a text.
    #[error("{file}: tokenizer: {message}")]
    Tokenizer {
        /// The file it was described in.
        file: String,
        /// What is wrong.
        message: String,
    },
    /// The chat template does not compile, ran too long, or raised an error.
    #[error("chat template: {0}")]
    Template(String),
    /// An option or argument outside what it can be.
    #[error("{what}: expected {expected}, found {found}")]
    Argument {
        /// The option.
        what: &'static str,
        /// The allowed values.
        expected: String,
        /// The value given.
        found: String,
    },
    /// The prompt and what was generated fill the context window.
    #[error("the context of {capacity} tokens is full: {used} used, {wanted} more wanted")]
    ContextFull {
        /// Tokens that fit.
        capacity: usize,
        /// Tokens present.
        used: usize,
        /// Tokens that did not fit.
        wanted: usize,
    },
    /// A model name that cannot be resolved or downloaded. Nothing in it shows a password.
    #[error("{model}: {place}{fault}", place = download::place(model, address))]
    Download {
        /// The name or address asked for.
        model: String,
        /// The address of the file, listing or page that the fault is about, where it is about one.
        address: Option<String>,
        /// What is wrong and what to do.
        fault: DownloadFault,
    },
    /// A compute backend failed.
    #[error(transparent)]
    Backend(#[from] bitnet_core::Error),
    /// A packed format was refused.
    #[error(transparent)]
    Quant(#[from] bitnet_quant::QuantError),
    /// More requests wait for an engine than it lets wait.
    #[error("{waiting} requests wait, and no more may: try again later")]
    Overloaded {
        /// Requests that wait.
        waiting: usize,
    },
    /// An engine has stopped, or takes no more requests.
    #[error("the engine has stopped: start another one")]
    Stopped,
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// An [`Error::Io`] for `path`.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io {
            path: path.into(),
            source,
        }
    }

    /// An [`Error::Malformed`] from displayable parts.
    pub fn malformed(
        file: impl Into<String>,
        what: impl ToString,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        Self::Malformed {
            file: file.into(),
            what: what.to_string(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    /// An [`Error::Tensor`] from displayable parts.
    pub fn tensor(
        file: impl Into<String>,
        tensor: impl Into<String>,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        Self::Tensor {
            file: file.into(),
            tensor: tensor.into(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    /// An [`Error::Tokenizer`] from displayable parts.
    pub fn tokenizer(file: impl Into<String>, message: impl ToString) -> Self {
        Self::Tokenizer {
            file: file.into(),
            message: message.to_string(),
        }
    }
}
