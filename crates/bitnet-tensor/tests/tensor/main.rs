//! Tensors against naive indexing: views, broadcasting, reductions, products, convolution, and what is shared.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod edges;
mod elementwise;
mod layer;
mod naive;
mod products;
mod reductions;
mod sharing;
mod threads;
mod views;

use bitnet_core::{Device, HybridMemoryPool};
use bitnet_tensor::BitNetTensor;

const CPU: &Device = &Device::Cpu;

fn pool() -> &'static HybridMemoryPool {
    HybridMemoryPool::global()
}

fn floats(values: &[f32], shape: &[usize]) -> BitNetTensor {
    BitNetTensor::from_slice(values, shape, CPU, pool()).unwrap()
}
