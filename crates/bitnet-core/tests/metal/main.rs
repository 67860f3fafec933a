//! The tests of `tests/gpu/` with the kernels of `shaders-metal/`: on a Mac by Metal, elsewhere compiled as C++ and run on the
//! processor. `cargo xtask test --metal` runs them; they need clang, and are not built unless asked for.
#![cfg(any(
    all(feature = "metal", target_os = "macos"),
    all(feature = "metal-shim", target_os = "linux")
))]

#[path = "../gpu/attention.rs"]
mod attention;
#[path = "../gpu/failures.rs"]
mod failures;
#[path = "../gpu/feed_forward.rs"]
mod feed_forward;
#[path = "../gpu/harness.rs"]
mod harness;
#[path = "../gpu/head.rs"]
mod head;
#[path = "../parity/mod.rs"]
mod parity;
#[path = "../gpu/products.rs"]
mod products;
#[path = "../gpu/sequences.rs"]
mod sequences;
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
