//! The pool against a model of it, across threads, at its limits, and under a leak guard.

use bitnet_core::pool::{Alignment, Block, HybridMemoryPool, PoolOptions, Tag};
use bitnet_core::{Buffer, Error};
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::mpsc;

#[derive(Debug, Clone)]
enum Step {
    Take {
        bytes: usize,
        shift: u32,
        tag: usize,
        zeroed: bool,
    },
    Free(usize),
    Trim,
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = prop_oneof![0..1024usize, 0..20_000usize, 0..3_000_000usize];
    let take = (bytes, 0..=12u32, 0..Tag::ALL.len(), any::<bool>()).prop_map(
        |(bytes, shift, tag, zeroed)| Step::Take {
            bytes,
            shift,
            tag,
            zeroed,
        },
    );
    prop_oneof![4 => take, 3 => any::<usize>().prop_map(Step::Free), 1 => Just(Step::Trim)]
}

/// Marks both ends of a block.
fn mark(block: &mut Block, value: u8) {
    let (len, marked) = (block.len(), block.len().min(64));
    block[..marked].fill(value);
    block[len - marked..].fill(value);
}

fn is_marked(block: &Block, value: u8) -> bool {
    let (len, marked) = (block.len(), block.len().min(64));
    let ends = block[..marked].iter().chain(&block[len - marked..]);
    ends.copied().all(|byte| byte == value)
}

fn options(thread_cache: usize) -> PoolOptions {
    PoolOptions {
        thread_cache,
        ..PoolOptions::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 64 }))]

    #[test]
    fn blocks_are_disjoint_aligned_and_accounted(
        steps in prop::collection::vec(step(), 1..120),
        cache in prop_oneof![Just(0usize), Just(10_000), Just(4 << 20)],
    ) {
        let pool = HybridMemoryPool::new(options(cache));
        let mut live: Vec<(Block, u8)> = Vec::new();
        let (mut count, mut peak) = (0u64, 0);
        for (index, step) in steps.into_iter().enumerate() {
            match step {
                Step::Take { bytes, shift, tag, zeroed } => {
                    let alignment = Alignment::new(1 << shift).unwrap();
                    let tag = Tag::ALL[tag];
                    let mut block = if zeroed {
                        pool.allocate(bytes, alignment, tag).unwrap()
                    } else {
                        pool.allocate_uninit(bytes, alignment, tag).unwrap()
                    };
                    prop_assert_eq!(block.len(), bytes);
                    prop_assert_eq!(block.tag(), tag);
                    prop_assert_eq!(block.as_ptr().addr() % alignment.bytes().max(64), 0);
                    prop_assert!(!zeroed || *block == *vec![0; bytes]);
                    let range = |block: &Block| block.as_ptr().addr()..block.as_ptr().addr() + block.len();
                    let new = range(&block);
                    for (other, _) in &live {
                        let other = range(other);
                        prop_assert!(new.end <= other.start || other.end <= new.start || new.is_empty() || other.is_empty());
                    }
                    mark(&mut block, index as u8 | 1);
                    live.push((block, index as u8 | 1));
                    count += 1;
                }
                Step::Free(which) if !live.is_empty() => {
                    let (block, value) = live.swap_remove(which % live.len());
                    prop_assert!(is_marked(&block, value));
                }
                Step::Free(_) => {}
                Step::Trim => {
                    pool.trim();
                }
            }
            let stats = pool.stats();
            let in_use: usize = live.iter().map(|(block, _)| block.len()).sum();
            peak = peak.max(in_use);
            prop_assert_eq!((stats.in_use, stats.peak), (in_use, peak));
            prop_assert_eq!((stats.allocations, stats.blocks()), (count, live.len()));
            prop_assert!(stats.reserved >= in_use);
            for tag in Tag::ALL {
                let expected: usize = live.iter().filter(|(block, _)| block.tag() == tag).map(|(block, _)| block.len()).sum();
                prop_assert_eq!(stats.tag(tag).in_use, expected);
            }
        }
        prop_assert!(live.iter().all(|(block, value)| is_marked(block, *value)));
        drop(live);
        prop_assert_eq!(pool.stats().in_use, 0);
        pool.trim();
        prop_assert_eq!(pool.stats().reserved, 0);
    }
}

