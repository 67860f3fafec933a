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
        let mut sums = ErrorSums::default();
        sums.add(original, decoded)?;
        Ok(sums.metrics())
    }
}

/// The sums that [`ErrorMetrics`] are made of, for numbers that arrive in pieces.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ErrorSums {
    count: u64,
    noise: f64,
    signal: f64,
    power: f64,
    product: f64,
    max_error: f64,
}

impl ErrorSums {
    /// Adds numbers and what became of them.
    ///
    /// # Errors
    /// [`QuantError::Shape`] if the lengths differ.
    pub fn add(&mut self, original: &[f32], decoded: &[f32]) -> Result<(), QuantError> {
        if original.len() != decoded.len() {
            return Err(QuantError::Shape {
                what: "decoded numbers",
                expected: original.len(),
                found: decoded.len(),
            });
        }
        for (&x, &y) in original.iter().zip(decoded) {
            let (x, y) = (f64::from(x), f64::from(y));
            let error = (x - y).abs();
            self.noise += error * error;
            self.signal += x * x;
            self.power += y * y;
            self.product += x * y;
            self.raise(error);
        }
        self.count += original.len() as u64;
        Ok(())
    }

    /// Adds the sums of other numbers.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.noise += other.noise;
        self.signal += other.signal;
        self.power += other.power;
        self.product += other.product;
        self.raise(other.max_error);
    }

    fn raise(&mut self, error: f64) {
        if error > self.max_error || error.is_nan() {
            self.max_error = error;
        }
    }

    /// The metrics of all numbers so far.
    pub fn metrics(&self) -> ErrorMetrics {
        let Self {
            count,
            noise,
            signal,
            power,
            product,
            max_error,
        } = *self;
        ErrorMetrics {
            mse: noise / count.max(1) as f64,
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
        }
    }
}
