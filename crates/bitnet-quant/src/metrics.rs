//! How far decoded numbers are from the ones they stand for.

use crate::QuantError;

/// Differences between numbers and what a quantizer made of them, computed in f64.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErrorMetrics {
    /// Mean squared error; 0 for no elements.
    pub mse: f64,
    /// Signal over noise in decibels, `10·log₁₀(Σx² / Σ(x−y)²)`: +∞ without noise (also for no elements), −∞ for noise
    /// without a signal.
    pub sqnr_db: f64,
    /// Cosine of the angle between the two as vectors, −1 to 1: 1 if both are zero or empty, 0 if one is.
    pub cosine: f64,
    /// Largest |x − y|; 0 for no elements.
    pub max_error: f64,
}

impl ErrorMetrics {
    /// Compares `decoded` with `original`. A NaN or infinity in either makes the metrics it touches NaN or infinite.
    ///
    /// # Errors
    /// [`QuantError::Shape`] if the lengths differ.
    pub fn between(original: &[f32], decoded: &[f32]) -> Result<Self, QuantError> {
        if original.len() != decoded.len() {
            return Err(QuantError::Shape {
                what: "decoded numbers",
                expected: original.len(),
                found: decoded.len(),
            });
        }
        let (mut noise, mut signal, mut power, mut product) = (0.0f64, 0.0f64, 0.0f64, 0.0f64);
        let mut max_error = 0.0f64;
        for (&x, &y) in original.iter().zip(decoded) {
            let (x, y) = (f64::from(x), f64::from(y));
            let error = (x - y).abs();
            noise += error * error;
            signal += x * x;
            power += y * y;
            product += x * y;
            if error > max_error || error.is_nan() {
                max_error = error;
            }
        }
        Ok(Self {
            mse: noise / original.len().max(1) as f64,
            sqnr_db: if noise == 0.0 {
                f64::INFINITY
            } else {
                10.0 * (signal / noise).log10()
            },
            cosine: if signal == 0.0 && power == 0.0 {
                1.0
            } else if signal == 0.0 || power == 0.0 {
                0.0
            } else {
                (product / (signal.sqrt() * power.sqrt())).clamp(-1.0, 1.0)
            },
            max_error,
        })
    }
}
