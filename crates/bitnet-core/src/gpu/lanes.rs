//! How invocations work together on a device, and so which texts of a kernel it is given.

/// Threads of a threadgroup of Metal: more would leave each too few registers.
#[cfg(any(
    all(feature = "metal", target_os = "macos"),
    all(feature = "metal-shim", target_os = "linux")
))]
pub(super) const INVOCATIONS: u32 = 256;

/// Queries that attention without matrices takes together.
pub(super) const LEAST_QUERIES: u32 = 32;

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
    /// Rows and columns of the matrices that these lanes multiply as one, halves whose products are added up as floats; 0 if they
    /// cannot.
    pub(super) matrices: u32,
}

impl Lanes {
    /// Queries of a tile of attention: those that one workgroup takes together, where it multiplies matrices.
    pub(super) const fn tile_queries(self) -> u32 {
        if self.matrices > 8 { 64 } else { LEAST_QUERIES }
    }

    /// Lanes for every device that takes WGSL.
    pub(super) const fn through_memory(packed_dot: bool) -> Self {
        Self {
            size: 32,
            subgroups: false,
            declared: false,
            packed_dot,
            metal: false,
            matrices: 0,
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
            matrices: if matrices { 8 } else { 0 },
            ..Self::through_memory(false)
        }
    }
}
