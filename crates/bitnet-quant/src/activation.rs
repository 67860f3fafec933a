//! Absmax: a token's activations as int8, the other operand of a ternary matrix product.
//!
//! Per token: `s = 127 / max(absmax, 10⁻⁵)`, `q = clamp(round(x · s), −128, 127)`, ties to even, all in f32. Then
//! `Σ q·t` is exact in integers, and divided by `s` it is the product. This is the reference the fast kernels
//! agree with to the bit.

use crate::QuantError;
use crate::float::{absmax, round_small};

/// The least magnitude taken for a token's largest.
const ABSMAX_FLOOR: f32 = 1e-5;

/// Quantizes the activations of one token to int8 and returns `s`, by which they were multiplied. `q` has one element
/// per activation. No activations, or only zeros, give `s` = 127 / 10⁻⁵.
///
/// # Errors
/// [`QuantError::Shape`] if the lengths differ; [`QuantError::Number`] if an activation is NaN or infinite, in which
/// case `q` is untouched.
pub fn quantize_absmax_i8(x: &[f32], q: &mut [i8]) -> Result<f32, QuantError> {
    if x.len() != q.len() {
        return Err(QuantError::Shape {
            what: "quantized activations",
            expected: x.len(),
            found: q.len(),
        });
    }
    let most = absmax(x);
    if !most.is_finite() {
        return Err(QuantError::Number {
            what: "activation",
            value: f64::from(most),
        });
    }
    let s = 127.0 / most.max(ABSMAX_FLOOR);
    for (q, x) in q.iter_mut().zip(x) {
        *q = round_small((x * s).clamp(-128.0, 127.0)) as i8;
    }
    Ok(s)
}
