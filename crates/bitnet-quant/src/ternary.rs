//! Absmean: how a real matrix becomes a ternary one.
//!
//! With `m` the mean of |w| over the whole matrix, but at least 10⁻⁵, a weight becomes `round(w · (1/m))` clamped to
//! −1, 0 or +1, and stands for that times `m` (BitNet b1.58, arXiv:2402.17764). Ties round to even.
//!
//! **Not idempotent.** A ternary matrix with a share `p` of non-zeros has mean magnitude `m·p`, so quantizing it again
//! keeps its codes and shrinks its scale. Ask [`is_ternary`] first, and keep the scale it finds.

use crate::QuantError;
use crate::float::absmax;

/// The least scale; a matrix of smaller weights becomes zeros.
const SCALE_FLOOR: f32 = 1e-5;

/// How far a number may be from −1, 0 or +1 times a scale to count as it, relative to the scale.
pub(crate) const TOLERANCE: f64 = 1e-6;

const LANES: usize = 8;

/// The mean magnitude of a matrix that arrives in pieces.
///
/// Sums in f64, in eight lanes by the element's index in the matrix, so the result depends on the elements and their order
/// alone and not on how they were cut.
#[derive(Debug, Clone, Default)]
pub struct AbsMean {
    lanes: [f64; LANES],
    count: u64,
}

impl AbsMean {
    /// Starts with no elements.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next elements of the matrix, row after row.
    pub fn add(&mut self, values: &[f32]) {
        let lane = (self.count % LANES as u64) as usize;
        let (head, rest) = values.split_at(values.len().min((LANES - lane) % LANES));
        let (runs, tail) = rest.as_chunks::<LANES>();
        for (sum, value) in self.lanes[lane..].iter_mut().zip(head) {
            *sum += f64::from(value.abs());
        }
        for run in runs {
            for (sum, value) in self.lanes.iter_mut().zip(run) {
                *sum += f64::from(value.abs());
            }
        }
        for (sum, value) in self.lanes.iter_mut().zip(tail) {
            *sum += f64::from(value.abs());
        }
        self.count += values.len() as u64;
    }

    /// The scale: the mean of the magnitudes added, at least 10⁻⁵ (also for no elements).
    ///
    /// # Errors
    /// [`QuantError::Number`] if an element was NaN or infinite.
    pub fn scale(&self) -> Result<f32, QuantError> {
        let [a, b, c, d, e, f, g, h] = self.lanes;
        let sum = ((a + b) + (c + d)) + ((e + f) + (g + h));
        if !sum.is_finite() {
            return Err(QuantError::Number {
                what: "sum of the weights' magnitudes",
                value: sum,
            });
        }
        let mean = sum / self.count.max(1) as f64;
        Ok((mean as f32).max(SCALE_FLOOR))
    }
}

/// The absmean scale of a whole matrix: the mean magnitude, at least 10⁻⁵.
///
/// # Errors
/// [`QuantError::Number`] if a value is NaN or infinite.
pub fn absmean(values: &[f32]) -> Result<f32, QuantError> {
    let mut mean = AbsMean::new();
    mean.add(values);
    mean.scale()
}

/// Quantizes a whole matrix to codes −1, 0 and +1 and returns their scale. `out` has one element per weight.
///
/// ```
/// # fn main() -> Result<(), bitnet_quant::QuantError> {
/// let weights = [2.0, -1.0, 0.5, -0.5, 0.0, 0.25, -1.5, 2.25];
/// let mut codes = [0; 8];
/// let scale = bitnet_quant::quantize_absmean(&weights, &mut codes)?;
/// assert_eq!(scale, 1.0);
/// assert_eq!(codes, [1, -1, 0, 0, 0, 0, -1, 1]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`QuantError::Shape`] if the lengths differ; [`QuantError::Number`] if a weight is NaN or infinite.
pub fn quantize_absmean(weights: &[f32], out: &mut [i8]) -> Result<f32, QuantError> {
    let scale = absmean(weights)?;
    ternarize(weights, scale, out)?;
    Ok(scale)
}

/// Quantizes weights to codes −1, 0 and +1 of a scale found before: the second pass of [`quantize_absmean`] for
/// a matrix that comes in pieces.
///
/// # Errors
/// [`QuantError::Shape`] if the lengths differ; [`QuantError::Number`] if `scale` is not a positive normal number, or
/// a weight is NaN or infinite.
pub fn ternarize(weights: &[f32], scale: f32, out: &mut [i8]) -> Result<(), QuantError> {
    if weights.len() != out.len() {
        return Err(QuantError::Shape {
            what: "codes",
            expected: weights.len(),
            found: out.len(),
        });
    }
    if !(scale.is_normal() && scale > 0.0) {
        return Err(QuantError::Number {
            what: "scale",
            value: f64::from(scale),
        });
    }
    let most = absmax(weights);
    if !most.is_finite() {
        return Err(QuantError::Number {
            what: "weight",
            value: f64::from(most),
        });
    }
    let inverse = 1.0 / scale;
    for (code, weight) in out.iter_mut().zip(weights) {
        // Rounded to even and clamped, only half a step and beyond is not 0; and a half itself is a tie, so it is.
        let ratio = weight * inverse;
        *code = i8::from(ratio > 0.5) - i8::from(ratio < -0.5);
    }
    Ok(())
}

/// Finds out whether a matrix that arrives in pieces is ternary already.
#[derive(Debug, Clone)]
pub struct TernaryScale {
    /// Bits of the least magnitude but 0, less 1: so that a 0, which wraps, is the greatest of all.
    least: u32,
    /// The greatest magnitude, NaN above infinity.
    most: f32,
}

impl Default for TernaryScale {
    fn default() -> Self {
        Self {
            least: u32::MAX,
            most: 0.0,
        }
    }
}

impl TernaryScale {
    /// Starts with no elements.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next elements of the matrix.
    pub fn add(&mut self, values: &[f32]) {
        let bits = |value: &f32| value.abs().to_bits().wrapping_sub(1);
        self.least = values.iter().map(bits).fold(self.least, u32::min);
        self.most = absmax(&[self.most, absmax(values)]);
    }

    /// The scale, if every element was 0 or plus or minus one number (within a relative 10⁻⁶); 0 if all were 0.
    pub fn scale(&self) -> Option<f32> {
        let least = f32::from_bits(self.least.wrapping_add(1));
        let ternary = self.most == 0.0 || same_magnitude(least, self.most);
        (ternary && self.most.is_finite()).then_some(self.most)
    }
}

/// Whether a number is plus or minus another, within a relative 10⁻⁶.
pub(crate) fn same_magnitude(value: f32, scale: f32) -> bool {
    let (value, scale) = (f64::from(value.abs()), f64::from(scale.abs()));
    (value - scale).abs() <= TOLERANCE * scale
}

/// The scale of a matrix that is ternary already: `Some(scale)` if every value is 0 or plus or minus one number (within
/// a relative 10⁻⁶), 0 if all are 0; `None` if magnitudes differ or a value is NaN or infinite.
///
/// Such a matrix must not be quantized by absmean again, which would shrink it.
pub fn is_ternary(values: &[f32]) -> Option<f32> {
    let mut scale = TernaryScale::new();
    scale.add(values);
    scale.scale()
}
