//! Errors of the library as the exceptions of `bitnet_rust.errors`.

use bitnet::Error;
use pyo3::prelude::*;

/// The exception for an error of the library.
pub(crate) fn exception(error: Error) -> PyErr {
    named(class(&error), error.to_string())
}

/// The exception for an error of the command, which may be one of the library.
pub(crate) fn of_command(error: anyhow::Error) -> PyErr {
    let message = format!("{error:#}");
    match error.downcast::<Error>() {
        Ok(error) => exception(error),
        Err(_) => named("BitnetError", message),
    }
}

/// An option with a value that it cannot have.
pub(crate) fn argument(what: &'static str, expected: impl Into<String>, found: String) -> PyErr {
    exception(Error::Argument {
        what,
        expected: expected.into(),
        found,
    })
}

/// The exception of class `name` in `bitnet_rust.errors`.
pub(crate) fn named(name: &str, message: String) -> PyErr {
    Python::attach(|py| {
        let made = py
            .import("bitnet_rust.errors")
            .and_then(|errors| errors.getattr(name))
            .and_then(|class| class.call1((message,)));
        made.map_or_else(|error| error, PyErr::from_value)
    })
}

fn class(error: &Error) -> &'static str {
    match error {
        Error::Io { .. } => "FileError",
        Error::Malformed { .. } | Error::Tensor { .. } | Error::Quant(_) => "FormatError",
        Error::Unsupported { .. } => "UnsupportedError",
        Error::Tokenizer { .. } => "TokenizerError",
        Error::Template(_) => "TemplateError",
        Error::Argument { .. } => "ArgumentError",
        Error::ContextFull { .. } => "ContextError",
        Error::Download { .. } => "DownloadError",
        Error::Backend(_) => "BackendError",
        Error::Overloaded { .. } => "OverloadedError",
        Error::Stopped => "StoppedError",
        Error::Cancelled => "CancelledError",
        _ => "BitnetError",
    }
}
