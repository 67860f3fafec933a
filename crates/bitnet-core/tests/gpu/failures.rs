//! Devices that are too small, or gone.

use crate::harness::*;
use bitnet_core::gpu::GpuOptions;
use bitnet_core::pool::PoolOptions;
use bitnet_core::{Backend, Error, HybridMemoryPool, Input, OutputRequest, Pending, Tag};

#[test]
fn a_row_larger_than_a_binding_is_refused() {
    let gpu = open(GpuOptions {
        binding_limit: Some(8 << 10),
        ..GpuOptions::default()
    });
    let error = gpu.load_vocabulary(vocabulary(&[0.0; 2 * 4096], 4096));
    let error = error.map(drop).expect_err("too long").to_string();
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
    let weights = vocabulary(&vec![0.0; 256 << 10], 256);
    let before = gpu.memory().in_use;
    let resident = gpu.load_vocabulary(weights.clone()).expect("a vocabulary");
    let stats = gpu.memory();
    assert!(stats.tag(Tag::Weights).in_use >= 1 << 20, "{stats}");
    let mut others = Vec::new();
    let error = loop {
        match gpu.load_vocabulary(weights.clone()) {
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
    let weights = vocabulary(&[0.5; 64], 4);
    let (embedding, head) = gpu.load_vocabulary(weights.clone()).expect("a vocabulary");
    let mut states = [(); 3].map(|()| gpu.state(&NO_LAYERS, 8, None).expect("a state"));
    let [one, two, three] = &mut states;
    let (input, logits) = (Input::Tokens(&[1, 2]), OutputRequest::Logits { rows: 2 });
    let mut begun = batch(input, one, logits);
    let rows = gpu.embed(&embedding, &mut begun).expect("rows");
    let mut sent = batch(input, two, logits);
    let waiting = gpu.embed(&embedding, &mut sent).expect("rows");
    let waiting = gpu.outputs(waiting, &head, &mut sent).expect("under way");
    gpu.destroy();
    // Commands that were under way may have come through.
    if let Err(error) = waiting.now() {
        assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
    }
    let lost = |error: Error| assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
    let outputs = gpu.outputs(rows, &head, &mut begun);
    lost(outputs.and_then(Pending::now).expect_err("lost"));
    lost(gpu.load_vocabulary(weights).map(drop).expect_err("lost"));
    lost(gpu.state(&NO_LAYERS, 8, None).map(drop).expect_err("lost"));
    let mut again = batch(input, three, logits);
    let outputs = gpu
        .embed(&embedding, &mut again)
        .and_then(|rows| gpu.outputs(rows, &head, &mut again));
    lost(outputs.and_then(Pending::now).expect_err("lost"));
    // A new one works.
    let gpu = open(GpuOptions::default());
    assert_eq!(fed(&gpu, &[1.0, 2.0], 2, &[]), [1.0, 2.0]);
}
