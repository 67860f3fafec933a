//! Random tensors that are the same on every machine: element `i` depends on the seed and `i` alone.

use crate::storage::fill;
use crate::{BitNetDType, BitNetTensor, Dims};
use bitnet_core::{Device, HybridMemoryPool, Result};

impl BitNetTensor {
    /// Normally distributed f32 of mean 0 and standard deviation 1, determined by `seed`.
    ///
    /// Box and Muller's transform in f64 of uniform numbers from the SplitMix64 generator.
    ///
    /// # Errors
    /// If there are more than [`Dims::MAX_RANK`] axes or memory is short.
    pub fn randn(
        shape: &[usize],
        seed: u64,
        device: &Device,
        pool: &HybridMemoryPool,
    ) -> Result<Self> {
        let shape = Dims::new(shape)?;
        fill::<f32>(shape, BitNetDType::F32, *device, pool, |out| {
            for (pair, out) in out.chunks_mut(2).enumerate() {
                let pair = pair as u64;
                // In (0, 1], so that the logarithm is finite.
                let radius = libm::sqrt(-2.0 * libm::log(1.0 - uniform(seed, 2 * pair)));
                let angle = std::f64::consts::TAU * uniform(seed, 2 * pair + 1);
                let both = [radius * libm::cos(angle), radius * libm::sin(angle)];
                for (out, value) in out.iter_mut().zip(both) {
                    *out = value as f32;
                }
            }
            Ok(())
        })
    }

    /// Uniformly distributed f32 from `low` to `high`, determined by `seed`.
    ///
    /// # Errors
    /// As for [`randn`](Self::randn).
    pub fn rand(
        shape: &[usize],
        (low, high): (f32, f32),
        seed: u64,
        device: &Device,
        pool: &HybridMemoryPool,
    ) -> Result<Self> {
        let shape = Dims::new(shape)?;
        fill::<f32>(shape, BitNetDType::F32, *device, pool, |out| {
            for (i, out) in out.iter_mut().enumerate() {
                // 24 bits, so that rounding to f32 never reaches 1.
                let unit = (splitmix(seed, i as u64) >> 40) as f32 / 16_777_216.0;
                *out = low + (high - low) * unit;
            }
            Ok(())
        })
    }
}

/// Number `index` of the SplitMix64 sequence that starts at `seed`.
fn splitmix(seed: u64, index: u64) -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut z = seed.wrapping_add(STEP.wrapping_mul(index.wrapping_add(1)));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Uniform in [0, 1), 53 bits.
fn uniform(seed: u64, index: u64) -> f64 {
    (splitmix(seed, index) >> 11) as f64 / 9_007_199_254_740_992.0
}
