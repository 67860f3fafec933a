//! Hand-made synchronisation with threads at it from all sides: the pool's, and that of the team that shares the work of
//! a backend. A race shows here as wrong bytes or counts;
//! `cargo xtask test --race` runs this under ThreadSanitizer, which reports every unordered access.
//!
//! So blocks are written whole and read from end to end, and threads meet at little but what they test: a channel or
//! lock more would order what the pool must order.

use bitnet_core::cpu::CpuBackend;
use bitnet_core::cpu::tuning::Crossovers;
use bitnet_core::pool::{Alignment, Block, HybridMemoryPool, PoolOptions, Tag};
use bitnet_core::{Activations, Bytes, WeightMatrix};
use bitnet_quant::{Format, I2sLayout};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::Duration;

/// The threads of each test.
const THREADS: usize = 3;

/// Numbers that look random, the same ones every time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % end
    }
}

/// Runs `work` on all threads, each told which it is, until they have ended with all that they keep: a scope alone
/// does not wait for that.
fn at_once(work: impl Fn(usize) + Sync) {
    let (work, begin) = (&work, &Barrier::new(THREADS));
    thread::scope(|scope| {
        let start = |id| {
            scope.spawn(move || {
                begin.wait();
                work(id);
            })
        };
        let threads: Vec<_> = (0..THREADS).map(start).collect();
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

/// A block full of `value`; `None` if memory is short.
fn filled(pool: &HybridMemoryPool, bytes: usize, value: u8) -> Option<Block> {
    let mut block = pool
        .allocate_uninit(bytes, Alignment::LINE, Tag::Scratch)
        .ok()?;
    block.fill(value);
    Some(block)
}

/// Looks at every cache line.
fn assert_filled(block: &Block, value: u8) {
    assert!(block.iter().step_by(64).all(|byte| *byte == value));
}

/// Small caches, so that blocks wander through the shared lists; little kept, so that slabs come and go.
fn restless() -> HybridMemoryPool {
    HybridMemoryPool::new(PoolOptions {
        thread_cache: 8 << 10,
        idle_limit: 64 << 10,
        ..PoolOptions::default()
    })
}

#[test]
fn freed_blocks_are_others_to_write() {
    let pool = restless();
    at_once(|id| {
        let mut random = Random(id as u64);
        let mut kept: Vec<Block> = Vec::new();
        for _ in 0..2000 {
            let bytes = [64, 700, 3000][random.below(3)];
            kept.extend(filled(&pool, bytes, id as u8));
            if kept.len() > random.below(24) {
                let block = kept.swap_remove(random.below(kept.len()));
                assert_filled(&block, id as u8);
            }
        }
    });
    let stats = pool.stats();
    assert_eq!((stats.in_use, stats.allocations), (0, 6000));
    pool.trim();
    assert_eq!(pool.stats().reserved, 0);
}

#[test]
fn pools_close_while_their_blocks_are_freed() {
    // These threads outlive the pools: only the counts say when the last block is freed.
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|_| {
                let (sender, receiver) = mpsc::channel::<(Vec<Block>, u8)>();
                scope.spawn(move || {
                    for (blocks, value) in receiver {
                        blocks.iter().for_each(|block| assert_filled(block, value));
                    }
                });
                sender
            })
            .collect();
        for round in 0..400usize {
            let pool = restless();
            let value = round as u8;
            for worker in &workers {
                let sizes = [100, 3000, 100, if round % 8 == 0 { 2 << 20 } else { 40 }];
                let blocks = sizes
                    .iter()
                    .filter_map(|&bytes| filled(&pool, bytes, value));
                worker.send((blocks.collect(), value)).unwrap();
            }
            let last = filled(&pool, 100, value);
            if round % 2 == 0 {
                drop(pool);
                drop(last);
            } else {
                drop(last);
                drop(pool);
            }
        }
    });
}

#[test]
fn pools_close_while_threads_end() {
    for round in 0..100 {
        let pool = restless();
        let blocks: Vec<_> = (0..THREADS)
            .map(|_| filled(&pool, 900, round).unwrap())
            .collect();
        let mut handle = Some(pool);
        thread::scope(|scope| {
            for block in blocks {
                let pool = handle.clone();
                scope.spawn(move || {
                    let own = filled(pool.as_ref().unwrap(), 900, !round);
                    drop(pool);
                    assert_filled(&block, round);
                    assert_filled(&own.unwrap(), !round);
                });
            }
            handle = None;
        });
    }
}

