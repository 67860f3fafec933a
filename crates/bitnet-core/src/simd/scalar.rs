//! What the kernels are measured against and tested with: one element at a time, never vectorised.
//!
//! Each loop passes through an optimisation barrier between elements. The barrier is no instruction, but the compiler
//! must assume that it reads and writes memory, and so can neither join elements in a register nor reorder them; the
//! arithmetic of one element is compiled as usual. So the baseline is what a scalar machine would run, without the
//! cost of a call or of a store per step.

use crate::math;
use std::hint::black_box;

#[inline(always)]
fn barrier() {
    black_box(());
}

macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident = $f:expr;)*) => {
        $(
            $(#[$doc])*
            pub fn $name(x: &[f32], out: &mut [f32]) {
                for (x, out) in x.iter().zip(out) {
                    *out = ($f)(*x);
                    barrier();
                }
            }
        )*
    };
}

functions! {
    /// [`math::exp`] of each element.
    exp = math::exp;
    /// [`math::sigmoid`] of each element.
    sigmoid = math::sigmoid;
    /// [`math::tanh`] of each element.
    tanh = math::tanh;
    /// [`math::silu`] of each element.
    silu = math::silu;
    /// [`math::gelu`] of each element.
    gelu = math::gelu;
    /// [`math::gelu_erf`] of each element.
    gelu_erf = math::gelu_erf;
    /// [`math::relu`] of each element.
    relu = math::relu;
    /// [`math::relu2`] of each element.
    relu2 = math::relu2;
    /// −x.
    neg = |x: f32| -x;
    /// |x|.
    abs = f32::abs;
    /// √x.
    sqrt = f32::sqrt;
    /// 1 / x.
    recip = |x: f32| 1.0 / x;
    /// x².
    sqr = |x: f32| x * x;
}

macro_rules! functions_of_two {
    ($($(#[$doc:meta])* $name:ident = $f:expr;)*) => {
        $(
            $(#[$doc])*
            pub fn $name(a: &[f32], b: &[f32], out: &mut [f32]) {
                for ((a, b), out) in a.iter().zip(b).zip(out) {
                    *out = ($f)(*a, *b);
                    barrier();
                }
            }
        )*
    };
}

functions_of_two! {
    /// aᵢ + bᵢ.
    add = |a: f32, b: f32| a + b;
    /// aᵢ − bᵢ.
    sub = |a: f32, b: f32| a - b;
    /// aᵢ·bᵢ.
    mul = |a: f32, b: f32| a * b;
    /// aᵢ / bᵢ.
    div = |a: f32, b: f32| a / b;
    /// bᵢ if aᵢ > bᵢ, else aᵢ.
    minimum = |a: f32, b: f32| if a > b { b } else { a };
    /// bᵢ if aᵢ < bᵢ, else aᵢ.
    maximum = |a: f32, b: f32| if a < b { b } else { a };
}

/// Σ aᵢ·bᵢ in sixteen lanes and their tree.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum_in::<16>(a.iter().zip(b).map(|(a, b)| a * b))
}

/// Σ xᵢ in sixty-four lanes and their tree.
pub fn sum(x: &[f32]) -> f32 {
    sum_in::<64>(x.iter().copied())
}

/// Σ xᵢ in `LANES` lanes and their tree.
fn sum_in<const LANES: usize>(x: impl Iterator<Item = f32>) -> f32 {
    let mut lanes = [0.0; LANES];
    for (i, x) in x.enumerate() {
        lanes[i % LANES] += x;
        barrier();
    }
    math::tree_sum(lanes)
}

/// The greatest element; NaN is passed over.
pub fn max(x: &[f32]) -> f32 {
    let mut greatest = f32::NEG_INFINITY;
    for x in x {
        greatest = if *x > greatest { *x } else { greatest };
        barrier();
    }
    greatest + 0.0
}

/// The greatest magnitude; NaN is passed over.
pub fn absmax(x: &[f32]) -> f32 {
    let mut greatest = 0.0;
    for x in x {
        greatest = if x.abs() > greatest {
            x.abs()
        } else {
            greatest
        };
        barrier();
    }
    greatest
}

/// e^(xᵢ − max) / Σ e^(xⱼ − max).
pub fn softmax_in_place(x: &mut [f32]) {
    let largest = max(x);
    for x in x.iter_mut() {
        *x = math::exp(*x - largest);
        barrier();
    }
    let inverse = 1.0 / sum_in::<16>(x.iter().copied());
    for x in x.iter_mut() {
        *x *= inverse;
        barrier();
    }
}

/// (xᵢ − mean) / √(variance + eps)·gainᵢ + biasᵢ.
pub fn layer_norm_in_place(x: &mut [f32], gain: &[f32], bias: &[f32], eps: f32) {
    let mean = sum(x) / x.len() as f32;
    let variance = sum_in::<64>(x.iter().map(|x| (x - mean) * (x - mean))) / x.len() as f32;
    let inverse = 1.0 / (variance + eps).sqrt();
    for (x, (gain, bias)) in x.iter_mut().zip(gain.iter().zip(bias)) {
        *x = ((*x - mean) * inverse) * gain + bias;
        barrier();
    }
}

/// xᵢ / √(mean(x²) + eps)·gainᵢ.
pub fn rms_norm_in_place(x: &mut [f32], gain: &[f32], eps: f32) {
    let inverse = 1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt();
    for (x, gain) in x.iter_mut().zip(gain) {
        *x = (*x * inverse) * gain;
        barrier();
    }
}

/// int8 by the largest magnitude; the scale.
pub fn quantize(x: &[f32], q: &mut [i8]) -> f32 {
    let largest = absmax(x);
    let scale = 127.0 / if largest > 1e-5 { largest } else { 1e-5 };
    for (q, x) in q.iter_mut().zip(x) {
        let scaled = x * scale;
        let scaled = if scaled.is_nan() { 0.0 } else { scaled };
        *q = math::round_half_even(scaled) as i8;
        barrier();
    }
    scale
}

/// qᵢ / `scale`.
pub fn dequantize(q: &[i8], scale: f32, out: &mut [f32]) {
    for (q, out) in q.iter().zip(out) {
        *out = f32::from(*q) / scale;
        barrier();
    }
}
