//! Elementary functions with the same bits on every machine.
//!
//! Only additions, multiplications and bit operations, in a fixed order and never fused, so that a
//! scalar loop, a SIMD loop and a WebAssembly engine agree to the last bit.

/// 1.5 · 2²³: adding and subtracting it rounds |x| < 2²² to an integer, half to even.
const ROUND: f32 = 12_582_912.0;

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
    const LOW: f32 = -87.336_54;
    const HIGH: f32 = 88.722_83;
    const LN2_HIGH: f32 = 355.0 / 512.0;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(LOW, HIGH);
    let n = round_half_even(clamped * std::f32::consts::LOG2_E);
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let y = (p * (r * r) + r) + 1.0;
    // 2ⁿ in two factors: n may be 128, which is no exponent of its own.
    let half = (n as i32) >> 1;
    let rest = (n as i32) - half;
    let y = (y * power_of_two(half)) * power_of_two(rest);
    if x < LOW {
        0.0
    } else if x > HIGH {
        f32::INFINITY
    } else {
        y
    }
}

/// 2ⁿ for −126 ≤ n ≤ 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

/// x / (1 + e⁻ˣ).
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// max(x, 0)².
#[inline(always)]
pub fn relu2(x: f32) -> f32 {
    let positive = if x > 0.0 { x } else { 0.0 };
    positive * positive
}

/// Adds sixteen partial sums in the fixed tree that every reduction of this crate ends with:
/// 16 → 8 → 4 → 2 → 1, lane `i` with lane `i + half`.
#[inline(always)]
pub fn tree_sum(lanes: [f32; 16]) -> f32 {
    let mut lanes = lanes;
    let mut width = 8;
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
