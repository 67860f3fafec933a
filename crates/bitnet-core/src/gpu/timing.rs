//! How long batches and kernels took, by the device's own clock, where somebody asked for it.

/// What batches took since this was last asked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Times {
    /// Batches.
    pub batches: usize,
    /// Dispatches of all of them.
    pub dispatches: usize,
    /// Bytes that came back to the host.
    pub read_back: u64,
    /// Seconds of all of them, from the start of the first kernel of each to the end of its last.
    pub seconds: f64,
    /// Kernels that can run by themselves, the longest first.
    pub kernels: Vec<KernelTime>,
}

/// What one kernel took, over all batches: each time when it waited for the same one before it, for the layer before.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KernelTime {
    /// The kernel's file in `shaders-wgsl/` or `shaders-metal/`, and the shape of what it multiplies.
    pub kernel: String,
    /// How many times it ran.
    pub dispatches: usize,
    /// How long.
    pub seconds: f64,
    /// Bytes of weights, keys and values that it had to read.
    pub bytes: u64,
    /// Products that it had to add.
    pub products: u64,
}
