//! The causal convolution of a gated delta net, and rows of length 1.

use super::{lanes, vector};
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};

/// outᵢ = SiLU(Σⱼ weightsⱼᵢ · sourcesⱼᵢ), summed in the order of the sources. `weights` is `[sources][out]`; there is at least one
/// source.
pub(crate) struct Convolve<'a> {
    pub(crate) sources: &'a [&'a [f32]],
    pub(crate) weights: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl SimdOp for Convolve<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self {
            sources,
            weights,
            out,
        } = self;
        let (ops, width) = (isa.f32(), out.len());
        let whole = width - width % ops.len();
        for column in (0..whole).step_by(ops.len()) {
            let mut sum = ops.zero();
            for (tap, source) in sources.iter().enumerate() {
                let weight = ops.load(&weights[tap * width + column..]);
                let product = ops.mul(weight, ops.load(&source[column..]));
                sum = if tap == 0 {
                    product
                } else {
                    ops.add(sum, product)
                };
            }
            ops.store(vector::silu(isa, sum), &mut out[column..][..ops.len()]);
        }
        for column in whole..width {
            let products = sources.iter().enumerate();
            let products =
                products.map(|(tap, source)| weights[tap * width + column] * source[column]);
            out[column] = crate::math::silu(products.reduce(|sum, x| sum + x).unwrap_or(0.0));
        }
    }
}

/// xᵢ / √(Σ x² + eps) · scale: the reciprocal of the root, then the scale, multiplied.
pub(crate) struct Unit<'a> {
    pub(crate) x: &'a mut [f32],
    pub(crate) eps: f32,
    pub(crate) scale: f32,
}

impl SimdOp for Unit<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self { x, eps, scale } = self;
        let ops = isa.f32();
        let inverse = ops.splat(1.0 / (lanes::dot(isa, x, x) + eps).sqrt());
        let scale = ops.splat(scale);
        lanes::map_in_place(
            isa,
            x,
            #[inline(always)]
            |x| ops.mul(ops.mul(x, inverse), scale),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_numbers() {
        let weights = [0.1f32, 0.2, 0.3, 0.4];
        let expected = [0.239_475, 0.825_286, 1.761_594, 2.857_722, 3.928_055];
        let zero = [0.0f32];
        let values: Vec<[f32; 1]> = (1..=5u8).map(|x| [f32::from(x)]).collect();
        for (place, expected) in expected.into_iter().enumerate() {
            let source = |back: usize| {
                place
                    .checked_sub(back)
                    .map_or(&zero[..], |at| &values[at][..])
            };
            let sources = [source(3), source(2), source(1), source(0)];
            let mut out = [f32::NAN];
            Convolve {
                sources: &sources,
                weights: &weights,
                out: &mut out,
            }
            .dispatch();
            assert!((out[0] - expected).abs() < 1e-5, "{} {expected}", out[0]);
        }
        let mut x = [3.0, 4.0];
        Unit {
            x: &mut x,
            eps: 1e-6,
            scale: 1.0,
        }
        .dispatch();
        assert!((x[0] - 0.599_999_99).abs() < 1e-7 && (x[1] - 0.799_999_98).abs() < 1e-7);
    }

    #[test]
    fn bits_do_not_depend_on_the_width() {
        // The last columns go one by one.
        let number = |i: usize| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0;
        let rows: Vec<Vec<f32>> = (0..4)
            .map(|row| (0..37).map(|i| number(row * 50 + i)).collect())
            .collect();
        let weights: Vec<f32> = (0..4 * 37).map(|i| number(3 * i)).collect();
        let sources: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let mut out = vec![0.0; 37];
        Convolve {
            sources: &sources,
            weights: &weights,
            out: &mut out,
        }
        .dispatch();
        for (column, out) in out.iter().enumerate() {
            let mut sum = weights[column] * rows[0][column];
            for tap in 1..4 {
                sum += weights[tap * 37 + column] * rows[tap][column];
            }
            assert_eq!(out.to_bits(), crate::math::silu(sum).to_bits());
        }
    }
}
