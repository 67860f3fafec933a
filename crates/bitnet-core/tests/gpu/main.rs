//! Every sublayer of the wgpu backend compared with the CPU's, on whatever adapter there is: a software one will do.
#![cfg(feature = "wgpu")]

mod adapters;
mod attention;
mod failures;
mod feed_forward;
mod harness;
mod head;
#[path = "../parity/mod.rs"]
mod parity;
mod products;
mod sequences;

/// What these tests open.
const INTERFACE: bitnet_core::gpu::GpuInterface = bitnet_core::gpu::GpuInterface::Wgpu;
