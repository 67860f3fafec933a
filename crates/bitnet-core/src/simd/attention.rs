//! Attention of the query heads that share a head of keys and values: softmax(q·kⱼ / √dim), then the values by those
//! weights, in one pass over blocks of positions.
//!
//! Keys come transposed: in a block of [`POSITIONS`] positions a head's keys are `[dim, POSITIONS]`, so that the lanes
//! of a register are positions and a score is summed from the first column to the last. Values are rows, summed from
//! the first position to the last. Each query keeps the largest score so far, the sum of weights and the weighted sum
//! of values; where a block has a larger score, both sums are scaled down before it is added. All of that is one order
//! for a query, whatever other queries are at work.

use super::lanes;
use super::reduce::max_of;
use super::vector;
use crate::math;
use crate::pool::Buffer;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};
use std::sync::Arc;

/// Positions in a block of keys.
pub(crate) const POSITIONS: usize = 64;
/// Queries that are multiplied together.
const QUERIES: usize = 4;
/// Registers of positions or of columns that are summed at once for each query.
const REGISTERS: usize = 2;

/// Keys and values of a head, in blocks of [`POSITIONS`] positions.
#[derive(Clone, Copy)]
pub(crate) struct KeysValues<'a> {
    /// Of all layers and heads.
    pub(crate) blocks: &'a [Arc<Buffer<f32>>],
    /// Where in each block the head's keys begin, `[dim][POSITIONS]`; its values follow, `[POSITIONS][dim]`.
    pub(crate) first: usize,
    /// Columns of a head.
    pub(crate) dim: usize,
    /// The first positions, which take part.
    pub(crate) positions: usize,
}

impl<'a> KeysValues<'a> {
    /// Those of the head that comes `head` heads after this one.
    pub(crate) fn of_head(self, head: usize) -> Self {
        Self {
            first: self.first + head * 2 * self.dim * POSITIONS,
            ..self
        }
    }

    /// Keys and values of a block.
    pub(crate) fn block(&self, block: usize) -> (&'a [f32], &'a [f32]) {
        let len = self.dim * POSITIONS;
        self.blocks[block][self.first..][..2 * len].split_at(len)
    }
}

/// Some query heads of one token that share a head of keys and values.
pub(crate) struct Attend<'a> {
    /// `[query, dim]`.
    pub(crate) queries: &'a [f32],
    pub(crate) keys_values: KeysValues<'a>,
    /// Becomes the sums of values, `[query, dim]`.
    pub(crate) out: &'a mut [f32],
}

impl SimdOp for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let dim = self.keys_values.dim;
        let mut queries = self.queries;
        let mut out = self.out;
        while !queries.is_empty() {
            let count = match queries.len() / dim {
                QUERIES.. => QUERIES,
                2.. => 2,
                _ => 1,
            };
            let (now, rest) = queries.split_at(count * dim);
            let (out_now, out_rest) = std::mem::take(&mut out).split_at_mut(count * dim);
            match count {
                QUERIES => attend::<I, QUERIES>(isa, now, self.keys_values, out_now),
                2 => attend::<I, 2>(isa, now, self.keys_values, out_now),
                _ => attend::<I, 1>(isa, now, self.keys_values, out_now),
            }
            (queries, out) = (rest, out_rest);
        }
    }
}

/// What a query knows of the blocks before.
#[derive(Clone, Copy)]
struct Running {
    largest: f32,
    sum: f32,
}

