//! Scores of a block to weights, and what a query remembers of the blocks before.

use super::super::lanes;
use super::super::reduce::max_of;
use super::super::vector;
use crate::math;
use rten_simd::Isa;
use rten_simd::ops::{BitOps, NumOps};

/// What a query knows of the blocks before.
#[derive(Clone, Copy)]
pub(super) struct Running {
    pub(super) largest: f32,
    pub(super) sum: f32,
}

impl Running {
    /// Numbers that it takes in scratch.
    pub(super) const FLOATS: usize = 2;

    /// Of queries that know nothing yet.
    pub(super) fn begin(running: &mut [f32]) {
        for running in running.as_chunks_mut::<{ Self::FLOATS }>().0 {
            *running = [f32::NEG_INFINITY, 0.0];
        }
    }

    #[inline(always)]
    pub(super) fn read(running: &[f32], query: usize) -> Self {
        let [largest, sum] = running.as_chunks::<{ Self::FLOATS }>().0[query];
        Self { largest, sum }
    }

    #[inline(always)]
    fn write(self, running: &mut [f32], query: usize) {
        running.as_chunks_mut::<{ Self::FLOATS }>().0[query] = [self.largest, self.sum];
    }
}

/// Makes weights of the scores, which are first multiplied by `scale`, and scales the sums of the blocks before down to them.
#[inline(always)]
pub(super) fn weigh<I: Isa>(
    isa: I,
    weights: &mut [f32],
    scale: f32,
    (all, query): (&mut [f32], usize),
    out: &mut [f32],
) {
    let ops = isa.f32();
    let running = Running::read(all, query);
    lanes::map_in_place(
        isa,
        weights,
        #[inline(always)]
        |x| ops.mul(x, ops.splat(scale)),
    );
    let largest = max_of(isa, weights).max(running.largest);
    // Nothing came before the first block.
    let shrink = if running.largest == f32::NEG_INFINITY && running.sum == 0.0 {
        1.0
    } else {
        math::exp(running.largest - largest)
    };
    let sum = lanes::map_and_sum(
        isa,
        weights,
        #[inline(always)]
        |x| vector::exp(isa, ops.sub(x, ops.splat(largest))),
    );
    Running {
        largest,
        sum: running.sum * shrink + sum,
    }
    .write(all, query);
    // Nothing changes times 1.
    if shrink != 1.0 {
        lanes::map_in_place(
            isa,
            out,
            #[inline(always)]
            |x| ops.mul(x, ops.splat(shrink)),
        );
    }
}