#[test]
fn reports_and_trims_stop_nobody() {
    let pool = restless();
    let held = filled(&pool, 300, 0).unwrap();
    at_once(|id| {
        if id == 0 {
            for _ in 0..300 {
                let guard = pool.leak_guard();
                // What comes and goes meanwhile may count; what is there does.
                assert!(pool.stats().in_use >= held.len());
                pool.trim();
                assert!(guard.finish().leaks.len() <= 2 * (THREADS - 1));
            }
            return;
        }
        for round in 0..1500usize {
            let bytes = [50, 5000, 1 << 20, 2 << 20][if round % 50 < 48 {
                round % 2
            } else {
                round % 4
            }];
            let block = filled(&pool, bytes, id as u8).unwrap();
            let other = filled(&pool, 200, id as u8).unwrap();
            assert_filled(&block, id as u8);
            drop(block);
            assert_filled(&other, id as u8);
        }
    });
    assert_filled(&held, 0);
    drop(held);
    let stats = pool.stats();
    assert_eq!((stats.in_use, stats.allocations), (0, 6001));
    pool.trim();
    assert_eq!(pool.stats().reserved, 0);
}

#[test]
fn threads_share_a_limit() {
    const LIMIT: usize = 1 << 20;
    let pool = HybridMemoryPool::new(PoolOptions {
        hard_limit: Some(LIMIT),
        ..PoolOptions::default()
    });
    let served = AtomicUsize::new(0);
    at_once(|id| {
        let mut random = Random(id as u64);
        let mut kept: Vec<Block> = Vec::new();
        for _ in 0..400 {
            match filled(&pool, 1 << (6 + random.below(14)), id as u8) {
                Some(block) => {
                    served.fetch_add(1, Ordering::Relaxed);
                    kept.push(block);
                }
                // What this thread holds may be what it lacks.
                None => kept.clear(),
            }
            assert!(pool.stats().reserved <= LIMIT);
            if kept.len() > 4 {
                assert_filled(&kept.remove(0), id as u8);
            }
        }
    });
    assert_eq!(pool.stats().in_use, 0);
    assert_eq!(
        pool.stats().allocations,
        served.load(Ordering::Relaxed) as u64
    );
}

/// `rows × cols` weights that are all 1.
fn ones(rows: usize, cols: usize) -> WeightMatrix {
    let format = Format::I2s(I2sLayout::A);
    let stored = cols.next_multiple_of(format.block_len());
    let mut codes = vec![0; stored];
    codes[..cols].fill(1);
    let mut row = vec![0; format.row_bytes(stored).expect("whole blocks")];
    format
        .encode_codes(&codes, &[], &mut row)
        .expect("a row of codes");
    let data = Bytes::from(row.repeat(rows));
    WeightMatrix::new("ones", format, (rows, cols, stored), 1.0, data).expect("a matching size")
}

#[test]
fn several_leaders_multiply_on_one_team() {
    let backend = CpuBackend::new(Some(THREADS), None).unwrap();
    let shared = Crossovers::built_in(backend.isa()).with_all_parallel_above(0);
    let backend = backend.with_crossovers(shared);
    let ones = ones(96, 64);
    at_once(|id| {
        // Made here, so that the weights too are looked at by a team with several leaders.
        let weights = backend.resident(ones.clone()).unwrap();
        for round in 0..60usize {
            let value = (id * 100 + round) as f32;
            let rows = 1 + round % 3;
            let x = vec![value; rows * 64];
            let mut sums = vec![0.0; rows * 96];
            backend
                .multiply(&x, &weights, Activations::Int8, &mut sums)
                .unwrap();
            assert!(
                sums.iter()
                    .all(|sum| (sum - 64.0 * value).abs() <= 0.01 * value)
            );
            if round % 20 == id {
                // Long enough for all to fall asleep.
                thread::sleep(Duration::from_millis(2));
            }
        }
    });
}
