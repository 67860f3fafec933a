//! Rows rounded to int8 with what the rounding cost, and their exact products with wider integers.
//!
//! Plain loops of fixed length, of which the compiler makes registers of the instruction set they are inlined into.

use super::lanes::{LANES, padded};
use super::packed::ROWS;
use super::reduce::absmax_of;
use crate::math::{ROUND, tree_sum};
use rten_simd::{Isa, SimdOp};

/// Below this a row has no shadow but zero: its inverse would not be a normal number.
pub(crate) const SMALLEST: f32 = f32::from_bits((127 - 100) << 23);

/// A row in steps of `1 / inverse`: zᵢ = fl(wᵢ·inverse), qᵢ = zᵢ rounded half to even.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps {
    /// The largest magnitude.
    pub(crate) largest: f32,
    /// 127 / largest, or 0 for a row with no larger number than [`SMALLEST`], whose q are 0 and whose sums are not
    /// meant.
    pub(crate) inverse: f32,
    /// Σ (zᵢ − qᵢ)² in sixteen lanes; every difference is exact.
    pub(crate) error: f32,
    /// Σ qᵢ² in sixteen lanes.
    pub(crate) square: f32,
}

/// Rounds `w`, all finite, to int8 by its largest magnitude, into as many `q`.
pub(crate) struct RoundRow<'a>(pub(crate) &'a [f32], pub(crate) &'a mut [i8]);

impl SimdOp for RoundRow<'_> {
    type Output = Steps;

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) -> Steps {
        let Self(w, q) = self;
        let largest = absmax_of(isa, w);
        let inverse = if largest > SMALLEST {
            127.0 / largest
        } else {
            0.0
        };
        let mut steps = Steps {
            largest,
            inverse,
            error: 0.0,
            square: 0.0,
        };
        let (mut error, mut square) = ([0.0; LANES], [0.0; LANES]);
        let (w, w_rest) = w.as_chunks::<LANES>();
        let (q, q_rest) = q.as_chunks_mut::<LANES>();
        for (w, q) in w.iter().zip(q) {
            round(w, inverse, q, &mut error, &mut square);
        }
        let mut last = [0; LANES];
        round(
            &padded(w_rest, 0.0),
            inverse,
            &mut last,
            &mut error,
            &mut square,
        );
        let len = q_rest.len();
        q_rest.copy_from_slice(&last[..len]);
        steps.error = tree_sum(error);
        steps.square = tree_sum(square);
        steps
    }
}

#[inline(always)]
fn round(
    w: &[f32; LANES],
    inverse: f32,
    q: &mut [i8; LANES],
    error: &mut [f32; LANES],
    square: &mut [f32; LANES],
) {
    for i in 0..LANES {
        let z = w[i] * inverse;
        // The sum's low bits are the rounded integer.
        let shifted = z + ROUND;
        let whole = shifted - ROUND;
        let difference = z - whole;
        q[i] = shifted.to_bits() as u8 as i8;
        error[i] += difference * difference;
        square[i] += whole * whole;
    }
}

/// Σ qᵢ·xᵢ, exact, of int8 and of integers of at most [`MOST`] in magnitude, over the shorter length.
pub(crate) struct WideDot<'a>(pub(crate) &'a [i8], pub(crate) &'a [i16]);

/// Σ qᵢ·xᵢ of two rows and as many of four x as are asked for, `[row][x]`: [`WideDot`] of each with each.
#[derive(Clone, Copy)]
pub(crate) struct WideTile<'a> {
    pub(crate) q: [&'a [i8]; WIDE_ROWS],
    pub(crate) x: [&'a [i16]; ROWS],
    /// How many of the x count; the sums of the others mean nothing.
    pub(crate) count: usize,
}

/// Rows of a [`WideTile`].
pub(crate) const WIDE_ROWS: usize = 2;

impl SimdOp for WideTile<'_> {
    type Output = [[i64; ROWS]; WIDE_ROWS];

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) -> [[i64; ROWS]; WIDE_ROWS] {
        let mut sums = [[0; ROWS]; WIDE_ROWS];
        for (sums, q) in sums.iter_mut().zip(self.q) {
            for (sum, x) in sums.iter_mut().zip(self.x).take(self.count) {
                *sum = WideDot(q, x).eval(isa);
            }
        }
        sums
    }
}

/// The largest magnitude of the x of [`WideDot`].
pub(crate) const MOST: i16 = 16_319;
/// Columns whose products fit an i32: 128·16319·1024 < 2³¹.
const COLUMNS: usize = 1024;

impl SimdOp for WideDot<'_> {
    type Output = i64;

    #[inline(always)]
    fn eval<I: Isa>(self, _: I) -> i64 {
        let Self(q, x) = self;
        let mut total = 0;
        for (q, x) in q.chunks(COLUMNS).zip(x.chunks(COLUMNS)) {
            let mut sum = 0i32;
            for (q, x) in q.iter().zip(x) {
                sum += i32::from(*q) * i32::from(*x);
            }
            total += i64::from(sum);
        }
        total
    }
}
