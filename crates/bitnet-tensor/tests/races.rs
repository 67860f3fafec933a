//! The count of a storage's owners with threads at it from all sides. A race shows here as wrong elements;
//! `cargo xtask test --race` runs this under ThreadSanitizer, which reports every unordered access.

use bitnet_core::{Device, HybridMemoryPool};
use bitnet_tensor::BitNetTensor;
use std::sync::mpsc;
use std::thread;

const THREADS: usize = 3;

#[test]
fn the_last_owner_of_a_tensor_may_write_in_place() {
    let (pool, device) = (HybridMemoryPool::default(), Device::Cpu);
    let channels: Vec<_> = (0..THREADS)
        .map(|_| mpsc::channel::<(BitNetTensor, i32)>())
        .collect();
    let (senders, receivers): (Vec<_>, Vec<_>) = channels.into_iter().unzip();
    thread::scope(|scope| {
        for receiver in receivers {
            scope.spawn(move || {
                for (mut tensor, value) in receiver {
                    let view = tensor.clone();
                    let sum: i32 = view.as_slice::<i32>().unwrap().iter().sum();
                    assert_eq!(sum, 100 * value);
                    drop(view);
                    // In place if the others are through, else in a copy.
                    let own = tensor.make_mut::<i32>().unwrap();
                    assert!(own.iter().all(|element| *element == value));
                    own.fill(-value);
                }
            });
        }
        for value in 0..2000i32 {
            let tensor = BitNetTensor::from_slice(&[value; 100], &[100], &device, &pool).unwrap();
            for sender in &senders {
                sender.send((tensor.clone(), value)).unwrap();
            }
        }
        drop(senders);
    });
    assert_eq!(pool.stats().in_use, 0);
}
