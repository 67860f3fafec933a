//! The tests of `tests/gpu/` with the kernels of `shaders-metal/`: on a Mac by Metal, elsewhere compiled as C++ and run on the
//! processor. `cargo xtask test --metal` runs them; they need clang, and are not built unless asked for.
#![cfg(any(
    all(feature = "metal", target_os = "macos"),
    all(feature = "metal-shim", target_os = "linux")
))]

#[path = "../gpu/attention.rs"]
mod attention;
#[path = "../beside/mod.rs"]
mod beside;
#[path = "../gpu/elementwise.rs"]
mod elementwise;
#[path = "../gpu/failures.rs"]
mod failures;
#[path = "../gpu/harness.rs"]
mod harness;
#[path = "../gpu/head.rs"]
mod head;
#[path = "../gpu/products.rs"]
mod products;
#[path = "../gpu/sessions.rs"]
mod sessions;
// Memory that is mapped only in name is nothing that Metal takes.
#[cfg(target_os = "linux")]
mod tables;

use bitnet_core::gpu::GpuInterface;

/// What these tests open.
const INTERFACE: GpuInterface = if cfg!(target_os = "macos") {
    GpuInterface::Metal
} else {
    GpuInterface::MetalShim
};