#[test]
fn buffers_hold_what_they_are_made_of() {
    let pool = HybridMemoryPool::default();
    assert_eq!(
        *pool.buffer::<f32>(100, Tag::Tensor).unwrap(),
        [0.0; 100][..]
    );
    let squares = pool
        .buffer_from_fn(10, Tag::Tensor, |i| (i * i) as u32)
        .unwrap();
    assert_eq!(squares[9], 81);
    let mut copy = pool.buffer_copy(&squares, Tag::Scratch).unwrap();
    assert_eq!(copy, squares);
    copy.truncate(3);
    assert_eq!(*copy, [0, 1, 4]);
    let bytes = copy.into_bytes();
    assert_eq!(&bytes[4..8], [1, 0, 0, 0]);
    let tail = bytes.slice(8..);
    drop(bytes);
    assert_eq!(&tail[..], [4, 0, 0, 0]);
    assert_eq!(pool.stats().tag(Tag::Scratch).in_use, 40);
    drop(tail);
    assert_eq!(pool.stats().tag(Tag::Scratch).in_use, 0);
    assert!(pool.buffer::<u64>(0, Tag::Other).unwrap().is_empty());
    assert!(
        pool.buffer::<[u8; 0]>(7, Tag::Other)
            .is_ok_and(|b| b.len() == 7)
    );
    let too_many = pool.buffer::<u64>(usize::MAX / 4, Tag::Other).unwrap_err();
    assert!(matches!(too_many, Error::OutOfMemory { .. }), "{too_many}");
    let huge = pool.buffer::<u8>(isize::MAX as usize, Tag::Other);
    assert!(matches!(huge.unwrap_err(), Error::OutOfMemory { .. }));
}

#[test]
fn the_default_pool_is_one() {
    let before = HybridMemoryPool::global().stats().tag(Tag::Other).allocated;
    let block = HybridMemoryPool::global()
        .clone()
        .allocate(10, Alignment::LINE, Tag::Other);
    assert_eq!(
        HybridMemoryPool::global().stats().tag(Tag::Other).allocated,
        before + 10
    );
    drop(block);
}

#[test]
fn blocks_freed_elsewhere_come_back() {
    const BLOCKS: u32 = if cfg!(miri) { 20 } else { 2000 };
    let pool = HybridMemoryPool::default();
    let (sender, receiver) = mpsc::channel::<Buffer<u32>>();
    let reader = std::thread::spawn(move || {
        receiver
            .into_iter()
            .map(|buffer| u64::from(buffer[0]))
            .sum::<u64>()
    });
    for i in 0..BLOCKS {
        let buffer = pool.buffer_from_fn(1000, Tag::Activation, |_| i);
        sender.send(buffer.unwrap()).unwrap();
    }
    drop(sender);
    assert_eq!(reader.join().unwrap(), u64::from(BLOCKS * (BLOCKS - 1) / 2));
    let stats = pool.stats();
    assert_eq!((stats.in_use, stats.allocations), (0, u64::from(BLOCKS)));
    // The reader has ended and returned what it cached.
    pool.trim();
    assert_eq!(pool.stats().reserved, 0);
}

#[test]
fn a_pool_outlives_its_handle_while_blocks_are_out() {
    let pool = HybridMemoryPool::default();
    let small = pool.buffer_copy(&[7u8; 100], Tag::Other).unwrap();
    let large = pool.buffer_copy(&[8u8; 2 << 20], Tag::Other).unwrap();
    drop(pool);
    let whole = std::thread::spawn(move || {
        let whole = *large == *vec![8; 2 << 20];
        drop(large);
        whole
    });
    assert!(whole.join().unwrap());
    assert_eq!(*small, [7; 100]);
}

struct Late(Option<Buffer<u8>>, HybridMemoryPool);

impl Drop for Late {
    fn drop(&mut self) {
        // While the thread's own values are destroyed, in whatever order.
        self.0 = self.1.buffer_copy(&[3; 64], Tag::Other).ok();
    }
}

