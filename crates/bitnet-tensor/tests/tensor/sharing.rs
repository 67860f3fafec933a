use super::{CPU, floats, pool};
use bitnet_core::pool::PoolOptions;
use bitnet_core::{Bytes, HybridMemoryPool};
use bitnet_tensor::{BitNetDType, BitNetTensor};

#[test]
fn views_share_and_writers_do_not() {
    let original = floats(&[1.0, 2.0, 3.0, 4.0], &[2, 2]);
    let turned = original.transpose(0, 1).unwrap();
    assert!(turned.shares_storage_with(&original));

    let mut copy = original.clone();
    copy.make_mut::<f32>().unwrap()[0] = 9.0;
    assert!(!copy.shares_storage_with(&original));
    assert_eq!(original.to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(turned.to_vec::<f32>().unwrap(), [1.0, 3.0, 2.0, 4.0]);
    assert_eq!(copy.to_vec::<f32>().unwrap(), [9.0, 2.0, 3.0, 4.0]);
}

#[test]
fn a_lone_owner_writes_in_place() {
    let pool = HybridMemoryPool::new(PoolOptions::default());
    let mut tensor = BitNetTensor::ones(&[4], BitNetDType::F32, CPU, &pool).unwrap();
    let place = tensor.as_slice::<f32>().unwrap().as_ptr();
    let before = pool.zero_copy().stats();
    tensor.add_assign(&tensor.full_like(1.0)).unwrap();
    assert_eq!(tensor.as_slice::<f32>().unwrap().as_ptr(), place);
    assert_eq!(tensor.to_vec::<f32>().unwrap(), [2.0; 4]);
    let after = pool.zero_copy().stats();
    assert_eq!(after.in_place.operations, before.in_place.operations + 1);
    assert_eq!(after.copied, before.copied);
    // Only the viewed part of storage that nobody else has.
    let mut part = tensor.slice(0, 1..3).unwrap();
    drop(tensor);
    part.make_mut::<f32>().unwrap().fill(7.0);
    assert_eq!(part.to_vec::<f32>().unwrap(), [7.0, 7.0]);
    // Its own elements, twice.
    let own = part.clone();
    part.add_assign(&own).unwrap();
    assert_eq!(part.to_vec::<f32>().unwrap(), [14.0, 14.0]);
    assert_eq!(own.to_vec::<f32>().unwrap(), [7.0, 7.0]);
}

trait FullLike {
    fn full_like(&self, value: f64) -> BitNetTensor;
}

impl FullLike for BitNetTensor {
    fn full_like(&self, value: f64) -> BitNetTensor {
        BitNetTensor::full(
            self.shape(),
            value,
            self.dtype(),
            &self.device(),
            self.pool(),
        )
        .unwrap()
    }
}

#[test]
fn broadcast_views_are_copied_before_they_are_written() {
    let row = floats(&[1.0, 2.0], &[2]);
    let mut table = row.broadcast_to(&[3, 2]).unwrap();
    drop(row);
    table.make_mut::<f32>().unwrap()[0] = 5.0;
    assert_eq!(
        table.to_vec::<f32>().unwrap(),
        [5.0, 2.0, 1.0, 2.0, 1.0, 2.0]
    );
}

#[test]
fn aligned_bytes_are_borrowed_and_others_copied() {
    let pool = HybridMemoryPool::new(PoolOptions::default());
    let values: Vec<f32> = (0..8).map(|i| i as f32).collect();
    let mut owned = vec![0u8; 4 * 9];
    let skip = owned.as_ptr().align_offset(4);
    owned[skip..skip + 32].copy_from_slice(bytemuck::cast_slice(&values));
    let all = Bytes::from(owned);

    let aligned = all.slice(skip..skip + 32);
    let tensor =
        BitNetTensor::from_bytes(aligned.clone(), &[2, 4], BitNetDType::F32, CPU, &pool).unwrap();
    assert!(tensor.is_borrowed());
    assert_eq!(
        tensor.as_slice::<f32>().unwrap().as_ptr().cast(),
        aligned.as_ptr()
    );
    assert_eq!(tensor.to_vec::<f32>().unwrap(), values);
    let stats = pool.zero_copy().stats();
    assert_eq!((stats.zero_copy.bytes, stats.copied.bytes), (32, 0));
    assert_eq!(pool.stats().in_use, 0);

    let off = all.slice(skip + 1..skip + 33);
    let tensor = BitNetTensor::from_bytes(off, &[8], BitNetDType::F32, CPU, &pool).unwrap();
    assert!(!tensor.is_borrowed());
    assert_eq!(pool.zero_copy().stats().copied.bytes, 32);

    let mut writable =
        BitNetTensor::from_bytes(aligned, &[8], BitNetDType::F32, CPU, &pool).unwrap();
    writable.make_mut::<f32>().unwrap().fill(0.0);
    assert!(!writable.is_borrowed());
    assert_eq!(&all[skip + 4..skip + 8], 1f32.to_le_bytes());

    let three = Bytes::from_static(&[0, 1, 2]);
    let error =
        BitNetTensor::from_bytes(three.clone(), &[3], BitNetDType::Bool, CPU, &pool).unwrap_err();
    assert!(error.to_string().contains("bool 2"), "{error}");
    assert!(BitNetTensor::from_bytes(three.clone(), &[3], BitNetDType::I32, CPU, &pool).is_err());
    assert!(
        BitNetTensor::from_bytes(three, &[usize::MAX, 3], BitNetDType::I32, CPU, &pool).is_err()
    );
    let none =
        BitNetTensor::from_bytes(Bytes::new(), &[0, 5], BitNetDType::I64, CPU, &pool).unwrap();
    assert!(none.to_vec::<i64>().unwrap().is_empty());
}

#[test]
fn everything_returns_to_the_pool() {
    let pool = HybridMemoryPool::new(PoolOptions::default());
    {
        let x = BitNetTensor::randn(&[16, 32], 1, CPU, &pool).unwrap();
        let y = x
            .matmul(&x.transpose(0, 1).unwrap())
            .unwrap()
            .softmax(-1)
            .unwrap();
        assert!(pool.stats().in_use > 0);
        assert_eq!(y.shape(), [16, 16]);
    }
    assert_eq!(pool.stats().in_use, 0);
}

#[test]
fn a_full_pool_says_so() {
    let pool = HybridMemoryPool::new(PoolOptions {
        hard_limit: Some(1 << 20),
        ..PoolOptions::default()
    });
    let error = BitNetTensor::zeros(&[1 << 20], BitNetDType::F32, CPU, &pool).unwrap_err();
    assert!(error.to_string().contains("memory"), "{error}");
    let error =
        BitNetTensor::zeros(&[usize::MAX / 2, 4], BitNetDType::F32, CPU, &pool).unwrap_err();
    assert!(error.to_string().contains("memory"), "{error}");
    // A view may be as large as it likes; its copy may not.
    let one = BitNetTensor::ones(&[1], BitNetDType::F32, CPU, &pool).unwrap();
    let wide = one.broadcast_to(&[1 << 50]).unwrap();
    assert!(wide.contiguous().is_err());
    assert!(wide.exp().is_err());
}

#[test]
fn tensors_go_between_threads() {
    let tensor = floats(&[1.0, 2.0], &[2]);
    let sums: Vec<f32> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|i| {
                let tensor = &tensor;
                scope.spawn(move || {
                    let sum = (tensor + f64::from(i)).unwrap().sum(0, false).unwrap();
                    sum.item::<f32>().unwrap()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(sums, [3.0, 5.0]);
    assert_eq!(tensor.pool().stats().in_use % 4, 0);
    assert!(pool().stats().in_use > 0);
}
