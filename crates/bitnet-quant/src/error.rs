//! What can be wrong with numbers and their packed bytes.

use crate::Format;

/// Why a quantizer or codec refused its input.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum QuantError {
    /// A length that does not fit the format: `found` is not `expected`, or not a multiple of it.
    #[error("{format}: {what}: found {found}, expected {expected} or a whole multiple")]
    Length {
        /// Which length.
        what: &'static str,
        /// The format at hand.
        format: Format,
        /// The length (or block length) that fits.
        expected: usize,
        /// The length given.
        found: usize,
    },
    /// A 2-bit code 3, which stands for no ternary value.
    #[error("{format}: element {index} has code 3, which is no ternary value")]
    NotTernary {
        /// The format at hand.
        format: Format,
        /// Index of the element in the slice.
        index: usize,
    },
    /// A scale or value that is NaN or infinite, or outside what the format can hold.
    #[error("{format}: {what} is {value}, which the format cannot hold")]
    Value {
        /// Which number.
        what: &'static str,
        /// The format at hand.
        format: Format,
        /// The number.
        value: f64,
    },
    /// An operation the format has no meaning for.
    #[error("{format}: {what}")]
    Unsupported {
        /// What was asked.
        what: &'static str,
        /// The format at hand.
        format: Format,
    },
    /// A count of elements that is not the one its neighbours ask for.
    #[error("{what} has {found} elements, expected {expected}")]
    Shape {
        /// Which slice.
        what: &'static str,
        /// The count that fits.
        expected: usize,
        /// The count given.
        found: usize,
    },
    /// A number no quantizer can use: NaN, infinite, or out of range.
    #[error("{what} is {value}, which cannot be used here")]
    Number {
        /// Which number.
        what: &'static str,
        /// The number.
        value: f64,
    },
    /// A packed 2-bit field or a code that stands for none of −1, 0 and +1.
    #[error("{what}: element {index} has code {code}, which is no ternary value")]
    Code {
        /// Where it was found.
        what: &'static str,
        /// Index of the element in the matrix, row after row.
        index: usize,
        /// The code found.
        code: i32,
    },
}
