use super::naive::{Naive, indices, twisted};
use super::{CPU, floats, pool};
use bitnet_tensor::{BitNetDType, BitNetTensor, Conv1d};
use proptest::prelude::*;

fn matmul(a: &Naive, b: &Naive) -> Naive {
    let (a_rank, b_rank) = (a.shape.len(), b.shape.len());
    let batch = Naive::broadcast_shape(&a.shape[..a_rank - 2], &b.shape[..b_rank - 2]).unwrap();
    let (m, k, n) = (
        a.shape[a_rank - 2],
        a.shape[a_rank - 1],
        b.shape[b_rank - 1],
    );
    let mut shape = batch;
    shape.extend([m, n]);
    let rank = shape.len();
    // The element (row, col) of the matrix that broadcasts to that batch.
    let at = |t: &Naive, index: &[usize], row: usize, col: usize| {
        let first = rank - t.shape.len();
        let mut own: Vec<usize> = index[first..]
            .iter()
            .zip(&t.shape)
            .map(|(i, size)| if *size == 1 { 0 } else { *i })
            .collect();
        let last = own.len() - 2;
        own[last..].copy_from_slice(&[row, col]);
        t.at(&own)
    };
    Naive::from_fn(&shape, |index| {
        let (row, col) = (index[rank - 2], index[rank - 1]);
        (0..k)
            .map(|l| at(a, index, row, l) * at(b, index, l, col))
            .sum()
    })
}

proptest! {
    #[test]
    fn matrices_multiply(
        sizes in proptest::array::uniform3(prop_oneof![8 => 1usize..9, 1 => Just(0usize)]),
        batch in proptest::collection::vec(prop_oneof![8 => 1usize..4, 1 => Just(0usize)], 0..3),
        ones in any::<[u8; 2]>(),
        cut in any::<usize>(),
        seeds in any::<[u64; 2]>(),
        twists in any::<[u8; 2]>(),
    ) {
        let [m, k, n] = sizes;
        let side = |side: usize, matrix: [usize; 2]| {
            let mut shape = batch.clone();
            for (axis, size) in shape.iter_mut().enumerate() {
                if ones[side] & !ones[1 - side] & (1 << axis) != 0 {
                    *size = 1;
                }
            }
            let cut = if side == 0 { 0 } else { cut % (shape.len() + 1) };
            let mut shape = shape[cut..].to_vec();
            shape.extend(matrix);
            twisted(&shape, seeds[side], twists[side])
        };
        let ((a, a_naive), (b, b_naive)) = (side(0, [m, k]), side(1, [k, n]));
        let expected = matmul(&a_naive, &b_naive);
        prop_assert_eq!(Naive::of(&a.matmul(&b).unwrap()), expected.clone());
        for dtype in [BitNetDType::F16, BitNetDType::I8, BitNetDType::I32, BitNetDType::I64] {
            let product = a.to_dtype(dtype).unwrap().matmul(&b.to_dtype(dtype).unwrap()).unwrap();
            prop_assert_eq!(Naive::of(&product.to_dtype(BitNetDType::F32).unwrap()), expected.clone());
        }
        let turned = |t: &BitNetTensor| t.transpose(-1, -2).unwrap();
        let transposed = turned(&b).matmul(&turned(&a)).unwrap();
        prop_assert_eq!(Naive::of(&turned(&transposed)), expected);
    }

    #[test]
    fn convolution_is_its_definition(
        sizes in (0usize..3, 1usize..4, 0usize..12, 1usize..4, 1usize..4),
        moves in (1usize..4, 0usize..4, 1usize..4, 1usize..4),
        seeds in any::<[u64; 3]>(),
        twists in any::<[u8; 3]>(),
        biased in any::<bool>(),
    ) {
        let (batch, channels, length, out, window) = sizes;
        let (stride, padding, dilation, groups) = moves;
        let options = Conv1d { stride, padding, dilation, groups };
        let (x, x_naive) = twisted(&[batch, channels * groups, length], seeds[0], twists[0]);
        let (w, w_naive) = twisted(&[out * groups, channels, window], seeds[1], twists[1]);
        let (b, b_naive) = twisted(&[out * groups], seeds[2], twists[2]);
        let found = x.conv1d(&w, biased.then_some(&b), options);
        let (padded, span) = (length + 2 * padding, dilation * (window - 1) + 1);
        if padded < span {
            prop_assert!(found.unwrap_err().to_string().contains("a window within the padded input"));
            return Ok(());
        }
        let shape = [batch, out * groups, (padded - span) / stride + 1];
        let expected = Naive::from_fn(&shape, |index| {
            let &[n, o, position] = index else { unreachable!() };
            let mut sum = if biased { b_naive.at(&[o]) } else { 0.0 };
            for c in 0..channels {
                for i in 0..window {
                    let place = (position * stride + i * dilation).checked_sub(padding);
                    if let Some(place) = place.filter(|place| *place < length) {
                        sum += w_naive.at(&[o, c, i]) * x_naive.at(&[n, o / out * channels + c, place]);
                    }
                }
            }
            sum
        });
        prop_assert_eq!(Naive::of(&found.unwrap()), expected);
    }
}

