//! How invocations work together on a device, and so which texts of a kernel it is given.

/// Threads of a threadgroup of Metal: more would leave each too few registers.
#[cfg(any(
    all(feature = "metal", target_os = "macos"),
    all(feature = "metal-shim", target_os = "linux")
))]
pub(super) const INVOCATIONS: u32 = 256;

/// How invocations work together on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lanes {
    /// Invocations that share a row: a subgroup, if these are used.
    pub(super) size: u32,
    /// Whether sums go through subgroup operations.
    pub(super) subgroups: bool,
    /// Whether WGSL must declare that it uses subgroups.
    pub(super) declared: bool,
    /// Whether WGSL has `dot4I8Packed`.
    pub(super) packed_dot: bool,
    /// Whether kernels are those of `shaders-metal/`, not of `shaders-wgsl/`.
    pub(super) metal: bool,
    /// Whether these may use simdgroup matrices.
    pub(super) matrices: bool,
}

impl Lanes {
    /// Lanes for every device that takes WGSL.
    pub(super) const fn through_memory(packed_dot: bool) -> Self {
        Self {
            size: 32,
            subgroups: false,
            declared: false,
            packed_dot,
            metal: false,
            matrices: false,
        }
    }

    /// The simdgroups of Apple's GPUs, with or without matrices.
    #[cfg(any(
        all(feature = "metal", target_os = "macos"),
        all(feature = "metal-shim", target_os = "linux")
    ))]
    pub(super) const fn of_apple(matrices: bool) -> Self {
        Self {
            subgroups: true,
            metal: true,
            matrices,
            ..Self::through_memory(false)
        }
    }
}
