use super::naive::{Naive, indices, tensors, twisted};
use super::{CPU, floats, pool};
use bitnet_tensor::{BitNetDType, BitNetTensor, Dims};
use proptest::prelude::*;

proptest! {
    #[test]
    fn elements_are_read_in_row_major_order((tensor, naive) in tensors()) {
        prop_assert_eq!(Naive::of(&tensor), naive.clone());
        let contiguous = tensor.contiguous().unwrap();
        prop_assert!(contiguous.is_contiguous());
        prop_assert_eq!(contiguous.as_slice::<f32>().unwrap().len(), naive.data.len());
        prop_assert_eq!(Naive::of(&contiguous), naive);
    }

    #[test]
    fn axes_permute((tensor, naive) in tensors(), shuffle in any::<u64>()) {
        let rank = naive.shape.len();
        let mut axes: Vec<usize> = (0..rank).collect();
        for i in (1..rank).rev() {
            axes.swap(i, (shuffle >> (8 * i)) as usize % (i + 1));
        }
        let signed: Vec<i32> = axes
            .iter()
            .map(|a| if shuffle & 1 == 0 { *a as i32 } else { *a as i32 - rank as i32 })
            .collect();
        let shape: Vec<usize> = axes.iter().map(|a| naive.shape[*a]).collect();
        let expected = Naive::from_fn(&shape, |index| {
            let mut old = vec![0; rank];
            axes.iter().zip(index).for_each(|(axis, i)| old[*axis] = *i);
            naive.at(&old)
        });
        let permuted = tensor.permute(&signed).unwrap();
        prop_assert!(permuted.shares_storage_with(&tensor));
        prop_assert_eq!(Naive::of(&permuted), expected);
        if rank >= 2 {
            let transposed = tensor.transpose(0, -1).unwrap();
            let mut axes: Vec<i32> = (0..rank as i32).collect();
            axes.swap(0, rank - 1);
            prop_assert_eq!(Naive::of(&transposed), Naive::of(&tensor.permute(&axes).unwrap()));
        }
    }

    #[test]
    fn slices_select((tensor, naive) in tensors(), pick in any::<[usize; 4]>()) {
        let rank = naive.shape.len();
        prop_assume!(rank > 0);
        let axis = pick[0] % rank;
        let start = pick[1] % (naive.shape[axis] + 1);
        let end = start + pick[2] % (naive.shape[axis] - start + 1);
        let step = pick[3] % 3 + 1;
        let mut shape = naive.shape.clone();
        shape[axis] = (end - start).div_ceil(step);
        let expected = Naive::from_fn(&shape, |index| {
            let mut index = index.to_vec();
            index[axis] = start + step * index[axis];
            naive.at(&index)
        });
        let slice = tensor.slice_step(axis as i32, start..end, step).unwrap();
        prop_assert!(slice.shares_storage_with(&tensor));
        prop_assert_eq!(Naive::of(&slice), expected);
    }

    #[test]
    fn reshapes_keep_the_order((tensor, naive) in tensors(), cuts in any::<[u8; 3]>()) {
        // Split the number of elements into factors, and put ones between them.
        let mut rest = naive.data.len();
        let mut shape = Vec::new();
        for cut in cuts {
            let factor = (1..=rest.max(1)).filter(|f| rest % f == 0).nth(cut as usize % 3).unwrap_or(1);
            shape.push(factor);
            rest /= factor;
            if cut > 200 {
                shape.push(1);
            }
        }
        shape.push(rest);
        shape.truncate(Dims::MAX_RANK);
        prop_assume!(shape.iter().product::<usize>() == naive.data.len());
        let reshaped = tensor.reshape(&shape).unwrap();
        prop_assert_eq!(Naive::of(&reshaped), Naive { shape, data: naive.data.clone() });
        if tensor.is_contiguous() {
            prop_assert!(reshaped.shares_storage_with(&tensor));
        }
        prop_assert_eq!(Naive::of(&tensor.flatten().unwrap()).data, naive.data);
    }

    #[test]
    fn broadcasting_repeats((tensor, naive) in tensors(), sizes in any::<[u8; 6]>()) {
        let mut shape = naive.shape.clone();
        for (size, wish) in shape.iter_mut().zip(sizes) {
            if *size == 1 {
                *size = usize::from(wish % 4);
            }
        }
        if sizes[5] % 2 == 0 {
            shape.insert(0, usize::from(sizes[4] % 3));
        }
        let wide = tensor.broadcast_to(&shape).unwrap();
        prop_assert!(wide.shares_storage_with(&tensor));
        let expected = Naive::from_fn(&shape, |index| naive.broadcast_at(index));
        prop_assert_eq!(Naive::of(&wide), expected.clone());
        // A view of a view.
        let turned = wide.permute(&(0..shape.len() as i32).rev().collect::<Vec<_>>()).unwrap();
        let turned_back = turned.permute(&(0..shape.len() as i32).rev().collect::<Vec<_>>()).unwrap();
        prop_assert_eq!(Naive::of(&turned_back), expected.clone());
        let flat = turned_back.flatten().unwrap();
        prop_assert_eq!(Naive::of(&flat).data, expected.data);
    }

    #[test]
    fn axes_of_one_come_and_go((tensor, naive) in tensors(), place in any::<usize>()) {
        let rank = naive.shape.len();
        let axis = place % (rank + 1);
        let wider = tensor.unsqueeze(axis as i32).unwrap();
        let mut shape = naive.shape.clone();
        shape.insert(axis, 1);
        prop_assert_eq!(wider.shape(), &shape[..]);
        prop_assert_eq!(Naive::of(&wider).data, naive.data.clone());
        prop_assert_eq!(Naive::of(&wider.squeeze(axis as i32).unwrap()), naive.clone());
        shape.retain(|size| *size != 1);
        let narrow = wider.squeeze_all();
        prop_assert_eq!(narrow.shape(), &shape[..]);
    }
}