#[test]
fn large_products_are_right_in_every_tile() {
    let (m, k, n) = (70, 300, 130);
    let (a, a_naive) = twisted(&[m, k], 3, 1);
    let (b, b_naive) = twisted(&[k, n], 4, 3);
    assert_eq!(
        Naive::of(&a.matmul(&b).unwrap()),
        matmul(&a_naive, &b_naive)
    );
}

#[test]
fn vectors_are_rows_on_the_left_and_columns_on_the_right() {
    let v = floats(&[1.0, 2.0], &[2]);
    let m = floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]);
    assert_eq!(v.matmul(&v).unwrap().shape(), [0usize; 0]);
    assert_eq!(v.matmul(&v).unwrap().item::<f32>().unwrap(), 5.0);
    assert_eq!(
        v.matmul(&m).unwrap().to_vec::<f32>().unwrap(),
        [9.0, 12.0, 15.0]
    );
    let turned = m.transpose(0, 1).unwrap();
    assert_eq!(
        turned.matmul(&v).unwrap().to_vec::<f32>().unwrap(),
        [9.0, 12.0, 15.0]
    );
    let batch = m.unsqueeze(0).unwrap().broadcast_to(&[4, 2, 3]).unwrap();
    assert_eq!(v.matmul(&batch).unwrap().shape(), [4, 3]);
    assert_eq!(
        batch.matmul(&floats(&[1.0; 3], &[3])).unwrap().shape(),
        [4, 2]
    );
}

#[test]
fn sums_of_nothing_are_zero() {
    let a = BitNetTensor::ones(&[2, 0], BitNetDType::F32, CPU, pool()).unwrap();
    let b = BitNetTensor::ones(&[0, 3], BitNetDType::F32, CPU, pool()).unwrap();
    assert_eq!(a.matmul(&b).unwrap().to_vec::<f32>().unwrap(), [0.0; 6]);
    let batches = BitNetTensor::ones(&[3, 2, 0], BitNetDType::F32, CPU, pool()).unwrap();
    assert_eq!(
        batches.matmul(&b).unwrap().to_vec::<f32>().unwrap(),
        [0.0; 18]
    );
    assert_eq!(indices(b.shape()).len(), b.len());
}

#[test]
fn misfits_are_refused_with_both_shapes() {
    let a = floats(&[0.0; 6], &[2, 3]);
    let error = a.matmul(&a).unwrap_err().to_string();
    assert!(
        error.contains("matmul") && error.contains("[2, 3] and [2, 3]"),
        "{error}"
    );
    let v = floats(&[0.0; 4], &[4]);
    assert!(
        a.matmul(&v)
            .unwrap_err()
            .to_string()
            .contains("[2, 3] and [4]")
    );
    let scalar = BitNetTensor::scalar(1f32, CPU, pool()).unwrap();
    assert!(scalar.matmul(&a).is_err() && a.matmul(&scalar).is_err());
    let bytes = a.to_dtype(BitNetDType::U8).unwrap();
    assert!(bytes.matmul(&bytes.transpose(0, 1).unwrap()).is_err());

    let x = floats(&[0.0; 30], &[1, 3, 10]);
    let w = floats(&[0.0; 18], &[3, 2, 3]);
    let error = x
        .conv1d(&w, None, Conv1d::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("[1, 3, 10]") && error.contains("[3, 2, 3]"),
        "{error}"
    );
    let w = floats(&[0.0; 27], &[3, 3, 3]);
    assert!(
        x.conv1d(&w, Some(&floats(&[0.0; 2], &[2])), Conv1d::default())
            .is_err()
    );
    for options in [
        Conv1d {
            stride: 0,
            ..Conv1d::default()
        },
        Conv1d {
            dilation: 0,
            ..Conv1d::default()
        },
        Conv1d {
            groups: 0,
            ..Conv1d::default()
        },
        Conv1d {
            groups: 2,
            ..Conv1d::default()
        },
        Conv1d {
            dilation: usize::MAX,
            ..Conv1d::default()
        },
        Conv1d {
            padding: usize::MAX,
            ..Conv1d::default()
        },
        Conv1d {
            padding: usize::MAX / 4,
            ..Conv1d::default()
        },
    ] {
        assert!(x.conv1d(&w, None, options).is_err(), "{options:?}");
    }
    assert!(v.conv1d(&w, None, Conv1d::default()).is_err());
}
