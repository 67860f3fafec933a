use super::naive::{Naive, pairs, tensors};
use super::{CPU, floats, pool};
use bitnet_core::math;
use bitnet_tensor::{BitNetDType, BitNetTensor};
use proptest::prelude::*;

type Op = fn(&BitNetTensor, &BitNetTensor) -> bitnet_core::Result<BitNetTensor>;

fn check(a: &(BitNetTensor, Naive), b: &(BitNetTensor, Naive), op: Op, f: fn(f64, f64) -> f64) {
    let shape = Naive::broadcast_shape(&a.1.shape, &b.1.shape).unwrap();
    let expected = Naive::from_fn(&shape, |index| {
        f(a.1.broadcast_at(index), b.1.broadcast_at(index))
    });
    let found = op(&a.0, &b.0).unwrap().to_dtype(BitNetDType::F32).unwrap();
    assert_eq!(Naive::of(&found), expected);
}

proptest! {
    #[test]
    fn operands_broadcast([a, b] in pairs()) {
        for (a, b) in [(&a, &b), (&b, &a)] {
            check(a, b, BitNetTensor::add, |a, b| a + b);
            check(a, b, BitNetTensor::sub, |a, b| a - b);
            check(a, b, BitNetTensor::mul, |a, b| a * b);
            check(a, b, BitNetTensor::minimum, f64::min);
            check(a, b, BitNetTensor::maximum, f64::max);
            check(a, b, BitNetTensor::eq, |a, b| f64::from(a == b));
            check(a, b, BitNetTensor::ne, |a, b| f64::from(a != b));
            check(a, b, BitNetTensor::lt, |a, b| f64::from(a < b));
            check(a, b, BitNetTensor::le, |a, b| f64::from(a <= b));
            check(a, b, BitNetTensor::gt, |a, b| f64::from(a > b));
            check(a, b, BitNetTensor::ge, |a, b| f64::from(a >= b));
        }
    }

    #[test]
    fn quotients_round_once([a, b] in pairs()) {
        let b = (b.0.sqr().unwrap().add_scalar(1.0).unwrap(), b.1);
        check(&a, &b, BitNetTensor::div, |a, b| f64::from(a as f32 / (b * b + 1.0) as f32));
    }

    #[test]
    fn every_number_type_computes([a, b] in pairs()) {
        for dtype in [
            BitNetDType::F16,
            BitNetDType::BF16,
            BitNetDType::I8,
            BitNetDType::I32,
            BitNetDType::I64,
        ] {
            let cast = |side: &(BitNetTensor, Naive)| (side.0.to_dtype(dtype).unwrap(), side.1.clone());
            let (a, b) = (cast(&a), cast(&b));
            check(&a, &b, BitNetTensor::add, |a, b| a + b);
            check(&a, &b, BitNetTensor::sub, |a, b| a - b);
            check(&a, &b, BitNetTensor::mul, |a, b| a * b);
            check(&a, &b, BitNetTensor::minimum, f64::min);
            check(&a, &b, BitNetTensor::maximum, f64::max);
            check(&a, &b, BitNetTensor::lt, |a, b| f64::from(a < b));
            check(&a, &b, BitNetTensor::eq, |a, b| f64::from(a == b));
        }
    }

    #[test]
    fn numbers_broadcast_too((tensor, naive) in tensors(), number in -20i32..20) {
        let number = f64::from(number);
        let expected = |f: fn(f64, f64) -> f64| Naive::from_fn(&naive.shape, |i| f(naive.at(i), number));
        prop_assert_eq!(Naive::of(&(&tensor + number).unwrap()), expected(|x, n| x + n));
        prop_assert_eq!(Naive::of(&(&tensor - number).unwrap()), expected(|x, n| x - n));
        prop_assert_eq!(Naive::of(&(&tensor * number).unwrap()), expected(|x, n| x * n));
        let clamped = tensor.clamp(number, number + 3.0).unwrap();
        prop_assert_eq!(Naive::of(&clamped), expected(|x, n| x.clamp(n, n + 3.0)));
    }

    #[test]
    fn functions_have_the_bits_of_math((tensor, naive) in tensors()) {
        type Function = (fn(&BitNetTensor) -> bitnet_core::Result<BitNetTensor>, fn(f32) -> f32);
        let functions: [Function; 14] = [
            (BitNetTensor::exp, math::exp),
            (BitNetTensor::sigmoid, math::sigmoid),
            (BitNetTensor::silu, math::silu),
            (BitNetTensor::tanh, math::tanh),
            (BitNetTensor::gelu, math::gelu),
            (BitNetTensor::gelu_erf, math::gelu_erf),
            (BitNetTensor::relu, math::relu),
            (BitNetTensor::relu2, math::relu2),
            (BitNetTensor::neg, |x| -x),
            (BitNetTensor::abs, f32::abs),
            (BitNetTensor::sqr, |x| x * x),
            (BitNetTensor::recip, |x| 1.0 / x),
            (BitNetTensor::sqrt, f32::sqrt),
            (BitNetTensor::sin, libm::sinf),
        ];
        for (on_tensor, on_number) in functions {
            let found = on_tensor(&tensor).unwrap();
            prop_assert_eq!(found.shape(), &naive.shape[..]);
            for (found, x) in found.to_vec::<f32>().unwrap().iter().zip(&naive.data) {
                let expected = on_number(*x as f32);
                prop_assert!(*found == expected || found.is_nan() && expected.is_nan());
            }
        }
    }

    #[test]
    fn assignment_equals_the_operation([a, b] in pairs()) {
        let wide = a.0.broadcast_to(&Naive::broadcast_shape(&a.1.shape, &b.1.shape).unwrap()).unwrap();
        let before = Naive::of(&wide);
        let mut sum = wide.clone();
        sum.add_assign(&b.0).unwrap();
        prop_assert_eq!(Naive::of(&sum), Naive::of(&wide.add(&b.0).unwrap()));
        sum.sub_assign(&b.0).unwrap();
        prop_assert_eq!(Naive::of(&sum), before.clone());
        sum.mul_assign(&b.0).unwrap();
        prop_assert_eq!(Naive::of(&sum), Naive::of(&wide.mul(&b.0).unwrap()));
        prop_assert_eq!(Naive::of(&wide), before);
    }

    #[test]
    fn choice_takes_either([a, b] in pairs()) {
        let greater = a.0.gt(&b.0).unwrap();
        let chosen = greater.choose(&a.0, &b.0).unwrap();
        prop_assert_eq!(Naive::of(&chosen), Naive::of(&a.0.maximum(&b.0).unwrap()));
    }
}