#[test]
fn some_reshapes_of_strided_views_need_no_copy() {
    let (whole, _) = twisted(&[4, 6, 5], 1, 0);
    // The axes that merge lie behind each other.
    let part = whole.narrow(2, 0, 3).unwrap();
    let merged = part.reshape(&[24, 3]).unwrap();
    assert!(merged.shares_storage_with(&whole));
    let split = part.reshape(&[2, 2, 6, 3, 1]).unwrap();
    assert!(split.shares_storage_with(&whole));
    assert_eq!(
        split.to_vec::<f32>().unwrap(),
        part.to_vec::<f32>().unwrap()
    );
    // These do not.
    let copied = part.reshape(&[4, 18]).unwrap();
    assert!(!copied.shares_storage_with(&whole));
    let transposed = whole.transpose(0, 1).unwrap().reshape(&[24, 5]).unwrap();
    assert!(!transposed.shares_storage_with(&whole));
}

#[test]
fn selections_drop_their_axis() {
    let t = floats(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &[2, 3]);
    assert_eq!(
        t.select(0, 1).unwrap().to_vec::<f32>().unwrap(),
        [3.0, 4.0, 5.0]
    );
    assert_eq!(
        t.select(-1, 2).unwrap().to_vec::<f32>().unwrap(),
        [2.0, 5.0]
    );
    assert_eq!(t.slice(1, ..=1).unwrap().shape(), [2, 2]);
    assert!(t.select(1, 3).is_err());
}

#[test]
fn misfits_are_refused_with_their_shapes() {
    let t = floats(&[0.0; 6], &[2, 3]);
    let message = |result: bitnet_core::Result<BitNetTensor>| result.unwrap_err().to_string();
    let error = message(t.reshape(&[4, 2]));
    assert!(
        error.contains("[2, 3]") && error.contains("[4, 2]"),
        "{error}"
    );
    let error = message(t.broadcast_to(&[2, 4]));
    assert!(
        error.contains("[2, 3]") && error.contains("[2, 4]"),
        "{error}"
    );
    assert!(message(t.transpose(0, 2)).contains("-2 to 1"));
    assert!(message(t.permute(&[0, 0])).contains("each axis once"));
    assert!(message(t.permute(&[0])).contains("each axis once"));
    assert!(message(t.permute(&[0; 12])).contains("each axis once"));
    assert!(message(t.squeeze(0)).contains("size 1"));
    assert!(message(t.slice(1, 2..5)).contains("0..3"));
    assert!(message(t.narrow(0, usize::MAX, 2)).contains("[2, 3]"));
    assert!(t.slice_step(0, .., 0).is_err());
    assert!(t.transpose(i32::MIN, 0).is_err());
    assert!(t.reshape(&[usize::MAX, usize::MAX]).is_err());
    assert!(t.broadcast_to(&[usize::MAX, usize::MAX, 2, 3]).is_err());
    assert!(t.as_slice::<i32>().is_err());
    assert!(t.transpose(0, 1).unwrap().as_slice::<f32>().is_err());
}

#[test]
fn six_axes_and_no_more() {
    let t = BitNetTensor::ones(&[1, 2, 2, 1, 2, 2], BitNetDType::F32, CPU, pool()).unwrap();
    assert_eq!(t.len(), 16);
    assert!(t.unsqueeze(0).is_err());
    assert!(BitNetTensor::zeros(&[1; 7], BitNetDType::F32, CPU, pool()).is_err());
    assert!(t.broadcast_to(&[1; 300]).is_err());
    assert_eq!(t.transpose(1, 5).unwrap().shape(), t.shape());
}

#[test]
fn every_index_is_visited_once() {
    assert_eq!(indices(&[2, 0, 3]).len(), 0);
    assert_eq!(indices(&[]).len(), 1);
    let t = BitNetTensor::arange(0.0, 24.0, 1.0, CPU, pool()).unwrap();
    let t = t.reshape(&[2, 3, 4]).unwrap().permute(&[2, 0, 1]).unwrap();
    let mut all = t.to_vec::<f32>().unwrap();
    all.sort_by(f32::total_cmp);
    assert_eq!(all, (0..24).map(|i| i as f32).collect::<Vec<_>>());
}
