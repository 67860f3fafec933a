//! Scalars and empty tensors, in every operation; and how tensors are made.

use super::{CPU, floats, pool};
use bitnet_core::Device;
use bitnet_tensor::{Axes, BitNetDType, BitNetTensor, Conv1d};

type Unary = fn(&BitNetTensor) -> bitnet_core::Result<BitNetTensor>;

const UNARY: [Unary; 16] = [
    BitNetTensor::exp,
    BitNetTensor::ln,
    BitNetTensor::sqrt,
    BitNetTensor::sqr,
    BitNetTensor::recip,
    BitNetTensor::neg,
    BitNetTensor::abs,
    BitNetTensor::relu,
    BitNetTensor::relu2,
    BitNetTensor::sigmoid,
    BitNetTensor::silu,
    BitNetTensor::gelu,
    BitNetTensor::gelu_erf,
    BitNetTensor::tanh,
    BitNetTensor::sin,
    BitNetTensor::cos,
];

type Binary = fn(&BitNetTensor, &BitNetTensor) -> bitnet_core::Result<BitNetTensor>;

const BINARY: [Binary; 12] = [
    BitNetTensor::add,
    BitNetTensor::sub,
    BitNetTensor::mul,
    BitNetTensor::div,
    BitNetTensor::minimum,
    BitNetTensor::maximum,
    BitNetTensor::eq,
    BitNetTensor::ne,
    BitNetTensor::lt,
    BitNetTensor::le,
    BitNetTensor::gt,
    BitNetTensor::ge,
];

#[test]
fn scalars_go_through_every_operation() {
    let one = BitNetTensor::scalar(1f32, CPU, pool()).unwrap();
    assert_eq!((one.rank(), one.len()), (0, 1));
    for op in UNARY {
        assert_eq!(op(&one).unwrap().rank(), 0);
    }
    for op in BINARY {
        assert_eq!(op(&one, &one).unwrap().rank(), 0);
        assert_eq!(op(&one, &floats(&[1.0, 2.0], &[2])).unwrap().shape(), [2]);
    }
    for dtype in BitNetDType::ALL {
        let one = one.to_dtype(dtype).unwrap();
        assert_eq!(one.rank(), 0);
        assert_eq!(one.sum(Axes::All, true).unwrap().rank(), 0);
        assert_eq!(one.max(Axes::All, false).unwrap().dtype(), dtype);
        assert_eq!(one.mean(Axes::All, false).unwrap().rank(), 0);
    }
    assert_eq!(
        one.var(Axes::All, 0, false).unwrap().item::<f32>().unwrap(),
        0.0
    );
    assert_eq!(one.reshape(&[1, 1]).unwrap().shape(), [1, 1]);
    assert_eq!(one.reshape(&[]).unwrap().rank(), 0);
    assert_eq!(one.flatten().unwrap().shape(), [1]);
    assert_eq!(one.permute(&[]).unwrap().rank(), 0);
    assert_eq!(one.squeeze_all().rank(), 0);
    assert_eq!(one.unsqueeze(-1).unwrap().shape(), [1]);
    assert_eq!(one.broadcast_to(&[2, 0]).unwrap().len(), 0);
    assert_eq!(one.eq(&one).unwrap().choose(&one, &one).unwrap().rank(), 0);
    assert_eq!(one.clamp(2.0, 3.0).unwrap().item::<f32>().unwrap(), 2.0);
    // There is no axis to work along.
    assert!(
        one.argmax(0, false)
            .unwrap_err()
            .to_string()
            .contains("scalar")
    );
    assert!(one.softmax(-1).is_err());
    assert!(one.layer_norm(&[], None, None, 1e-5).is_err());
    assert!(one.rms_norm(&one, 1e-5).is_err());
    assert!(one.transpose(0, 0).is_err());
    assert!(one.slice(0, ..).is_err());
    assert!(one.conv1d(&one, None, Conv1d::default()).is_err());
}

