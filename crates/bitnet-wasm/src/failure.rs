//! Errors as JavaScript sees them: an `Error` named `BitNetError` with a `code` and, where one is at fault, a `tensor`.

use bitnet::Error;
use js_sys::Reflect;
use wasm_bindgen::JsValue;

/// The result of what JavaScript calls.
pub(crate) type Result<T> = std::result::Result<T, JsValue>;

/// A failure before it becomes a JavaScript value, which exists in a browser only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) tensor: Option<String>,
}

impl Failure {
    /// An argument that JavaScript got wrong.
    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self {
            code: "argument",
            message: message.into(),
            tensor: None,
        }
    }

    /// Memory that could not be had.
    pub(crate) fn no_memory(bytes: usize, what: &str) -> Self {
        Self {
            code: "no-memory",
            message: format!("out of memory: {bytes} bytes for {what}"),
            tensor: None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            code: code(&error),
            message: error.to_string(),
            tensor: match error {
                Error::Tensor { tensor, .. } => Some(tensor),
                _ => None,
            },
        }
    }
}

impl From<bitnet_core::Error> for Failure {
    fn from(error: bitnet_core::Error) -> Self {
        Error::Backend(error).into()
    }
}

impl From<Failure> for JsValue {
    fn from(failure: Failure) -> Self {
        let error = js_sys::Error::new(&failure.message);
        error.set_name("BitNetError");
        // Setting a property of an object made here cannot fail.
        let set = |key: &str, value: &str| Reflect::set(&error, &key.into(), &value.into());
        let _ = set("code", failure.code);
        if let Some(tensor) = &failure.tensor {
            let _ = set("tensor", tensor);
        }
        error.into()
    }
}

/// Turns an error of the library into what JavaScript gets.
pub(crate) fn thrown(error: Error) -> JsValue {
    Failure::from(error).into()
}

/// What programs tell errors apart by.
fn code(error: &Error) -> &'static str {
    match error {
        Error::Malformed { .. } | Error::Tensor { .. } | Error::Tokenizer { .. } => "bad-file",
        Error::Quant(_) => "bad-file",
        Error::Unsupported { .. } => "unsupported",
        Error::Template(_) => "template",
        Error::Argument { .. } => "argument",
        Error::ContextFull { .. } => "context-full",
        Error::Cancelled => "aborted",
        Error::Backend(error) => match error {
            bitnet_core::Error::OutOfMemory { .. } => "no-memory",
            bitnet_core::Error::Unavailable { .. } => "unavailable",
            bitnet_core::Error::DeviceLost { .. } => "gpu-lost",
            bitnet_core::Error::Refused { .. } => "internal",
            // The options are checked before: what remains are weights of the wrong shape, or that are no numbers.
            _ => "bad-file",
        },
        _ => "internal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_at_fault_is_named() {
        let failure = Failure::from(Error::tensor("a.gguf", "blk.0.attn_q.weight", "1", "2"));
        assert_eq!(failure.code, "bad-file");
        assert_eq!(failure.tensor.as_deref(), Some("blk.0.attn_q.weight"));
        assert!(failure.message.contains("a.gguf"));
    }

    #[test]
    fn want_of_memory_is_told_from_a_bad_file() {
        let error = bitnet_core::Error::OutOfMemory {
            what: "keys".into(),
            bytes: 1,
            in_use: 0,
            limit: None,
        };
        assert_eq!(Failure::from(Error::Backend(error)).code, "no-memory");
    }
}
