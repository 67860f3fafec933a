//! Ternary codes and a scale with the least squared error.
//!
//! For a set of `k` weights whose codes are not 0 the best scale is the mean `m` of their magnitudes, and the squared error is then
//! `Σw² − k·m²`; the best set of `k` has the greatest magnitudes. So every `k` is tried, over sorted magnitudes for a group of
//! weights, and over a histogram of them for a matrix (F. Li and others, Ternary Weight Networks, arXiv:1605.04711).

use crate::QuantError;
use crate::ternary::ternarize;

/// Quantizes a group of weights to codes −1, 0 and +1 with the least squared error there is, and returns their scale: 0 if every
/// weight is. `out` has one element per weight. Takes time in proportion to `n log n`.
///
/// ```
/// # fn main() -> Result<(), bitnet_quant::QuantError> {
/// let weights = [2.0, -1.5, 0.25, 0.0, 1.75, -0.5];
/// let mut codes = [0; 6];
/// let scale = bitnet_quant::quantize_least_squares(&weights, &mut codes)?;
/// assert_eq!(scale, 1.75);
/// assert_eq!(codes, [1, -1, 0, 0, 1, 0]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`QuantError::Shape`] if the lengths differ; [`QuantError::Number`] if a weight is NaN or infinite.
pub fn quantize_least_squares(weights: &[f32], out: &mut [i8]) -> Result<f32, QuantError> {
    // Without their sign, floats are ordered as their bits are, with NaN above infinity.
    let mut magnitudes: Vec<u32> = weights.iter().map(|w| w.abs().to_bits()).collect();
    magnitudes.sort_unstable_by(|a, b| b.cmp(a));
    let magnitudes = magnitudes
        .into_iter()
        .map(|bits| f64::from(f32::from_bits(bits)));
    let scale = best_mean(magnitudes.map(|magnitude| (1, magnitude)))?;
    round(weights, scale, out)?;
    Ok(scale)
}

/// The codes that are nearest to weights of a scale that may be 0.
fn round(weights: &[f32], scale: f32, out: &mut [i8]) -> Result<(), QuantError> {
    if scale.is_normal() {
        return ternarize(weights, scale, out);
    }
    // Only zeros and numbers that are next to nothing have such a scale.
    ternarize(weights, 1.0, out)
}

/// The mean of the first sums for which `(Σ)² / count` is the greatest; 0 for none, and for magnitudes next to 0. Sums come by falling
/// magnitude, each with the count of its elements.
fn best_mean(sums: impl Iterator<Item = (u64, f64)>) -> Result<f32, QuantError> {
    let (mut count, mut sum) = (0u64, 0.0f64);
    let (mut best, mut mean) = (0.0f64, 0.0f64);
    for (more, added) in sums {
        count += more;
        sum += added;
        let explained = sum * sum / count.max(1) as f64;
        if explained > best {
            (best, mean) = (explained, sum / count as f64);
        }
    }
    if !sum.is_finite() {
        return Err(QuantError::Number {
            what: "sum of the weights' magnitudes",
            value: sum,
        });
    }
    let mean = mean as f32;
    Ok(if mean.is_normal() { mean } else { 0.0 })
}

/// Bits of a magnitude that a histogram leaves out: bfloat16 has the others.
const DROPPED: u32 = 16;
/// Bins: one for each magnitude of bfloat16.
const BINS: usize = 1 << 15;

/// The magnitudes of a matrix that arrives in pieces, for the scale with the least squared error.
///
/// Elements are counted by the magnitude in bfloat16 that they begin with, so the scale is exact for weights of that type, and for others
/// the choice of codes that are not 0 is off by less than 2⁻⁷ of the smallest magnitude among them. Sums are made in f64, in the order of
/// the elements.
#[derive(Debug, Clone)]
pub struct LeastSquares {
    bins: Vec<(u64, f64)>,
}

