//! Every operation of the wgpu backend beside the CPU's, on whatever adapter there is: a software one will do.
#![cfg(feature = "wgpu")]

mod adapters;
mod attention;
#[path = "../beside/mod.rs"]
mod beside;
mod elementwise;
mod failures;
mod harness;
mod head;
mod products;
mod sessions;

/// What these tests open.
const INTERFACE: bitnet_core::gpu::GpuInterface = bitnet_core::gpu::GpuInterface::Wgpu;