#[test]
fn integers_wrap_and_refuse_to_divide_by_zero() {
    let t = |values: &[i8]| BitNetTensor::from_slice(values, &[values.len()], CPU, pool()).unwrap();
    let sum = t(&[127, -128]).add(&t(&[1, -1])).unwrap();
    assert_eq!(sum.to_vec::<i8>().unwrap(), [-128, 127]);
    let quotient = t(&[-128, -7]).div(&t(&[-1, 2])).unwrap();
    assert_eq!(quotient.to_vec::<i8>().unwrap(), [-128, -3]);
    assert!(
        t(&[1, 2])
            .div(&t(&[1, 0]))
            .unwrap_err()
            .to_string()
            .contains("found 0")
    );
    assert!(t(&[1]).div_scalar(0.0).is_err());
    assert!(
        t(&[1])
            .add_scalar(0.5)
            .unwrap_err()
            .to_string()
            .contains("0.5")
    );
    assert!(t(&[1]).add_scalar(300.0).is_err());
    let mut t = t(&[1, 2]);
    assert!(
        t.div_assign(&BitNetTensor::scalar(0i8, CPU, pool()).unwrap())
            .is_err()
    );
    assert_eq!(t.to_vec::<i8>().unwrap(), [1, 2]);
}

#[test]
fn floats_divide_by_zero() {
    let quotient = (&floats(&[1.0, 0.0], &[2]) / 0.0)
        .unwrap()
        .to_vec::<f32>()
        .unwrap();
    assert!(quotient[0] == f32::INFINITY && quotient[1].is_nan());
}

#[test]
fn misfits_name_both_operands() {
    let (a, b) = (floats(&[0.0; 6], &[2, 3]), floats(&[0.0; 4], &[4]));
    let error = (&a + &b).unwrap_err().to_string();
    assert!(
        error.contains("add") && error.contains("[2, 3]") && error.contains("[4]"),
        "{error}"
    );
    let error = a
        .mul(&a.to_dtype(BitNetDType::F16).unwrap())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("mul") && error.contains("f32") && error.contains("f16"),
        "{error}"
    );
    let mut row = floats(&[0.0; 3], &[3]);
    assert!(
        row.add_assign(&a)
            .unwrap_err()
            .to_string()
            .contains("add_assign")
    );
    let mask = a.eq(&a).unwrap();
    assert!(mask.add(&mask).unwrap_err().to_string().contains("bool"));
    assert!(a.to_dtype(BitNetDType::I32).unwrap().exp().is_err());
    assert!(a.choose(&a, &a).is_err());
}

#[test]
fn conversions_round_truncate_and_saturate() {
    let x = floats(&[1.5, -2.7, 300.0, -1e20, f32::NAN, 0.0], &[6]);
    let to = |dtype| x.to_dtype(dtype).unwrap();
    assert_eq!(
        to(BitNetDType::I8).to_vec::<i8>().unwrap(),
        [1, -2, 127, -128, 0, 0]
    );
    assert_eq!(
        to(BitNetDType::U8).to_vec::<u8>().unwrap(),
        [1, 0, 255, 0, 0, 0]
    );
    assert_eq!(
        to(BitNetDType::I64).to_vec::<i64>().unwrap(),
        [1, -2, 300, i64::MIN, 0, 0]
    );
    assert_eq!(
        to(BitNetDType::Bool).to_vec::<u8>().unwrap(),
        [1, 1, 1, 1, 1, 0]
    );
    let big = BitNetTensor::from_slice(&[i64::MAX, 257, -1], &[3], CPU, pool()).unwrap();
    assert_eq!(
        big.to_dtype(BitNetDType::U8)
            .unwrap()
            .to_vec::<u8>()
            .unwrap(),
        [255, 1, 255]
    );
    let half = to(BitNetDType::F16);
    assert_eq!(
        half.to_vec::<half::f16>().unwrap()[3],
        half::f16::NEG_INFINITY
    );
    assert!(half.to_vec::<half::bf16>().is_err());
    // Strided or not, the result is the same.
    let table = floats(&[0.1, 0.2, 0.3, 0.4], &[2, 2])
        .transpose(0, 1)
        .unwrap();
    for dtype in BitNetDType::ALL {
        let direct = table.to_dtype(dtype).unwrap();
        let by_copy = table.contiguous().unwrap().to_dtype(dtype).unwrap();
        assert_eq!(format!("{direct:?}"), format!("{by_copy:?}"));
    }
}
