//! Devices that are too small, or gone.

use crate::harness::*;
use bitnet_core::gpu::GpuOptions;
use bitnet_core::pool::PoolOptions;
use bitnet_core::{Backend, Error, HybridMemoryPool, Pending, Tag};
use bitnet_quant::Format;

#[test]
fn a_row_larger_than_a_binding_is_refused() {
    let gpu = open(GpuOptions {
        binding_limit: Some(8 << 10),
        ..GpuOptions::default()
    });
    let weights = table(&[0.0; 2 * 4096], 4096, Format::F32);
    let error = gpu.table(weights).expect_err("too long").to_string();
    assert!(error.contains("binds at most 8192"), "{error}");
}

#[test]
fn memory_has_a_limit_and_an_account() {
    let pool = HybridMemoryPool::new(PoolOptions {
        hard_limit: Some(8 << 20),
        ..PoolOptions::default()
    });
    let gpu = open(GpuOptions {
        pool,
        ..GpuOptions::default()
    });
    let weights = table(&vec![0.0; 256 << 10], 256, Format::F32);
    let before = gpu.memory().in_use;
    let resident = gpu.table(weights.clone()).expect("a table");
    let stats = gpu.memory();
    assert!(stats.tag(Tag::Weights).in_use >= 1 << 20, "{stats}");
    let mut others = Vec::new();
    let error = loop {
        match gpu.table(weights.clone()) {
            Ok(table) => others.push(table),
            Err(error) => break error,
        }
        assert!(others.len() < 100, "no limit");
    };
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    drop((resident, others));
    assert_eq!(gpu.memory().in_use, before);
}

#[test]
fn a_lost_device_says_so_for_ever() {
    let gpu = open(GpuOptions::default());
    let weights = gpu
        .table(table(&[0.5; 64], 4, Format::F32))
        .expect("a table");
    let gain = gpu.gain(vec![1.0; 4]).expect("gains");
    let cache = gpu.cache(1, NO_HEADS, 8).expect("a cache");
    let input = bitnet_core::Input::Tokens(&[1, 2]);
    let begun = gpu.embed(&weights, input, &cache).expect("rows");
    let waiting = gpu.embed(&weights, input, &cache).expect("rows");
    let waiting = gpu
        .head(&waiting, 0, norm(&gain), &weights)
        .expect("under way");
    gpu.destroy();
    // What was under way may have come through.
    if let Err(error) = waiting.now() {
        assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
    }
    let lost = |error: Error| assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
    lost(
        gpu.head(&begun, 0, norm(&gain), &weights)
            .and_then(Pending::now)
            .expect_err("lost"),
    );
    lost(gpu.gain(vec![1.0; 9000]).expect_err("lost"));
    lost(
        gpu.table(table(&[0.5; 64], 4, Format::F32))
            .map(drop)
            .expect_err("lost"),
    );
    lost(gpu.cache(1, NO_HEADS, 8).map(drop).expect_err("lost"));
    let again = gpu.embed(&weights, input, &cache);
    lost(again.and_then(|rows| gpu.run(rows)).expect_err("lost"));
    // A new one works.
    let gpu = open(GpuOptions::default());
    let rows = alone(&gpu, &[1.0, 2.0], 2);
    assert_eq!(gpu.look(rows), [1.0, 2.0]);
}

#[test]
fn a_batch_is_sent_once() {
    let (_, gpu) = gpus()[0];
    let weights = gpu
        .table(table(&[0.5; 64], 4, Format::F32))
        .expect("a table");
    let gain = gpu.gain(vec![1.0; 4]).expect("gains");
    let rows = alone(gpu, &[1.0; 4], 4);
    let logits = gpu
        .head(&rows, 0, norm(&gain), &weights)
        .and_then(Pending::now);
    assert_eq!(logits.expect("logits").len(), 16);
    let error = gpu
        .head(&rows, 0, norm(&gain), &weights)
        .expect_err("sent before");
    assert!(error.to_string().contains("sent"), "{error}");
}
