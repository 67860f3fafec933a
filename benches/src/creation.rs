//! Taking memory and making tensors: the pool beside candle and the system's allocator.

use crate::comparison::{Comparison, Contender, Timed};
use anyhow::Result;
use bitnet_core::Device;
use bitnet_core::pool::{Alignment, HybridMemoryPool, PoolOptions, Tag};
use bitnet_tensor::{BitNetDType, BitNetTensor};
use candle_core::{DType, Device as CandleDevice, Tensor};
use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

/// Labels of the contenders.
pub const BITNET: &str = "bitnet";
/// See [`BITNET`].
pub const CANDLE: &str = "candle";
/// See [`BITNET`].
pub const ONE_THREAD: &str = "pool_1_thread";
/// See [`BITNET`].
pub const TWO_THREADS: &str = "pool_2_threads";

/// Bytes of blocks, from the smallest class to the largest small block.
pub const BLOCKS: [usize; 5] = [64, 4 << 10, 64 << 10, 256 << 10, 1 << 20];

/// Square f32 zeros of a few sizes.
pub fn zeros() -> Vec<Comparison> {
    [32, 256, 1024].map(zeros_of).into()
}

/// `side × side` zeros, f32.
pub fn zeros_of(side: usize) -> Comparison {
    Comparison::new(format!("zeros_{side}x{side}"))
        .with(Contender::new(BITNET, move || {
            let pool = HybridMemoryPool::new(PoolOptions::default());
            Ok(move || BitNetTensor::zeros(&[side, side], BitNetDType::F32, &Device::Cpu, &pool))
        }))
        .with(Contender::new(CANDLE, move || {
            Ok(move || Tensor::zeros((side, side), DType::F32, &CandleDevice::Cpu))
        }))
}

/// Taking a block of `bytes` and giving it back: on one thread, on two at the same time, and from the system.
pub fn block(bytes: usize) -> Comparison {
    Comparison::new(format!("block_{bytes}"))
        .with(Contender::new(ONE_THREAD, move || {
            let pool = HybridMemoryPool::new(PoolOptions::default());
            Ok(move || take(&pool, bytes))
        }))
        .with(Contender::timed(TWO_THREADS, move || on_two_threads(bytes)))
        .with(Contender::new("system", move || {
            Ok(move || Vec::<u8>::with_capacity(black_box(bytes)))
        }))
}

/// A block of any contents, which is given back at once.
fn take(pool: &HybridMemoryPool, bytes: usize) -> bool {
    let block = pool.allocate_uninit(black_box(bytes), Alignment::default(), Tag::Scratch);
    black_box(&block).is_ok()
}

/// Two threads share a pool; the time is the mean of the two, each of which does all the work.
fn on_two_threads(bytes: usize) -> Result<Timed> {
    let pool = HybridMemoryPool::new(PoolOptions::default());
    anyhow::ensure!(
        take(&pool, bytes),
        "the pool gives no block of {bytes} bytes"
    );
    Ok(Box::new(move |times| {
        let start = Arc::new(Barrier::new(2));
        let workers = [0, 1].map(|_| {
            let (pool, start) = (pool.clone(), Arc::clone(&start));
            thread::spawn(move || {
                // The thread's own cache is filled before the clock runs.
                take(&pool, bytes);
                start.wait();
                let begin = Instant::now();
                for _ in 0..times {
                    black_box(take(&pool, bytes));
                }
                begin.elapsed()
            })
        });
        let times: Vec<Duration> = workers
            .into_iter()
            .filter_map(|worker| worker.join().ok())
            .collect();
        times.iter().sum::<Duration>() / times.len().max(1) as u32
    }))
}
