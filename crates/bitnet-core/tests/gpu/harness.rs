//! The GPU's ways to compute.

pub(crate) use crate::parity::harness::*;
use bitnet_core::Backend;
use bitnet_core::Pending;
use bitnet_core::gpu::{GpuBackend, GpuInterface, GpuOptions};
use std::sync::LazyLock;

/// Opens a GPU, or says what is missing.
pub(crate) fn open(options: GpuOptions) -> GpuBackend {
    let options = GpuOptions {
        interface: crate::INTERFACE,
        software: true,
        ..options
    };
    GpuBackend::new(&options).unwrap_or_else(|error| {
        panic!("these tests need what `cargo xtask setup` installs: {error}")
    })
}

/// The fastest way of this device, every index checked.
static USUAL: LazyLock<GpuBackend> = LazyLock::new(|| {
    open(GpuOptions {
        checked: true,
        ..GpuOptions::default()
    })
});

/// What every device can do, without checks.
static PLAIN: LazyLock<GpuBackend> = LazyLock::new(|| {
    open(GpuOptions {
        subgroups: false,
        packed_dot: false,
        half_cache: true,
        ..GpuOptions::default()
    })
});

/// The fastest way, keys and values in binary16, by which WGSL multiplies matrices in attention, too.
static HALVES: LazyLock<GpuBackend> = LazyLock::new(|| {
    open(GpuOptions {
        half_cache: true,
        ..GpuOptions::default()
    })
});

/// Bindings so small that the tables of these tests are split.
static SPLIT: LazyLock<GpuBackend> = LazyLock::new(|| {
    open(GpuOptions {
        checked: true,
        binding_limit: Some(64 << 10),
        ..GpuOptions::default()
    })
});

/// A GPU that splits tables.
pub(crate) fn split() -> (&'static str, &'static GpuBackend) {
    ("split", &SPLIT)
}

/// The GPU's ways to compute.
pub(crate) fn gpus() -> Vec<(&'static str, &'static GpuBackend)> {
    let mut list: Vec<(_, &GpuBackend)> = vec![("usual", &USUAL), ("plain", &PLAIN)];
    let matrices = USUAL.describe().contains("matrices");
    if matrices && crate::INTERFACE == GpuInterface::Wgpu {
        list.push(("halves", &HALVES));
    }
    list
}

/// They, and how near they come.
pub(crate) fn others() -> Vec<Other<'static, GpuBackend>> {
    let other = |(name, backend)| Other {
        name,
        backend,
        products: 0.0,
        // Binary16 keeps eleven bits; where matrices are multiplied, weights of attention have no more either.
        attention: match name {
            "usual" => 2e-5,
            "plain" => 3e-3,
            _ => 4e-3,
        },
        batch: usize::MAX,
    };
    gpus().into_iter().map(other).collect()
}

/// They, and one that splits tables.
pub(crate) fn others_and_split() -> Vec<Other<'static, GpuBackend>> {
    let (name, backend) = split();
    let split = Other {
        name,
        backend,
        products: 0.0,
        attention: 2e-5,
        // Where bindings are small, so must batches be.
        batch: 8000,
    };
    others().into_iter().chain([split]).collect()
}

impl Rows for GpuBackend {
    fn rows(&self, x: Self::Hidden) -> Vec<f32> {
        self.fetch(x).and_then(Pending::now).expect("rows")
    }
}
