//! Elementary functions with the same bits on every machine.
//!
//! Only additions, multiplications and bit operations, in a fixed order and never fused, so that a
//! scalar loop, a SIMD loop and a WebAssembly engine agree to the last bit.

/// 1.5 · 2²³: adding and subtracting it rounds |x| < 2²² to an integer, half to even.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// Rounds to the nearest integer, half to even. Valid for |x| < 2²².
#[inline(always)]
pub fn round_half_even(x: f32) -> f32 {
    (x + ROUND) - ROUND
}

/// eˣ to within 2 units in the last place; 0 below −87.3, +∞ above 88.7, NaN for NaN.
///
/// Range reduction x = n·ln 2 + r with |r| ≤ ln 2 / 2, then a degree-6 polynomial in r (Cody and Waite's
/// method; the coefficients are the Taylor series economised for that interval).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let (n, r) = exp_reduce(x.clamp(EXP_LOW, EXP_HIGH));
    let y = exp_finish(n, r);
    if x < EXP_LOW {
        0.0
    } else if x > EXP_HIGH {
        f32::INFINITY
    } else {
        y
    }
}

/// Below, eˣ is 0.
pub(crate) const EXP_LOW: f32 = -87.336_54;
/// Above, eˣ is infinite.
pub(crate) const EXP_HIGH: f32 = 88.722_83;
/// ln 2 in two parts: the first has nine bits, so that its product with an exponent is exact.
pub(crate) const LN2: [f32; 2] = [355.0 / 512.0, -2.121_944_4e-4];
/// eʳ = 1 + r + r²·p(r), highest power first.
pub(crate) const EXP: [f32; 6] = [
    1.987_569_1e-4,
    1.398_2e-3,
    8.333_452e-3,
    4.166_579_6e-2,
    1.666_666_5e-1,
    0.5,
];

/// The whole n and the r of x = n·ln 2 + r.
#[inline(always)]
fn exp_reduce(x: f32) -> (i32, f32) {
    let n = round_half_even(x * std::f32::consts::LOG2_E);
    (n as i32, (x - n * LN2[0]) - n * LN2[1])
}

/// 2ⁿ·eʳ for |r| < 0.4 and −252 ≤ n ≤ 254; underflow is gradual.
#[inline(always)]
fn exp_finish(n: i32, r: f32) -> f32 {
    let y = (horner(&EXP, r) * (r * r) + r) + 1.0;
    // 2ⁿ in two factors: n may be 128, which is no exponent of its own.
    let half = n >> 1;
    (y * power_of_two(half)) * power_of_two(n - half)
}

/// c₀·xᵏ + … + cₖ, highest power first.
#[inline(always)]
fn horner(coefficients: &[f32], x: f32) -> f32 {
    let mut p = coefficients[0];
    for c in &coefficients[1..] {
        p = p * x + c;
    }
    p
}

/// 2ⁿ for −126 ≤ n ≤ 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

/// 1 / (1 + e⁻ˣ) to within 3 units in the last place; 0 below −88.7.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// x / (1 + e⁻ˣ).
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// tanh x to within 2 units in the last place: an odd polynomial up to 0.625, then 1 − 2 / (e²ˣ + 1).
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let z = x * x;
    let near = (horner(&TANH, z) * z) * x + x;
    let far = 1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0);
    if x.abs() < TANH_NEAR {
        near
    } else {
        f32::from_bits(far.to_bits() | (x.to_bits() & SIGN))
    }
}

/// The sign bit.
pub(crate) const SIGN: u32 = 0x8000_0000;
/// Below, tanh is its polynomial.
pub(crate) const TANH_NEAR: f32 = 0.625;
/// tanh x = x + x·z·p(z) with z = x² < 0.625²: Chebyshev fit, error 5e-8 of p.
pub(crate) const TANH: [f32; 5] = [
    -6.096_714e-3,
    2.099_718e-2,
    -5.385_090_8e-2,
    1.333_277e-1,
    -3.333_332_8e-1,
];

/// GELU in its tanh form, x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))), written as x·sigmoid(2u), which is the same
/// function without the cancellation where u is negative.
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    x / (1.0 + exp(-(x * (GELU[0] + GELU[1] * (x * x)))))
}

/// 2·√(2/π), and 0.044715 times that.
pub(crate) const GELU: [f32; 2] = [1.595_769_2, 7.135_481_4e-2];

/// GELU in its exact form, x·Φ(x) = x/2·(1 + erf(x/√2)).
///
/// Φ(−z) = e^(−z²/2)·m(z) with Mills' ratio m a polynomial in t = 1/(1 + 0.3·z); z² is split so that the
/// exponent carries no rounding error into the tail.
#[inline(always)]
pub fn gelu_erf(x: f32) -> f32 {
    let z = if x.abs() > TAIL_END {
        TAIL_END
    } else {
        x.abs()
    };
    let t = 1.0 / (1.0 + 0.3 * z);
    let m = horner(&MILLS, t) * t;
    let top = f32::from_bits(z.to_bits() & TOP_BITS);
    let (n, r) = exp_reduce((top * top) * -0.5);
    let tail = exp_finish(n, r + ((z - top) * (z + top)) * -0.5) * m;
    x * if x < 0.0 { tail } else { 1.0 - tail }
}

/// Past here Φ(−z) is 0.
pub(crate) const TAIL_END: f32 = 16.0;
/// Keeps twelve bits of a significand, whose square is exact.
pub(crate) const TOP_BITS: u32 = 0xffff_f000;
/// m(z) = t·p(t): Chebyshev fit over 0 ≤ z ≤ 14.5, error 2e-9.
pub(crate) const MILLS: [f32; 10] = [
    -2.095_602_5e-2,
    1.142_574_55e-1,
    -2.325_244_1e-1,
    1.975_505_8e-1,
    -8.421_348e-2,
    9.871_138e-2,
    7.751_790_4e-2,
    1.104_184_1e-1,
    1.195_504_3e-1,
    1.196_877_5e-1,
];

/// max(x, 0); 0 for NaN.
#[inline(always)]
pub fn relu(x: f32) -> f32 {
    if x > 0.0 { x } else { 0.0 }
}

/// max(x, 0)².
#[inline(always)]
pub fn relu2(x: f32) -> f32 {
    if x > 0.0 { x * x } else { 0.0 }
}

/// Adds partial sums, a power of two of them, in the fixed tree that every reduction of this crate ends with:
/// … → 8 → 4 → 2 → 1, lane `i` with lane `i + half`.
#[inline(always)]
pub fn tree_sum<const LANES: usize>(mut lanes: [f32; LANES]) -> f32 {
    const { assert!(LANES.is_power_of_two()) };
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let mut x = -87.3f32;
        let mut worst = 0f64;
        while x < 88.7 {
            let exact = f64::from(x).exp();
            let ulp = f64::from(f32::EPSILON) * exact;
            worst = worst.max(((f64::from(exp(x)) - exact) / ulp).abs());
            x += 0.000_731;
        }
        assert!(worst <= 2.0, "worst error {worst} ulp");
    }

    #[test]
    fn exp_at_its_edges() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(-1000.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(1000.0), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(88.72) > 3.0e38 && exp(88.72).is_finite());
    }

    #[test]
    fn rounding_is_half_to_even() {
        let x = [127.0, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 10.0, -127.5];
        let rounded = x.map(round_half_even);
        assert_eq!(
            rounded,
            [127.0, -2.0, -2.0, 0.0, 0.0, 2.0, 2.0, 10.0, -128.0]
        );
    }
}
