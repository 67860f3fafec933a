use super::naive::{Naive, indices, tensors};
use super::{CPU, floats, pool};
use bitnet_core::simd;
use bitnet_tensor::{Axes, BitNetDType, BitNetTensor};
use proptest::prelude::*;

/// The shape without the reduced axes, and the elements that make each result.
fn groups(naive: &Naive, axes: &[usize], keepdim: bool) -> (Vec<usize>, Vec<Vec<f64>>) {
    let rank = naive.shape.len();
    let mut kept = naive.shape.clone();
    axes.iter().for_each(|axis| kept[*axis] = 1);
    let reduced: Vec<usize> = (0..rank)
        .map(|axis| {
            if axes.contains(&axis) {
                naive.shape[axis]
            } else {
                1
            }
        })
        .collect();
    let groups = indices(&kept)
        .into_iter()
        .map(|index| {
            indices(&reduced)
                .into_iter()
                .map(|step| {
                    let both: Vec<usize> = index.iter().zip(&step).map(|(a, b)| a + b).collect();
                    naive.at(&both)
                })
                .collect()
        })
        .collect();
    let shape = (0..rank)
        .filter(|axis| keepdim || !axes.contains(axis))
        .map(|axis| kept[axis])
        .collect();
    (shape, groups)
}

proptest! {
    #[test]
    fn results_are_made_of_their_group((tensor, naive) in tensors(), mask in any::<u8>(), keepdim in any::<bool>()) {
        let axes: Vec<usize> = (0..naive.shape.len()).filter(|axis| mask & (1 << axis) != 0).collect();
        let signed: Vec<i32> = axes.iter().map(|axis| *axis as i32).collect();
        let (shape, groups) = groups(&naive, &axes, keepdim);
        let rows: Vec<Vec<f32>> = groups.iter().map(|g| g.iter().map(|x| *x as f32).collect()).collect();
        let expect = |tensor: bitnet_core::Result<BitNetTensor>, f: fn(&[f32]) -> f32| {
            let tensor = tensor.unwrap();
            assert_eq!(tensor.shape(), &shape[..]);
            for (found, row) in tensor.to_vec::<f32>().unwrap().iter().zip(&rows) {
                let expected = f(row);
                assert!(*found == expected || found.is_nan() && expected.is_nan());
            }
        };
        expect(tensor.sum(&signed[..], keepdim), simd::sum);
        expect(tensor.mean(&signed[..], keepdim), simd::mean);
        expect(tensor.var(&signed[..], 0, keepdim), simd::variance);
        let whole = tensor.to_dtype(BitNetDType::I8).unwrap().sum(&signed[..], keepdim).unwrap();
        let sums: Vec<i64> = groups.iter().map(|g| g.iter().sum::<f64>() as i64).collect();
        prop_assert_eq!(whole.to_vec::<i64>().unwrap(), sums);
        if groups.iter().all(|group| !group.is_empty()) {
            expect(tensor.max(&signed[..], keepdim), |row| row.iter().copied().fold(f32::MIN, f32::max));
            expect(tensor.min(&signed[..], keepdim), |row| row.iter().copied().fold(f32::MAX, f32::min));
            let whole = tensor.to_dtype(BitNetDType::I32).unwrap().max(&signed[..], keepdim).unwrap();
            expect(whole.to_dtype(BitNetDType::F32), |row| row.iter().copied().fold(f32::MIN, f32::max));
        } else {
            prop_assert!(tensor.max(&signed[..], keepdim).unwrap_err().to_string().contains("at least one element"));
        }
    }

    #[test]
    fn places_are_the_first((tensor, naive) in tensors(), pick in any::<usize>()) {
        prop_assume!(!naive.shape.is_empty());
        let axis = pick % naive.shape.len();
        prop_assume!(naive.shape[axis] > 0);
        let (shape, groups) = groups(&naive, &[axis], false);
        let first = |group: &[f64], sign: f64| {
            let best = group.iter().map(|x| sign * x).fold(f64::MIN, f64::max);
            group.iter().position(|x| sign * x == best).unwrap() as i64
        };
        for dtype in [BitNetDType::F32, BitNetDType::I32, BitNetDType::F16] {
            let tensor = tensor.to_dtype(dtype).unwrap();
            let most = tensor.argmax(axis as i32, false).unwrap();
            prop_assert_eq!(most.shape(), &shape[..]);
            prop_assert_eq!(most.to_vec::<i64>().unwrap(), groups.iter().map(|g| first(g, 1.0)).collect::<Vec<_>>());
            let least = tensor.argmin(axis as i32, true).unwrap();
            prop_assert_eq!(least.to_vec::<i64>().unwrap(), groups.iter().map(|g| first(g, -1.0)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn rows_are_normed((tensor, naive) in tensors(), pick in any::<usize>()) {
        prop_assume!(!naive.shape.is_empty());
        let rank = naive.shape.len();
        let axis = pick % rank;
        let weights = tensor.softmax(axis as i32).unwrap();
        prop_assert_eq!(weights.shape(), &naive.shape[..]);
        let (_, rows) = groups(&naive, &[axis], false);
        let (_, found) = groups(&Naive::of(&weights), &[axis], false);
        for (found, row) in found.iter().zip(&rows) {
            let mut expected: Vec<f32> = row.iter().map(|x| *x as f32).collect();
            simd::softmax_in_place(&mut expected);
            prop_assert_eq!(found, &expected.iter().map(|x| f64::from(*x)).collect::<Vec<_>>());
        }

        let tail = &naive.shape[axis..];
        let gain = floats(&vec![2.0; tail.iter().product()], tail);
        let gains = vec![2.0; gain.len()];
        let axes: Vec<usize> = (axis..rank).collect();
        let (_, rows) = groups(&naive, &axes, false);
        let layer = tensor.layer_norm(tail, Some(&gain), Some(&gain), 1e-5).unwrap();
        let rms = tensor.rms_norm(&gain, 1e-5).unwrap();
        let (_, layer) = groups(&Naive::of(&layer), &axes, false);
        let (_, rms) = groups(&Naive::of(&rms), &axes, false);
        for (row, (layer, rms)) in rows.iter().zip(layer.iter().zip(&rms)) {
            let mut expected: Vec<f32> = row.iter().map(|x| *x as f32).collect();
            let mut by_rms = expected.clone();
            simd::layer_norm_in_place(&mut expected, Some(&gains), Some(&gains), 1e-5);
            simd::rms_norm_in_place(&mut by_rms, &gains, 1e-5);
            prop_assert_eq!(layer, &expected.iter().map(|x| f64::from(*x)).collect::<Vec<_>>());
            prop_assert_eq!(rms, &by_rms.iter().map(|x| f64::from(*x)).collect::<Vec<_>>());
        }
    }
}

#[test]
fn nan_is_passed_over() {
    let nan = f32::NAN;
    let t = floats(&[nan, 1.0, 3.0, nan, nan, nan], &[2, 3]);
    for dtype in [BitNetDType::F32, BitNetDType::F16] {
        let t = t.to_dtype(dtype).unwrap();
        let both = [t.max(1, false).unwrap(), t.min(1, false).unwrap()].map(|t| {
            t.to_dtype(BitNetDType::F32)
                .unwrap()
                .to_vec::<f32>()
                .unwrap()
        });
        assert!(both[0][0] == 3.0 && both[1][0] == 1.0);
        assert!(both[0][1].is_nan() && both[1][1].is_nan());
        assert_eq!(t.argmax(1, false).unwrap().to_vec::<i64>().unwrap(), [2, 0]);
    }
    let low = floats(&[f32::NEG_INFINITY, nan], &[2]);
    assert_eq!(
        low.max(0, false).unwrap().item::<f32>().unwrap(),
        f32::NEG_INFINITY
    );
}

#[test]
fn variance_is_corrected() {
    let t = floats(&[1.0, 2.0, 3.0, 4.0], &[4]);
    assert_eq!(t.var(0, 0, false).unwrap().item::<f32>().unwrap(), 1.25);
    assert!((t.var(0, 1, false).unwrap().item::<f32>().unwrap() - 5.0 / 3.0).abs() < 1e-6);
    assert!(t.var(0, 4, false).unwrap().item::<f32>().unwrap().is_nan());
    let whole = t.to_dtype(BitNetDType::I64).unwrap();
    assert_eq!(
        whole.mean(Axes::All, false).unwrap().item::<f32>().unwrap(),
        2.5
    );
}

#[test]
fn misfits_are_refused() {
    let t = floats(&[0.0; 6], &[2, 3]);
    assert!(t.sum(2, false).unwrap_err().to_string().contains("[2, 3]"));
    assert!(
        t.sum([0, -2], false)
            .unwrap_err()
            .to_string()
            .contains("each axis once")
    );
    assert!(t.softmax(5).is_err());
    let gain = floats(&[1.0; 2], &[2]);
    let error = t
        .layer_norm(&[2], Some(&gain), None, 1e-5)
        .unwrap_err()
        .to_string();
    assert!(error.contains("[2]") && error.contains("[2, 3]"), "{error}");
    assert!(t.layer_norm(&[3], Some(&gain), None, 1e-5).is_err());
    assert!(t.layer_norm(&[], None, None, 1e-5).is_err());
    assert!(t.rms_norm(&gain, 1e-5).is_err());
    let mask = t.eq(&t).unwrap();
    assert!(mask.softmax(0).is_err());
    assert_eq!(
        mask.sum(Axes::All, false).unwrap().item::<i64>().unwrap(),
        6
    );
    let ones = BitNetTensor::ones(&[3, 1000], BitNetDType::F16, CPU, pool()).unwrap();
    assert_eq!(
        ones.sum(Axes::All, false)
            .unwrap()
            .item::<half::f16>()
            .unwrap()
            .to_f32(),
        3000.0
    );
}
