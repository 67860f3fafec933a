//! Rotary position embedding (RoPE) of one model, as data.

/// Elements of a head that rotate together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopePairs {
    /// (i, i + d/2): "NeoX", Hugging Face.
    HalfSplit,
    /// (2i, 2i + 1): GGUF files of architecture `llama`.
    Interleaved,
}

/// Rotary position embedding of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Which elements pair.
    pub pairs: RopePairs,
    /// Number of leading elements of a head that rotate; even, at most the head's width, 0 for a mixer without rotation.
    pub dims: usize,
    /// θ in θ^(−2i/dims).
    pub base: f32,
    /// Divisors of the frequencies, from a file (`rope_freqs.weight`) or from scaling (linear, YaRN, …): `dims / 2` of
    /// them, or empty for none.
    pub divisors: Vec<f32>,
    /// Multiplies cos and sin of the elements that rotate, in queries and in keys; 1 unless positions are scaled.
    pub magnitude: f32,
}

impl Rope {
    /// Radians per position of pair `pair`: θ^(−2·pair/dims), divided by its divisor. Computed in f64.
    pub fn frequency(&self, pair: usize) -> f64 {
        let exponent = -2.0 * pair as f64 / self.dims as f64;
        let divisor = self.divisors.get(pair).copied().unwrap_or(1.0);
        libm::pow(f64::from(self.base), exponent) / f64::from(divisor)
    }

    /// Divides the frequencies by `divisors` as well, `dims / 2` of them.
    pub fn divide(&mut self, divisors: &[f32]) {
        if self.divisors.is_empty() {
            self.divisors = divisors.to_vec();
        } else {
            let pairs = self.divisors.iter_mut().zip(divisors);
            pairs.for_each(|(divisor, other)| *divisor *= other);
        }
    }
}
