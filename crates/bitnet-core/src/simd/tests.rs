//! Every kernel on every instruction set this machine can run against its scalar definition, bit for bit (any NaN
//! equals any NaN), and the accuracy of the definitions against f64.

use super::arithmetic::{Div, Gated, Maximum, Minimum, Mul, Sub, Zip, ZipInPlace};
use super::functions::{Function, Map, MapInPlace, apply};
use super::norm::{LayerNorm, RmsNorm, Softmax};
use super::quantize::{Dequantize, Quantize};
use super::reduce::{Absmax, Argmax, Argmin, Dot, Max, Mean, Min, Sum, Variance};
use super::*;
use crate::{Gate, math};
use half::{bf16, f16};
use proptest::prelude::*;
use rten_simd::SimdOp;
use rten_simd::isa::GenericIsa;

/// A kernel into another slice.
type Out = fn(&[f32], &mut [f32]);
/// A kernel in place.
type InPlace = fn(&mut [f32]);

/// A block's value on every instruction set. What is compiled here without the target's features is slow, but runs
/// the same instructions.
macro_rules! on_each {
    (|$isa:ident| $body:expr) => {{
        let mut results = Vec::new();
        {
            let $isa = GenericIsa::new();
            results.push($body);
        }
        #[cfg(target_arch = "x86_64")]
        {
            if let Some($isa) = rten_simd::isa::Avx2Isa::new() {
                results.push($body);
            }
            if let Some($isa) = rten_simd::isa::Avx512Isa::new() {
                results.push($body);
            }
        }
        #[cfg(target_arch = "aarch64")]
        if let Some($isa) = rten_simd::isa::ArmNeonIsa::new() {
            results.push($body);
        }
        results
    }};
}

/// What `fill` writes into `len` elements.
fn filled<T: Default + Clone>(len: usize, fill: impl FnOnce(&mut [T])) -> Vec<T> {
    let mut out = vec![T::default(); len];
    fill(&mut out);
    out
}

/// What `change` makes of `x`.
fn changed(x: &[f32], change: impl FnOnce(&mut [f32])) -> Vec<f32> {
    let mut x = x.to_vec();
    change(&mut x);
    x
}

fn bits(x: &[f32]) -> Vec<u32> {
    let bits = |x: &f32| if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() };
    x.iter().map(bits).collect()
}

/// Any bits, plain numbers, and the values where definitions change.
fn number() -> impl Strategy<Value = f32> {
    const SPECIAL: [f32; 22] = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        1e-45,
        -1e-45,
        88.722_83,
        88.722_84,
        -87.336_54,
        -87.336_55,
        0.625,
        -0.625,
        16.0,
        0.5,
        2.5,
        65_520.0,
    ];
    prop_oneof![
        any::<u32>().prop_map(f32::from_bits),
        -100.0f32..100.0,
        -4.0f32..4.0,
        prop::sample::select(SPECIAL.to_vec()),
    ]
}

fn row() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(number(), 0..200)
}

/// Numbers that do not all turn into NaN.
fn finite_row() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-30.0f32..30.0, 0..200)
}

/// One function on all sets, out of place and in place, and dispatched.
fn check_function(
    x: &[f32],
    function: impl Function,
    (public, public_in_place): (Out, InPlace),
    definition: impl Fn(f32) -> f32,
) -> Result<(), TestCaseError> {
    let expected = bits(&x.iter().map(|x| definition(*x)).collect::<Vec<_>>());
    let mut results = on_each!(|isa| filled(x.len(), |out| Map(function, x, out).eval(isa)));
    results.extend(on_each!(
        |isa| changed(x, |x| MapInPlace(function, x).eval(isa))
    ));
    results.push(filled(x.len(), |out| public(x, out)));
    results.push(changed(x, public_in_place));
    for result in results {
        prop_assert_eq!(&bits(&result), &expected);
    }
    Ok(())
}