#[test]
fn threads_may_free_while_they_end() {
    thread_local! {
        static EARLY: std::cell::RefCell<Option<Late>> = const { std::cell::RefCell::new(None) };
    }
    let pool = HybridMemoryPool::default();
    for first in [true, false] {
        let pool = pool.clone();
        std::thread::spawn(move || {
            let late = |pool: &HybridMemoryPool| {
                let pool = pool.clone();
                EARLY.with(|early| *early.borrow_mut() = Some(Late(None, pool)));
            };
            if first {
                late(&pool);
            }
            let buffer = pool.buffer::<u8>(5000, Tag::Other);
            if !first {
                late(&pool);
            }
            EARLY.with(|early| {
                if let Some(late) = early.borrow_mut().as_mut() {
                    late.0 = buffer.ok();
                }
            });
        })
        .join()
        .unwrap();
    }
    assert_eq!(pool.stats().in_use, 0);
    assert_eq!(pool.stats().allocations, 4);
    pool.trim();
    assert_eq!(pool.stats().reserved, 0);
}

#[test]
fn threads_trade_blocks_without_losing_any() {
    /// Blocks that each thread takes.
    const ROUNDS: usize = if cfg!(miri) { 12 } else { 3000 };
    let pool = HybridMemoryPool::new(PoolOptions {
        thread_cache: 64 << 10,
        idle_limit: 1 << 20,
        ..PoolOptions::default()
    });
    let ring: Vec<_> = (0..4).map(|_| mpsc::sync_channel::<Block>(8)).collect();
    let (senders, receivers): (Vec<_>, Vec<_>) = ring.into_iter().unzip();
    let mut senders: Vec<_> = senders.into_iter().map(Some).collect();
    senders.rotate_left(1);
    let ends = receivers.into_iter().zip(senders);
    let threads: Vec<_> = ends
        .enumerate()
        .map(|(id, (receiver, sender))| {
            let pool = pool.clone();
            std::thread::spawn(move || {
                let mut kept: HashMap<usize, Block> = HashMap::new();
                let mut random = id as u64 + 1;
                for round in 0..ROUNDS {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    let bytes = (random >> 33) as usize % [300, 9000, 70_000, 1_200_000][round % 4];
                    let mut block = pool
                        .allocate_uninit(bytes, Alignment::LINE, Tag::Scratch)
                        .unwrap();
                    mark(&mut block, bytes as u8);
                    match round % 3 {
                        0 => drop(kept.insert(round % 16, block)),
                        1 => drop(sender.as_ref().map(|sender| sender.try_send(block))),
                        _ => drop(block),
                    }
                    if let Ok(block) = receiver.try_recv() {
                        assert!(is_marked(&block, block.len() as u8));
                    }
                    if round % (ROUNDS / 6) == id {
                        pool.trim();
                    }
                }
                assert!(kept.values().all(|b| is_marked(b, b.len() as u8)));
                drop(sender);
                drop(receiver);
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let stats = pool.stats();
    assert_eq!((stats.in_use, stats.allocations), (0, 4 * ROUNDS as u64));
    pool.trim();
    assert_eq!(pool.stats().reserved, 0);
}

#[test]
fn the_limit_is_kept_and_named() {
    let pool = HybridMemoryPool::new(PoolOptions {
        hard_limit: Some(8 << 20),
        ..PoolOptions::default()
    });
    // Free blocks of one size make room for another.
    for bytes in [100, 5000, 60_000, 900_000, 3 << 20, 6 << 20] {
        let blocks: Vec<_> = (0..(6 << 20) / bytes)
            .map(|_| pool.allocate_uninit(bytes, Alignment::LINE, Tag::Tensor))
            .collect::<Result<_, _>>()
            .unwrap();
        assert!(pool.stats().reserved <= 8 << 20);
        drop(blocks);
    }
    let held = pool.buffer::<u8>(5 << 20, Tag::KvCache).unwrap();
    let error = pool.buffer::<u8>(4 << 20, Tag::Tensor).unwrap_err();
    let text = error.to_string();
    for part in ["tensors", "4194304", "5242880", "8388608"] {
        assert!(text.contains(part), "{text}");
    }
    drop(held);
    assert!(pool.buffer::<u8>(4 << 20, Tag::Tensor).is_ok());
    let nothing = HybridMemoryPool::new(PoolOptions {
        hard_limit: Some(0),
        ..PoolOptions::default()
    });
    assert!(nothing.buffer::<u8>(1, Tag::Other).is_err());
    assert_eq!(nothing.stats().blocks(), 0);
}

#[test]
fn pressure_takes_back_what_other_threads_keep() {
    let pool = HybridMemoryPool::new(PoolOptions {
        hard_limit: Some(4 << 20),
        ..PoolOptions::default()
    });
    let (go, wait) = mpsc::channel::<()>();
    let (ready, filled) = mpsc::channel::<()>();
    let other = {
        let pool = pool.clone();
        std::thread::spawn(move || {
            let many: Vec<_> = (0..3)
                .map(|_| pool.buffer::<u8>(1 << 20, Tag::Other).unwrap())
                .collect();
            drop(many);
            ready.send(()).unwrap();
            wait.recv().unwrap();
            // The next block it frees, it gives its others back too.
            drop(pool.buffer::<u8>(10, Tag::Other));
            ready.send(()).unwrap();
            wait.recv().unwrap();
        })
    };
    filled.recv().unwrap();
    assert!(pool.buffer::<u8>(7 << 19, Tag::Other).is_err());
    go.send(()).unwrap();
    filled.recv().unwrap();
    assert!(pool.buffer::<u8>(7 << 19, Tag::Other).is_ok());
    go.send(()).unwrap();
    other.join().unwrap();
}

#[test]
fn idle_memory_goes_back_by_itself() {
    let pool = HybridMemoryPool::new(PoolOptions {
        idle_limit: 2 << 20,
        thread_cache: 1 << 20,
        ..PoolOptions::default()
    });
    for bytes in [10_000, 500_000, 3 << 20] {
        let blocks: Vec<_> = (0..(32 << 20) / bytes)
            .map(|_| pool.allocate_uninit(bytes, Alignment::LINE, Tag::Other))
            .collect();
        assert!(pool.stats().reserved >= 31 << 20);
        drop(blocks);
        let reserved = pool.stats().reserved;
        assert!(reserved <= 8 << 20, "{reserved} after blocks of {bytes}");
    }
}

#[test]
fn a_guard_names_what_is_left() {
    let pool = HybridMemoryPool::default();
    let before = pool.buffer::<u8>(10, Tag::Other).unwrap();
    let guard = pool.leak_guard();
    let freed = pool.buffer::<u8>(20, Tag::Other).unwrap();
    let (small, line) = (pool.buffer::<f32>(30, Tag::KvCache).unwrap(), line!());
    let inner = pool.leak_guard();
    let large = pool
        .allocate(3 << 20, Alignment::PAGE, Tag::Tensor)
        .unwrap();
    drop(freed);
    drop(before);
    assert_eq!(inner.finish().bytes(), 3 << 20);
    let report = guard.finish();
    assert_eq!(report.leaks.len(), 2);
    let text = report.to_string();
    let place = format!("{}:{line}:", file!());
    for part in ["2 blocks", "KV cache", "tensors", &place] {
        assert!(text.contains(part), "{text}");
    }
    drop((small, large));
    let guard = pool.leak_guard();
    drop(pool.buffer::<u8>(20, Tag::Other));
    assert!(guard.finish().is_empty());
}

#[test]
fn reports_are_tables() {
    let pool = HybridMemoryPool::default();
    let kept = pool.buffer::<f32>(250, Tag::Activation).unwrap();
    drop(pool.buffer::<f32>(250, Tag::Activation));
    drop(pool.buffer::<f32>(250, Tag::Activation));
    let text = pool.stats().to_string();
    assert!(
        text.contains("activations    1.00 kB        1            3    3.00 kB"),
        "{text}"
    );
    assert!(text.contains("peak 2.00 kB"), "{text}");
    drop(kept);
}
