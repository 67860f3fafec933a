//! RoPE by MLX's own kernel, which multiplies position and frequency in f32.

use super::thread::{MlxThreadToken, Tensor, Thread};
use super::{dimension, failed};
use crate::{Result, Rope, RopePairs};
use mlx_rs::{Array, fast};

/// The rotation of a mixer's heads.
#[derive(Debug)]
pub(super) struct Rotation {
    /// Positions per radian of each pair, `[dims / 2]`; `None` if nothing rotates.
    periods: Option<Tensor>,
    /// Leading elements of a head that rotate.
    dims: i32,
    interleaved: bool,
    /// Multiplies the elements that rotate.
    magnitude: f32,
}

impl Rotation {
    /// Makes the frequencies of `rope` resident.
    pub(super) fn load(thread: Thread, rope: &Rope) -> Result<Self> {
        let half = rope.dims / 2;
        let period = |i: usize| {
            let exponent = 2.0 * i as f64 / rope.dims as f64;
            let divisor = rope.divisors.get(i).copied().unwrap_or(1.0);
            (libm::pow(f64::from(rope.base), exponent) * f64::from(divisor)) as f32
        };
        let periods: Vec<f32> = (0..half).map(period).collect();
        let (shape, dims) = ([dimension(half)?], dimension(2 * half)?);
        let periods =
            (half > 0).then(|| thread.run(|_| Tensor::new(Array::from_slice(&periods, &shape))));
        Ok(Self {
            periods,
            dims,
            interleaved: rope.pairs == RopePairs::Interleaved,
            magnitude: rope.magnitude,
        })
    }

    /// Rotates `heads`, `[1, count, tokens, dim]`, of which the first token is at position `first`.
    pub(super) fn apply(&self, mlx: &MlxThreadToken, heads: &Array, first: usize) -> Result<Array> {
        let Some(periods) = &self.periods else {
            return Ok(heads.clone());
        };
        let (dims, first, periods) = (self.dims, dimension(first)?, periods.get(mlx));
        let rotated = fast::rope(heads, dims, self.interleaved, None, 1.0, first, periods);
        let rotated = rotated.map_err(failed)?;
        if self.magnitude == 1.0 {
            return Ok(rotated);
        }
        let width = heads.shape().last().copied().unwrap_or_default();
        if width == dims {
            return rotated
                .multiply(Array::from_f32(self.magnitude))
                .map_err(failed);
        }
        let factor = |column| if column < dims { self.magnitude } else { 1.0 };
        let factors: Vec<f32> = (0..width).map(factor).collect();
        let factors = Array::from_slice(&factors, &[width]);
        rotated.multiply(factors).map_err(failed)
    }
}