impl Default for LeastSquares {
    fn default() -> Self {
        Self {
            bins: vec![(0, 0.0); BINS],
        }
    }
}

impl LeastSquares {
    /// Starts with no elements.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds elements of the matrix.
    pub fn add(&mut self, values: &[f32]) {
        for value in values {
            let magnitude = value.abs();
            if let Some((count, sum)) = self.bins.get_mut((magnitude.to_bits() >> DROPPED) as usize)
            {
                *count += 1;
                *sum += f64::from(magnitude);
            }
        }
    }

    /// The scale with the least squared error; 0 if every element was 0, or next to it.
    ///
    /// # Errors
    /// [`QuantError::Number`] if an element was NaN or infinite.
    pub fn scale(&self) -> Result<f32, QuantError> {
        let filled = self.bins.iter().rev().filter(|(count, _)| *count > 0);
        best_mean(filled.copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(weights: &[f32], codes: &[i8], scale: f32) -> f64 {
        let pairs = weights.iter().zip(codes);
        let errors = pairs.map(|(w, code)| f64::from(*w) - f64::from(*code) * f64::from(scale));
        errors.map(|error| error * error).sum()
    }

    /// The least squared error of any codes, each with its own best scale.
    fn least(weights: &[f32]) -> f64 {
        let power: f64 = weights.iter().map(|w| f64::from(*w).powi(2)).sum();
        let mut best = power;
        for mut choice in 0..3usize.pow(weights.len() as u32) {
            let (mut product, mut count) = (0.0, 0.0);
            for weight in weights {
                let code = (choice % 3) as f64 - 1.0;
                choice /= 3;
                product += f64::from(*weight) * code;
                count += code * code;
            }
            if count > 0.0 && product > 0.0 {
                best = best.min(power - product * product / count);
            }
        }
        best
    }

    proptest! {
        #[test]
        fn no_codes_have_less_error(weights in prop::collection::vec(-4.0f32..4.0, 0..7)) {
            let mut codes = vec![0; weights.len()];
            let scale = quantize_least_squares(&weights, &mut codes)?;
            let found = error(&weights, &codes, scale);
            prop_assert!(found <= least(&weights) + 1e-5, "{found} {}", least(&weights));
        }

        #[test]
        fn a_matrix_has_the_scale_of_a_group(
            weights in prop::collection::vec(-4.0f32..4.0, 1..300),
            cut in 0usize..300,
        ) {
            // bfloat16 alone is exact.
            let weights: Vec<f32> =
                weights.iter().map(|w| f32::from_bits(w.to_bits() >> 16 << 16)).collect();
            let mut codes = vec![0; weights.len()];
            let expected = quantize_least_squares(&weights, &mut codes)?;
            let (a, b) = weights.split_at(cut.min(weights.len()));
            let mut matrix = LeastSquares::new();
            matrix.add(a);
            matrix.add(b);
            let found = matrix.scale()?;
            prop_assert!((found - expected).abs() <= 1e-5 * expected, "{found} {expected}");
        }
    }

    #[test]
    fn zeros_and_numbers_that_are_none() {
        let mut codes = [1; 3];
        assert_eq!(quantize_least_squares(&[0.0; 3], &mut codes), Ok(0.0));
        assert_eq!(codes, [0; 3]);
        assert_eq!(quantize_least_squares(&[1e-40; 3], &mut codes), Ok(0.0));
        assert_eq!(codes, [0; 3]);
        assert_eq!(LeastSquares::new().scale(), Ok(0.0));
        for wrong in [f32::NAN, f32::INFINITY] {
            assert!(quantize_least_squares(&[1.0, wrong, 0.0], &mut codes).is_err());
            let mut matrix = LeastSquares::new();
            matrix.add(&[1.0, wrong]);
            assert!(matrix.scale().is_err());
        }
        assert!(quantize_least_squares(&[1.0], &mut codes).is_err());
    }
}
