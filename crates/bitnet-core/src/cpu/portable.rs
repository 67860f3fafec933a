//! The float kernels, written once over arrays of sixteen lanes.
//!
//! Every instruction set compiles these same functions, so their results agree to the bit: products are rounded
//! before they are added, lane `i` sums the elements `i, i + 16, …`, and [`tree_sum`] adds the lanes.

use crate::Gate;
use crate::math::{exp, relu2, silu, tree_sum};

const LANES: usize = 16;

/// Σ aᵢ·bᵢ over the shorter length.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let n = a.len().min(b.len());
    let (a, a_rest) = a[..n].as_chunks::<LANES>();
    let (b, b_rest) = b[..n].as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for (x, y) in a.iter().zip(b) {
        for i in 0..LANES {
            lanes[i] += x[i] * y[i];
        }
    }
    for (lane, (x, y)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane += x * y;
    }
    tree_sum(lanes)
}

/// Widens an IEEE binary16.
#[inline(always)]
pub(super) fn widen_f16(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff) << 13;
    // 2¹¹² moves the exponent's bias from 15 to 127 and normalises subnormals.
    let finite = (f32::from_bits(magnitude) * f32::from_bits(0x7780_0000)).to_bits();
    let special = magnitude | 0x7f80_0000;
    let value = if bits & 0x7c00 == 0x7c00 {
        special
    } else {
        finite
    };
    f32::from_bits(value | (u32::from(bits & 0x8000) << 16))
}

/// Σ aᵢ·bᵢ with `b` in little-endian binary16.
#[inline(always)]
pub(super) fn dot_f16(a: &[f32], b: &[u8]) -> f32 {
    let (pairs, _) = b.as_chunks::<2>();
    let n = a.len().min(pairs.len());
    let (a, a_rest) = a[..n].as_chunks::<LANES>();
    let (b, b_rest) = pairs[..n].as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for (x, y) in a.iter().zip(b) {
        for i in 0..LANES {
            lanes[i] += x[i] * widen_f16(u16::from_le_bytes(y[i]));
        }
    }
    for (lane, (x, y)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane += x * widen_f16(u16::from_le_bytes(*y));
    }
    tree_sum(lanes)
}

/// Σ xᵢ in the order of [`dot`].
#[inline(always)]
fn sum(x: &[f32]) -> f32 {
    let (x, rest) = x.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for x in x {
        for i in 0..LANES {
            lanes[i] += x[i];
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += x;
    }
    tree_sum(lanes)
}

/// max |xᵢ|, 0 for an empty slice; NaN is passed over.
#[inline(always)]
fn max_magnitude(x: &[f32]) -> f32 {
    let (x, rest) = x.as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for x in x {
        for i in 0..LANES {
            let magnitude = x[i].abs();
            lanes[i] = if magnitude > lanes[i] {
                magnitude
            } else {
                lanes[i]
            };
        }
    }
    lanes
        .iter()
        .chain(rest)
        .fold(0.0, |m, x| if x.abs() > m { x.abs() } else { m })
}

/// xᵢ / √(mean(x²) + eps) · gainᵢ in place.
#[inline(always)]
pub(super) fn rms_norm(x: &mut [f32], gain: &[f32], eps: f32) {
    let mean = dot(x, x) / x.len() as f32;
    let inverse = 1.0 / (mean + eps).sqrt();
    for (x, g) in x.iter_mut().zip(gain) {
        *x = (*x * inverse) * g;
    }
}

/// Rounds a row to int8 by its largest magnitude and returns the scale s = 127 / max(|x|, 1e-5): qᵢ ≈ xᵢ·s.
/// NaN becomes 0 (the residual stream still carries it to the logits, where it is an error).
#[inline(always)]
pub(super) fn quantize(x: &[f32], q: &mut [i8]) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let largest = max_magnitude(x);
    let s = 127.0 / if largest > 1e-5 { largest } else { 1e-5 };
    for (q, x) in q.iter_mut().zip(x) {
        let scaled = x * s;
        let scaled = if scaled.is_nan() { 0.0 } else { scaled };
        // The sum's low mantissa bits are the rounded integer.
        let rounded = ((scaled + ROUND).to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
        *q = rounded.clamp(-128, 127) as i8;
    }
    s
}

/// gate(gᵢ)·uᵢ into `g`.
#[inline(always)]
pub(super) fn gate(g: &mut [f32], u: &[f32], function: Gate) {
    match function {
        Gate::Relu2 => g.iter_mut().zip(u).for_each(|(g, u)| *g = relu2(*g) * u),
        Gate::Silu => g.iter_mut().zip(u).for_each(|(g, u)| *g = silu(*g) * u),
    }
}

/// Softmax in place.
#[inline(always)]
pub(super) fn softmax(x: &mut [f32]) {
    let largest = x
        .iter()
        .fold(f32::NEG_INFINITY, |m, x| if *x > m { *x } else { m });
    for x in x.iter_mut() {
        *x = exp(*x - largest);
    }
    let inverse = 1.0 / sum(x);
    for x in x.iter_mut() {
        *x *= inverse;
    }
}

/// One query head over the first `scores.len()` positions. Keys and values are rows of `stride` floats, the
/// head's own at `offset`.
#[inline(always)]
pub(super) fn attend(
    q: &[f32],
    (keys, values): (&[f32], &[f32]),
    (stride, offset): (usize, usize),
    scores: &mut [f32],
    out: &mut [f32],
) {
    let dim = q.len();
    let scale = 1.0 / (dim as f32).sqrt();
    for (score, row) in scores.iter_mut().zip(keys.chunks_exact(stride)) {
        *score = dot(q, &row[offset..offset + dim]) * scale;
    }
    softmax(scores);
    out.fill(0.0);
    for (weight, row) in scores.iter().zip(values.chunks_exact(stride)) {
        for (o, v) in out.iter_mut().zip(&row[offset..offset + dim]) {
            *o += weight * v;
        }
    }
}

/// xᵢ += yᵢ.
#[inline(always)]
pub(super) fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}
