//! Attention of one query head: softmax(q·kⱼ / √dim) over the positions, then the values by those weights.

use super::lanes;
use super::norm::Softmax;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};

/// One query head over the first `scores.len()` positions.
pub(crate) struct Attend<'a> {
    /// The query, `[dim]`.
    pub(crate) q: &'a [f32],
    /// Keys and values, rows of `stride` floats.
    pub(crate) keys_values: (&'a [f32], &'a [f32]),
    /// `(stride, offset)`: where in a row the head's own `dim` floats are.
    pub(crate) place: (usize, usize),
    /// Becomes the weights, one for each position.
    pub(crate) scores: &'a mut [f32],
    /// Becomes the sum of values, `[dim]`.
    pub(crate) out: &'a mut [f32],
}

/// Registers of the output that are summed at once.
const WIDE: usize = 4;

impl SimdOp for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let (keys, values) = self.keys_values;
        let (stride, offset) = self.place;
        let dim = self.q.len();
        let scale = 1.0 / (dim as f32).sqrt();
        for (score, row) in self.scores.iter_mut().zip(keys.chunks_exact(stride)) {
            *score = lanes::dot(isa, self.q, &row[offset..offset + dim]) * scale;
        }
        Softmax(self.scores).eval(isa);
        let (weights, width) = (&*self.scores, isa.f32().len());
        let (wide, rest) = self.out.split_at_mut(dim - dim % (WIDE * width));
        let mut column = offset;
        for out in wide.chunks_exact_mut(WIDE * width) {
            weighted_sum::<I, WIDE>(isa, weights, values, (stride, column), out);
            column += out.len();
        }
        let (narrow, rest) = rest.split_at_mut(rest.len() - rest.len() % width);
        for out in narrow.chunks_exact_mut(width) {
            weighted_sum::<I, 1>(isa, weights, values, (stride, column), out);
            column += out.len();
        }
        rest.fill(0.0);
        for (weight, row) in weights.iter().zip(values.chunks_exact(stride)) {
            for (out, v) in rest.iter_mut().zip(&row[column..]) {
                *out += weight * v;
            }
        }
    }
}

/// Σ weightⱼ·vⱼ over the positions for `REGISTERS` registers of columns, kept in registers.
#[inline(always)]
fn weighted_sum<I: Isa, const REGISTERS: usize>(
    isa: I,
    weights: &[f32],
    values: &[f32],
    (stride, column): (usize, usize),
    out: &mut [f32],
) {
    let ops = isa.f32();
    let mut sums = [ops.zero(); REGISTERS];
    for (weight, row) in weights.iter().zip(values.chunks_exact(stride)) {
        let weight = ops.splat(*weight);
        let row = &row[column..column + REGISTERS * ops.len()];
        for (sum, v) in sums.iter_mut().zip(row.chunks_exact(ops.len())) {
            *sum = ops.add(*sum, ops.mul(weight, ops.load(v)));
        }
    }
    for (sum, out) in sums.iter().zip(out.chunks_exact_mut(ops.len())) {
        ops.store(*sum, out);
    }
}