#[inline(always)]
fn attend<I: Isa, const Q: usize>(
    isa: I,
    queries: &[f32],
    keys_values: KeysValues<'_>,
    out: &mut [f32],
) {
    let KeysValues { dim, positions, .. } = keys_values;
    let scale = 1.0 / (dim as f32).sqrt();
    let mut running = [Running {
        largest: f32::NEG_INFINITY,
        sum: 0.0,
    }; Q];
    let mut weights = [[0.0f32; POSITIONS]; Q];
    out.fill(0.0);
    for block in 0..positions.div_ceil(POSITIONS) {
        let count = POSITIONS.min(positions - block * POSITIONS);
        let (keys, values) = keys_values.block(block);
        scores::<I, Q>(isa, queries, keys, &mut weights);
        for (query, weights) in weights.iter_mut().enumerate() {
            let (weights, running) = (&mut weights[..count], &mut running[query]);
            lanes::map_in_place(
                isa,
                weights,
                #[inline(always)]
                |x| isa.f32().mul(x, isa.f32().splat(scale)),
            );
            let largest = max_of(isa, weights).max(running.largest);
            // Nothing came before the first block: 0 times 0 stays 0.
            let shrink = match block {
                0 => 0.0,
                _ => math::exp(running.largest - largest),
            };
            let sum = lanes::map_and_sum(
                isa,
                weights,
                #[inline(always)]
                |x| vector::exp(isa, isa.f32().sub(x, isa.f32().splat(largest))),
            );
            running.sum = running.sum * shrink + sum;
            running.largest = largest;
            if block > 0 {
                lanes::map_in_place(
                    isa,
                    &mut out[query * dim..][..dim],
                    #[inline(always)]
                    |x| isa.f32().mul(x, isa.f32().splat(shrink)),
                );
            }
        }
        add_values::<I, Q>(isa, &weights, values, count, out);
    }
    for (out, running) in out.chunks_exact_mut(dim).zip(running) {
        let inverse = 1.0 / running.sum;
        lanes::map_in_place(
            isa,
            out,
            #[inline(always)]
            |x| isa.f32().mul(x, isa.f32().splat(inverse)),
        );
    }
}

/// q·k for each query and position of a block.
#[inline(always)]
fn scores<I: Isa, const Q: usize>(
    isa: I,
    queries: &[f32],
    keys: &[f32],
    scores: &mut [[f32; POSITIONS]; Q],
) {
    let ops = isa.f32();
    let dim = queries.len() / Q;
    let width = ops.len();
    for start in (0..POSITIONS).step_by(REGISTERS * width) {
        let mut sums = [[ops.zero(); REGISTERS]; Q];
        for (d, keys) in keys.chunks_exact(POSITIONS).enumerate() {
            let keys = &keys[start..start + REGISTERS * width];
            let mut registers = [ops.zero(); REGISTERS];
            for (register, keys) in registers.iter_mut().zip(keys.chunks_exact(width)) {
                *register = ops.load(keys);
            }
            for (query, sums) in sums.iter_mut().enumerate() {
                let q = ops.splat(queries[query * dim + d]);
                for (sum, keys) in sums.iter_mut().zip(registers) {
                    *sum = ops.add(*sum, ops.mul(q, keys));
                }
            }
        }
        for (scores, sums) in scores.iter_mut().zip(sums) {
            let scores = scores[start..].chunks_exact_mut(width);
            for (scores, sum) in scores.zip(sums) {
                ops.store(sum, scores);
            }
        }
    }
}

/// Adds the values of `count` positions, each by its weight.
#[inline(always)]
fn add_values<I: Isa, const Q: usize>(
    isa: I,
    weights: &[[f32; POSITIONS]; Q],
    values: &[f32],
    count: usize,
    out: &mut [f32],
) {
    let ops = isa.f32();
    let dim = out.len() / Q;
    let step = REGISTERS * ops.len();
    let whole = dim - dim % step;
    for column in (0..whole).step_by(step) {
        let mut sums = [[ops.zero(); REGISTERS]; Q];
        for (query, sums) in sums.iter_mut().enumerate() {
            let out = out[query * dim + column..].chunks_exact(ops.len());
            for (sum, out) in sums.iter_mut().zip(out) {
                *sum = ops.load(out);
            }
        }
        for (position, values) in values.chunks_exact(dim).take(count).enumerate() {
            let values = &values[column..][..step];
            let mut registers = [ops.zero(); REGISTERS];
            for (register, values) in registers.iter_mut().zip(values.chunks_exact(ops.len())) {
                *register = ops.load(values);
            }
            for (weights, sums) in weights.iter().zip(&mut sums) {
                let weight = ops.splat(weights[position]);
                for (sum, values) in sums.iter_mut().zip(registers) {
                    *sum = ops.add(*sum, ops.mul(weight, values));
                }
            }
        }
        for (query, sums) in sums.into_iter().enumerate() {
            let out = out[query * dim + column..].chunks_exact_mut(ops.len());
            for (sum, out) in sums.into_iter().zip(out) {
                ops.store(sum, out);
            }
        }
    }
    if whole == dim {
        return;
    }
    for (weights, out) in weights.iter().zip(out.chunks_exact_mut(dim)) {
        let out = &mut out[whole..];
        for (weight, values) in weights[..count].iter().zip(values.chunks_exact(dim)) {
            for (out, value) in out.iter_mut().zip(&values[whole..]) {
                *out += weight * value;
            }
        }
    }
}