/// A function of two slices, and of a slice and a number.
macro_rules! check_function2 {
    ($a:expr, $b:expr, $op:expr, [$public:ident, $assign:ident, $scalar:ident, $scalar_assign:ident], $f:expr) => {{
        let (a, b, f) = ($a, $b, $f);
        let n = a.len().min(b.len());
        let expected = bits(
            &a.iter()
                .zip(b)
                .map(|(a, b)| f(*a, *b))
                .collect::<Vec<f32>>(),
        );
        let mut results = on_each!(|isa| filled(n, |out| Zip($op, a, b, out).eval(isa)));
        results.extend(on_each!(
            |isa| changed(&a[..n], |a| ZipInPlace($op, a, b).eval(isa))
        ));
        results.push(filled(n, |out| $public(a, b, out)));
        results.push(changed(&a[..n], |a| $assign(a, b)));
        for result in results {
            prop_assert_eq!(&bits(&result), &expected);
        }
        if let Some(&b) = b.first() {
            let expected = bits(&a.iter().map(|a| f(*a, b)).collect::<Vec<f32>>());
            prop_assert_eq!(&bits(&filled(a.len(), |out| $scalar(a, b, out))), &expected);
            prop_assert_eq!(&bits(&changed(a, |a| $scalar_assign(a, b))), &expected);
        }
    }};
}

