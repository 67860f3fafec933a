//! Adapters that are missing, or only software.

use bitnet_core::Backend;
use bitnet_core::gpu::{self, GpuOptions, WgpuBackend};

#[test]
fn an_adapter_that_is_not_there_is_named_beside_those_that_are() {
    let list = gpu::adapters();
    assert!(
        !list.is_empty(),
        "these tests need an adapter; `cargo xtask setup` installs one"
    );
    let options = GpuOptions {
        adapter: Some("no such thing".into()),
        ..GpuOptions::default()
    };
    let error = WgpuBackend::new(&options)
        .expect_err("no such adapter")
        .to_string();
    assert!(
        error.contains("no such thing") && error.contains(&list[0].name),
        "{error}"
    );
    let options = GpuOptions {
        adapter: Some("99".into()),
        ..GpuOptions::default()
    };
    assert!(WgpuBackend::new(&options).is_err());
}

#[test]
fn software_computes_only_when_asked() {
    let list = gpu::adapters();
    let Some(index) = list.iter().position(|adapter| !adapter.is_hardware()) else {
        return;
    };
    let mut options = GpuOptions {
        adapter: Some(index.to_string()),
        ..GpuOptions::default()
    };
    let error = WgpuBackend::new(&options)
        .expect_err("software")
        .to_string();
    assert!(error.contains("software"), "{error}");
    options.software = true;
    let backend = WgpuBackend::new(&options).expect("software when asked");
    assert!(
        backend.describe().contains("wgpu"),
        "{}",
        backend.describe()
    );
}
