//! The errors of tensor operations: each names the operation and the shapes or types of its operands.

use crate::{BitNetDType, Dims};
use bitnet_core::{Device, Error};

/// Two shapes that do not fit one operation.
pub(crate) fn shapes(op: &str, expected: &str, a: &Dims, b: &Dims) -> Error {
    Error::Shape {
        what: op.into(),
        expected: expected.into(),
        found: format!("{a:?} and {b:?}"),
    }
}

/// A shape that does not fit an operation.
pub(crate) fn shape(op: &str, expected: impl Into<String>, found: &[usize]) -> Error {
    Error::Shape {
        what: op.into(),
        expected: expected.into(),
        found: format!("shape {found:?}"),
    }
}

/// Element types that an operation does not take together.
pub(crate) fn dtypes(op: &str, a: BitNetDType, b: BitNetDType) -> Error {
    Error::Value {
        what: format!("{op}: element types"),
        expected: "equal ones".into(),
        found: format!("{a} and {b}"),
    }
}

/// An element type that an operation does not take.
pub(crate) fn dtype(op: &str, expected: &str, found: BitNetDType) -> Error {
    Error::Value {
        what: format!("{op}: element type"),
        expected: expected.into(),
        found: found.name().into(),
    }
}

/// An argument out of range.
pub(crate) fn argument(what: String, expected: impl Into<String>, found: String) -> Error {
    Error::Value {
        what,
        expected: expected.into(),
        found,
    }
}

/// A device that holds no tensors.
#[cold]
pub(crate) fn device(found: Device) -> Error {
    Error::Unavailable {
        what: format!("a tensor on device {found}"),
        why: "tensors lie in main memory; a GPU runs whole models".into(),
    }
}