/// The sum that every reduction is defined by.
fn sum_in<const LANES: usize>(x: impl Iterator<Item = f32>) -> f32 {
    let mut lanes = [0.0; LANES];
    for (i, x) in x.enumerate() {
        lanes[i % LANES] += x;
    }
    math::tree_sum(lanes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn functions_have_the_bits_of_their_definitions(x in row()) {
        check_function(&x, apply::exp, (exp, exp_in_place), math::exp)?;
        check_function(&x, apply::sigmoid, (sigmoid, sigmoid_in_place), math::sigmoid)?;
        check_function(&x, apply::tanh, (tanh, tanh_in_place), math::tanh)?;
        check_function(&x, apply::silu, (silu, silu_in_place), math::silu)?;
        check_function(&x, apply::gelu, (gelu, gelu_in_place), math::gelu)?;
        check_function(&x, apply::gelu_erf, (gelu_erf, gelu_erf_in_place), math::gelu_erf)?;
        check_function(&x, apply::relu, (relu, relu_in_place), math::relu)?;
        check_function(&x, apply::relu2, (relu2, relu2_in_place), math::relu2)?;
        check_function(&x, apply::neg, (neg, neg_in_place), |x| -x)?;
        check_function(&x, apply::abs, (abs, abs_in_place), f32::abs)?;
        check_function(&x, apply::sqrt, (sqrt, sqrt_in_place), f32::sqrt)?;
        check_function(&x, apply::recip, (recip, recip_in_place), |x| 1.0 / x)?;
        check_function(&x, apply::sqr, (sqr, sqr_in_place), |x| x * x)?;
    }

    #[test]
    fn arithmetic_has_the_bits_of_its_definition(a in row(), b in row()) {
        let (a, b) = (&a[..], &b[..]);
        check_function2!(a, b, Add, [add, add_assign, add_scalar, add_scalar_assign], |a, b| a + b);
        check_function2!(a, b, Sub, [sub, sub_assign, sub_scalar, sub_scalar_assign], |a, b| a - b);
        check_function2!(a, b, Mul, [mul, mul_assign, mul_scalar, mul_scalar_assign], |a, b| a * b);
        check_function2!(a, b, Div, [div, div_assign, div_scalar, div_scalar_assign], |a, b| a / b);
        check_function2!(
            a, b, Minimum, [minimum, minimum_assign, minimum_scalar, minimum_scalar_assign],
            |a, b| if a > b { b } else { a }
        );
        check_function2!(
            a, b, Maximum, [maximum, maximum_assign, maximum_scalar, maximum_scalar_assign],
            |a, b| if a < b { b } else { a }
        );
        if let Some(&a) = a.first() {
            let differences = bits(&b.iter().map(|b| a - b).collect::<Vec<_>>());
            prop_assert_eq!(&bits(&filled(b.len(), |out| scalar_sub(a, b, out))), &differences);
            prop_assert_eq!(&bits(&changed(b, |b| scalar_sub_assign(a, b))), &differences);
            let quotients = bits(&b.iter().map(|b| a / b).collect::<Vec<_>>());
            prop_assert_eq!(&bits(&filled(b.len(), |out| scalar_div(a, b, out))), &quotients);
            prop_assert_eq!(&bits(&changed(b, |b| scalar_div_assign(a, b))), &quotients);
        }
    }

    #[test]
    fn gates_have_the_bits_of_their_definitions(g in row(), u in row()) {
        let n = g.len().min(u.len());
        for (function, definition) in [(Gate::Silu, math::silu as fn(f32) -> f32), (Gate::Relu2, math::relu2), (Gate::Gelu, math::gelu)] {
            let expected: Vec<f32> = g.iter().zip(&u).map(|(g, u)| definition(*g) * u).collect();
            let mut results = on_each!(|isa| changed(&g[..n], |g| Gated(g, &u, function).eval(isa)));
            results.push(changed(&g[..n], |g| gate(g, &u, function)));
            for result in results {
                prop_assert_eq!(bits(&result), bits(&expected));
            }
        }
    }

    #[test]
    fn comparisons_hold_where_they_should(a in row(), b in row(), number in number()) {
        use super::compare::{Compare, Other};
        let n = a.len().min(b.len());
        for comparison in [
            Comparison::Equal,
            Comparison::NotEqual,
            Comparison::Less,
            Comparison::LessEqual,
            Comparison::Greater,
            Comparison::GreaterEqual,
        ] {
            let expected: Vec<u8> =
                a.iter().zip(&b).map(|(a, b)| u8::from(comparison.holds(*a, *b))).collect();
            let mut results =
                on_each!(|isa| filled(n, |out| Compare(comparison, &a, Other::Slice(&b), out).eval(isa)));
            results.push(filled(n, |out| compare(comparison, &a, &b, out)));
            for result in results {
                prop_assert_eq!(&result, &expected);
            }
            let expected: Vec<u8> = a.iter().map(|a| u8::from(comparison.holds(*a, number))).collect();
            let mut results = on_each!(
                |isa| filled(a.len(), |out| Compare(comparison, &a, Other::Number(number), out).eval(isa))
            );
            results.push(filled(a.len(), |out| compare_scalar(comparison, &a, number, out)));
            for result in results {
                prop_assert_eq!(&result, &expected);
            }
        }
    }

    #[test]
    fn conversions_round_as_the_half_crate(x in row(), halves in prop::collection::vec(any::<u16>(), 0..200)) {
        use super::convert::{Half, Narrow, Widen};
        let not_nan = |bits: u16, nan: bool| if nan { 0x7fff } else { bits };
        for format in [Half::F16, Half::Bf16] {
            let convert = |x: &f32| match format {
                Half::F16 => not_nan(f16::from_f32(*x).to_bits(), x.is_nan()),
                Half::Bf16 => not_nan(bf16::from_f32(*x).to_bits(), x.is_nan()),
            };
            let is_nan = |h: &u16| match format {
                Half::F16 => f16::from_bits(*h).is_nan(),
                Half::Bf16 => bf16::from_bits(*h).is_nan(),
            };
            let expected: Vec<u16> = x.iter().map(convert).collect();
            let mut results = on_each!(|isa| filled(x.len(), |out| Narrow(&x, out, format).eval(isa)));
            results.push(filled(x.len(), |out| match format {
                Half::F16 => f32_to_f16(&x, bytemuck::cast_slice_mut(out)),
                Half::Bf16 => f32_to_bf16(&x, bytemuck::cast_slice_mut(out)),
            }));
            for result in results {
                let result: Vec<u16> = result.iter().map(|h| not_nan(*h, is_nan(h))).collect();
                prop_assert_eq!(&result, &expected);
            }
            let widened: Vec<f32> = halves
                .iter()
                .map(|h| match format {
                    Half::F16 => f16::from_bits(*h).to_f32(),
                    Half::Bf16 => bf16::from_bits(*h).to_f32(),
                })
                .collect();
            let mut results =
                on_each!(|isa| filled(halves.len(), |out| Widen(&halves, out, format).eval(isa)));
            results.push(filled(halves.len(), |out| match format {
                Half::F16 => f16_to_f32(bytemuck::cast_slice(&halves), out),
                Half::Bf16 => bf16_to_f32(bytemuck::cast_slice(&halves), out),
            }));
            for result in results {
                prop_assert_eq!(bits(&result), bits(&widened));
            }
        }
    }

    #[test]
    fn int8_has_the_bits_of_its_definition(x in row(), plain in finite_row(), scale in 0.1f32..50.0) {
        for x in [x, plain] {
            let largest = x.iter().fold(0.0f32, |m, x| if x.abs() > m { x.abs() } else { m });
            let expected_scale = 127.0 / if largest > 1e-5 { largest } else { 1e-5 };
            let expected: Vec<i8> = x
                .iter()
                .map(|x| x * expected_scale)
                .map(|x| if x.is_nan() { 0 } else { math::round_half_even(x) as i8 })
                .collect();
            let mut results = on_each!(|isa| {
                let mut scale = 0.0;
                let q = filled(x.len(), |q| scale = Quantize(&x, q).eval(isa));
                (q, scale)
            });
            let mut public_scale = 0.0;
            let q = filled(x.len(), |q| public_scale = quantize(&x, q));
            results.push((q, public_scale));
            for (q, scale) in results {
                prop_assert_eq!(&q, &expected);
                prop_assert_eq!(scale.to_bits(), expected_scale.to_bits());
            }
            let back: Vec<f32> = expected.iter().map(|q| f32::from(*q) / scale).collect();
            let mut results =
                on_each!(|isa| filled(x.len(), |out| Dequantize(&expected, scale, out).eval(isa)));
            results.push(filled(x.len(), |out| dequantize(&expected, scale, out)));
            for result in results {
                prop_assert_eq!(bits(&result), bits(&back));
            }
        }
    }

    #[test]
    fn reductions_run_in_the_fixed_order(a in row(), b in finite_row()) {
        for x in [&a, &b] {
            let n = x.len() as f32;
            let mean_of_x = sum_in::<64>(x.iter().copied()) / n;
            let variance_of_x = sum_in::<64>(x.iter().map(|x| (x - mean_of_x) * (x - mean_of_x))) / n;
            let number = |x: &&f32| !x.is_nan();
            let largest = x.iter().filter(number).fold(f32::NEG_INFINITY, |m, x| m.max(*x)) + 0.0;
            let smallest = x.iter().filter(number).fold(f32::INFINITY, |m, x| m.min(*x)) + 0.0;
            let magnitude = x.iter().filter(number).fold(0.0f32, |m, x| m.max(x.abs()));
            let product = sum_in::<16>(x.iter().zip(&b).map(|(x, y)| x * y));
            let expected = bits(&[
                sum_in::<64>(x.iter().copied()), mean_of_x, variance_of_x, largest, smallest, magnitude, product,
            ]);
            let mut results = on_each!(|isa| [
                Sum(x).eval(isa),
                Mean(x).eval(isa),
                Variance(x).eval(isa),
                Max(x).eval(isa),
                Min(x).eval(isa),
                Absmax(x).eval(isa),
                Dot(x, &b).eval(isa),
            ]);
            results.push([sum(x), mean(x), variance(x), max(x), min(x), absmax(x), dot(x, &b)]);
            for result in results {
                prop_assert_eq!(&bits(&result), &expected);
            }
            let places = (x.iter().position(|x| *x == largest), x.iter().position(|x| *x == smallest));
            let mut results = on_each!(|isa| (Argmax(x).eval(isa), Argmin(x).eval(isa)));
            results.push((argmax(x), argmin(x)));
            for result in results {
                prop_assert_eq!(result, places);
            }
        }
    }

    #[test]
    fn norms_and_softmax_have_the_bits_of_their_definitions(a in row(), b in finite_row()) {
        for x in [&a, &b] {
            let n = x.len() as f32;
            let (gain, bias): (Vec<f32>, Vec<f32>) =
                x.iter().rev().map(|x| (0.5 + x / 64.0, x / 32.0 - 0.25)).unzip();

            let largest = x.iter().fold(f32::NEG_INFINITY, |m, x| if *x > m { *x } else { m });
            let e: Vec<f32> = x.iter().map(|x| math::exp(x - largest)).collect();
            let inverse = 1.0 / sum_in::<16>(e.iter().copied());
            let expected = bits(&e.iter().map(|e| e * inverse).collect::<Vec<_>>());
            let mut results = on_each!(|isa| changed(x, |x| Softmax(x).eval(isa)));
            results.push(changed(x, softmax_in_place));
            results.push(changed(x, scalar::softmax_in_place));
            for result in results {
                prop_assert_eq!(&bits(&result), &expected);
            }

            let inverse = 1.0 / (sum_in::<16>(x.iter().map(|x| x * x)) / n + 1e-5).sqrt();
            let expected =
                bits(&x.iter().zip(&gain).map(|(x, g)| (x * inverse) * g).collect::<Vec<_>>());
            let mut results = on_each!(|isa| changed(x, |x| RmsNorm(x, &gain, 1e-5).eval(isa)));
            results.push(changed(x, |x| rms_norm_in_place(x, &gain, 1e-5)));
            results.push(changed(x, |x| scalar::rms_norm_in_place(x, &gain, 1e-5)));
            results.extend(on_each!(|isa| filled(x.len(), |out| RmsNormInto(x, &gain, 1e-5, out).eval(isa))));
            for result in results {
                prop_assert_eq!(&bits(&result), &expected);
            }

            let mean = sum_in::<64>(x.iter().copied()) / n;
            let variance = sum_in::<64>(x.iter().map(|x| (x - mean) * (x - mean))) / n;
            let inverse = 1.0 / (variance + 1e-5).sqrt();
            for (gain, bias) in [(None, None), (Some(&gain[..]), None), (Some(&gain[..]), Some(&bias[..]))] {
                let expected: Vec<f32> = (0..x.len())
                    .map(|i| {
                        let y = (x[i] - mean) * inverse;
                        let y = gain.map_or(y, |gain| y * gain[i]);
                        bias.map_or(y, |bias| y + bias[i])
                    })
                    .collect();
                let mut results = on_each!(|isa| changed(x, |x| LayerNorm(x, gain, bias, 1e-5).eval(isa)));
                results.push(changed(x, |x| layer_norm_in_place(x, gain, bias, 1e-5)));
                for result in results {
                    prop_assert_eq!(bits(&result), bits(&expected));
                }
            }
        }
    }
}

/// The worst error over the floats of a range, in units in the last place of the exact value.
fn worst_error(range: std::ops::Range<f32>, f: fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> f64 {
    let mut worst = 0f64;
    let count = 400_000;
    for i in 0..count {
        let x = range.start + (range.end - range.start) * (i as f32 / count as f32);
        let y = exact(f64::from(x));
        let exponent = y.abs().log2().floor().max(-126.0);
        let error = (f64::from(f(x)) - y).abs() / (exponent - 23.0).exp2();
        worst = worst.max(error);
    }
    worst
}

#[test]
fn functions_are_as_accurate_as_documented() {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let root = (2.0 / std::f64::consts::PI).sqrt();
    let gelu = |x: f64| x * sigmoid(2.0 * root * (x + 0.044715 * x * x * x));
    let gelu_erf = |x: f64| x * 0.5 * libm::erfc(-x / std::f64::consts::SQRT_2);
    let silu = |x: f64| x * sigmoid(x);
    let cases: [(&str, f64, f64); 12] = [
        ("exp", 2.0, worst_error(-87.3..88.7, math::exp, f64::exp)),
        (
            "sigmoid",
            3.0,
            worst_error(-87.0..88.0, math::sigmoid, sigmoid),
        ),
        (
            "sigmoid near 0",
            3.0,
            worst_error(-2.0..2.0, math::sigmoid, sigmoid),
        ),
        ("silu", 4.0, worst_error(-80.0..88.0, math::silu, silu)),
        ("silu near 0", 4.0, worst_error(-2.0..2.0, math::silu, silu)),
        ("tanh", 2.0, worst_error(-10.0..10.0, math::tanh, f64::tanh)),
        (
            "tanh near 0",
            2.0,
            worst_error(-0.7..0.7, math::tanh, f64::tanh),
        ),
        ("gelu", 40.0, worst_error(-5.0..10.0, math::gelu, gelu)),
        ("gelu near 0", 4.0, worst_error(-1.0..1.0, math::gelu, gelu)),
        (
            "gelu_erf",
            7.0,
            worst_error(-13.0..13.0, math::gelu_erf, gelu_erf),
        ),
        (
            "gelu_erf near 0",
            7.0,
            worst_error(-2.0..2.0, math::gelu_erf, gelu_erf),
        ),
        (
            "gelu_erf tail",
            7.0,
            worst_error(-12.9..-6.0, math::gelu_erf, gelu_erf),
        ),
    ];
    for (name, documented, worst) in cases {
        println!("{name}: {worst:.2} ulp");
        assert!(worst <= documented, "{name}: {worst} ulp");
    }
}

#[test]
fn scalar_baselines_are_the_definitions() {
    let x: Vec<f32> = (0..133).map(|i| (i as f32 - 60.0) * 0.37).collect();
    let y: Vec<f32> = x.iter().rev().map(|x| x * 0.5 + 0.1).collect();
    type Pair = (fn(&[f32], &mut [f32]), fn(&[f32], &mut [f32]));
    let functions: [Pair; 13] = [
        (exp, scalar::exp),
        (sigmoid, scalar::sigmoid),
        (tanh, scalar::tanh),
        (silu, scalar::silu),
        (gelu, scalar::gelu),
        (gelu_erf, scalar::gelu_erf),
        (relu, scalar::relu),
        (relu2, scalar::relu2),
        (neg, scalar::neg),
        (abs, scalar::abs),
        (sqrt, scalar::sqrt),
        (recip, scalar::recip),
        (sqr, scalar::sqr),
    ];
    for (fast, slow) in functions {
        let expected = bits(&filled(x.len(), |out| slow(&x, out)));
        assert_eq!(bits(&filled(x.len(), |out| fast(&x, out))), expected);
    }
    type Pair2 = (
        fn(&[f32], &[f32], &mut [f32]),
        fn(&[f32], &[f32], &mut [f32]),
    );
    let functions: [Pair2; 6] = [
        (add, scalar::add),
        (sub, scalar::sub),
        (mul, scalar::mul),
        (div, scalar::div),
        (minimum, scalar::minimum),
        (maximum, scalar::maximum),
    ];
    for (fast, slow) in functions {
        let expected = bits(&filled(x.len(), |out| slow(&x, &y, out)));
        assert_eq!(bits(&filled(x.len(), |out| fast(&x, &y, out))), expected);
    }
    let numbers = [sum(&x), max(&x), absmax(&x), dot(&x, &y)];
    let baselines = [
        scalar::sum(&x),
        scalar::max(&x),
        scalar::absmax(&x),
        scalar::dot(&x, &y),
    ];
    assert_eq!(bits(&numbers), bits(&baselines));
    let norm = |x: &mut [f32]| layer_norm_in_place(x, Some(&y), Some(&y), 1e-5);
    let baseline = |x: &mut [f32]| scalar::layer_norm_in_place(x, &y, &y, 1e-5);
    assert_eq!(bits(&changed(&x, norm)), bits(&changed(&x, baseline)));
    let (q, baseline) = (
        filled(x.len(), |q| assert!(quantize(&x, q) > 0.0)),
        filled(x.len(), |q| assert!(scalar::quantize(&x, q) > 0.0)),
    );
    assert_eq!(q, baseline);
    let back = filled(x.len(), |out| dequantize(&q, 1.5, out));
    assert_eq!(
        back,
        filled(x.len(), |out| scalar::dequantize(&q, 1.5, out))
    );
}