#[test]
fn empty_tensors_go_through_every_operation() {
    for shape in [&[0][..], &[0, 3], &[3, 0], &[2, 0, 4]] {
        let none = BitNetTensor::zeros(shape, BitNetDType::F32, CPU, pool()).unwrap();
        assert!(none.is_empty() && none.is_contiguous());
        for op in UNARY {
            assert_eq!(op(&none).unwrap().shape(), shape);
        }
        for op in BINARY {
            assert_eq!(op(&none, &none).unwrap().shape(), shape);
            assert_eq!(
                op(&none, &BitNetTensor::scalar(1f32, CPU, pool()).unwrap())
                    .unwrap()
                    .shape(),
                shape
            );
        }
        for dtype in BitNetDType::ALL {
            assert_eq!(none.to_dtype(dtype).unwrap().shape(), shape);
        }
        let whole = none.to_dtype(BitNetDType::I32).unwrap();
        assert_eq!(whole.div(&whole).unwrap().shape(), shape);
        assert_eq!(whole.div_scalar(1.0).unwrap().shape(), shape);
        let mut sum = none.clone();
        sum.add_assign(&none).unwrap();
        assert_eq!(sum.make_mut::<f32>().unwrap().len(), 0);
        assert_eq!(
            none.sum(Axes::All, false).unwrap().item::<f32>().unwrap(),
            0.0
        );
        assert!(
            none.mean(Axes::All, false)
                .unwrap()
                .item::<f32>()
                .unwrap()
                .is_nan()
        );
        assert!(none.max(Axes::All, false).is_err());
        assert_eq!(none.softmax(-1).unwrap().shape(), shape);
        assert_eq!(none.softmax(0).unwrap().shape(), shape);
        assert_eq!(
            none.layer_norm(&shape[shape.len() - 1..], None, None, 1e-5)
                .unwrap()
                .shape(),
            shape
        );
        assert_eq!(none.flatten().unwrap().shape(), [0]);
        assert_eq!(none.reshape(&[0, 7, 9]).unwrap().shape(), [0, 7, 9]);
        assert!(
            none.transpose(0, -1)
                .unwrap()
                .to_vec::<f32>()
                .unwrap()
                .is_empty()
        );
        assert_eq!(none.slice(0, 0..0).unwrap().len(), 0);
        assert_eq!(
            none.eq(&none)
                .unwrap()
                .choose(&none, &none)
                .unwrap()
                .shape(),
            shape
        );
        assert!(none.item::<f32>().is_err());
    }
    let none =
        BitNetTensor::zeros(&[0, usize::MAX, usize::MAX], BitNetDType::I64, CPU, pool()).unwrap();
    assert_eq!(none.len(), 0);
    assert_eq!(none.add(&none).unwrap().len(), 0);
    assert_eq!(none.transpose(0, 2).unwrap().contiguous().unwrap().len(), 0);
    assert!(
        none.sum(0, false).is_err(),
        "more results than memory can hold"
    );
}

#[test]
fn tensors_are_made_as_asked() {
    for dtype in BitNetDType::ALL {
        let zeros = BitNetTensor::zeros(&[2, 3], dtype, CPU, pool()).unwrap();
        assert_eq!(
            (zeros.shape(), zeros.dtype(), zeros.len()),
            (&[2, 3][..], dtype, 6)
        );
        assert_eq!(zeros.strides(), [3, 1]);
        let ones = BitNetTensor::ones(&[2, 3], dtype, CPU, pool()).unwrap();
        let as_floats = |t: &BitNetTensor| {
            t.to_dtype(BitNetDType::F32)
                .unwrap()
                .to_vec::<f32>()
                .unwrap()
        };
        assert_eq!(as_floats(&zeros), [0.0; 6]);
        assert_eq!(as_floats(&ones), [1.0; 6]);
    }
    assert!(BitNetTensor::full(&[1], 0.5, BitNetDType::I8, CPU, pool()).is_err());
    assert!(BitNetTensor::full(&[1], f64::NAN, BitNetDType::I8, CPU, pool()).is_err());
    let yes = BitNetTensor::full(&[1], 0.5, BitNetDType::Bool, CPU, pool()).unwrap();
    assert_eq!(yes.to_vec::<u8>().unwrap(), [1]);
    let shown = format!("{:?}", floats(&[1.0, 2.0], &[2]));
    assert_eq!(shown, "BitNetTensor(f32 [2] on cpu: [1.0, 2.0])");
    assert!(
        BitNetTensor::from_slice(&[1f32; 3], &[2, 2], CPU, pool())
            .unwrap_err()
            .to_string()
            .contains("[2, 2]")
    );
}

#[test]
fn memory_is_zeroed_however_it_was_used_before() {
    for _ in 0..4 {
        let mut used = BitNetTensor::ones(&[32, 32], BitNetDType::F32, CPU, pool()).unwrap();
        used.make_mut::<f32>().unwrap().fill(f32::NAN);
        drop(used);
        let zeros = BitNetTensor::zeros(&[32, 32], BitNetDType::F32, CPU, pool()).unwrap();
        assert!(
            zeros
                .as_slice::<f32>()
                .unwrap()
                .iter()
                .all(|x| x.to_bits() == 0)
        );
    }
}

#[test]
fn ranges_count_by_index() {
    let range = |start, end, step| BitNetTensor::arange(start, end, step, CPU, pool());
    let values = |start, end, step| range(start, end, step).unwrap().to_vec::<f32>().unwrap();
    assert_eq!(values(0.0, 3.0, 1.0), [0.0, 1.0, 2.0]);
    assert_eq!(values(1.0, 0.0, -0.25), [1.0, 0.75, 0.5, 0.25]);
    assert!(values(0.0, -1.0, 1.0).is_empty());
    assert!(values(5.0, 5.0, 1.0).is_empty());
    assert_eq!(values(0.0, 1.0, f64::MAX), [0.0]);
    for (start, end, step) in [
        (0.0, 1.0, 0.0),
        (0.0, 0.0, 0.0),
        (f64::NAN, 1.0, 1.0),
        (0.0, f64::INFINITY, 1.0),
        (0.0, 1.0, f64::NAN),
        (0.0, 1e300, 1e-300),
    ] {
        assert!(range(start, end, step).is_err(), "{start} {end} {step}");
    }
}

#[test]
fn random_numbers_are_those_of_the_seed() {
    let t = BitNetTensor::randn(&[100, 101], 7, CPU, pool()).unwrap();
    let again = BitNetTensor::randn(&[10_100], 7, CPU, pool()).unwrap();
    assert_eq!(t.to_vec::<f32>().unwrap(), again.to_vec::<f32>().unwrap());
    let other = BitNetTensor::randn(&[10_100], 8, CPU, pool()).unwrap();
    assert_ne!(t.to_vec::<f32>().unwrap(), other.to_vec::<f32>().unwrap());
    let mean = t.mean(Axes::All, false).unwrap().item::<f32>().unwrap();
    let var = t.var(Axes::All, 1, false).unwrap().item::<f32>().unwrap();
    assert!(
        mean.abs() < 0.03 && (var - 1.0).abs() < 0.05,
        "{mean} {var}"
    );
    // Pinned, so that no machine makes other ones.
    let first: Vec<u32> = again.to_vec::<f32>().unwrap()[..4]
        .iter()
        .map(|x| x.to_bits())
        .collect();
    assert_eq!(first, FIRST);
    let uniform = BitNetTensor::rand(&[1000], (-1.0, 3.0), 7, CPU, pool()).unwrap();
    let values = uniform.to_vec::<f32>().unwrap();
    assert!(values.iter().all(|x| (-1.0..=3.0).contains(x)));
    assert!(values.iter().any(|x| *x > 2.5) && values.iter().any(|x| *x < -0.5));
}

const FIRST: [u32; 4] = [1_065_159_847, 1_037_456_953, 3_220_086_767, 3_213_424_428];

#[test]
fn tensors_do_not_lie_on_a_gpu() {
    for device in [Device::Wgpu, Device::Metal, Device::Mlx] {
        let error = BitNetTensor::scalar(1.0f32, &device, pool()).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("main memory") && error.contains(device.name()));
    }
}
