//! By which programming interface a GPU is reached.

use crate::Error;

/// A programming interface to GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum GpuInterface {
    /// Vulkan, Metal, DirectX 12 or WebGPU, through wgpu. Needs the feature `wgpu`.
    #[default]
    Wgpu,
    /// Metal. Needs the feature `metal`, and macOS on a processor of Apple's.
    Metal,
    /// Metal's kernels run on the processor, as C++, for tests on machines without Metal: thousands of times slower. Needs the
    /// feature `metal-shim`, Linux, and clang.
    MetalShim,
}

impl GpuInterface {
    /// What it is.
    const fn name(self) -> &'static str {
        match self {
            Self::Wgpu => "a GPU through wgpu",
            Self::Metal => "a GPU through Metal",
            Self::MetalShim => "Metal's kernels on the processor",
        }
    }

    /// The error for an interface that this program was not built for.
    pub(super) fn not_built(self) -> Error {
        let why = match self {
            Self::Metal if cfg!(not(target_os = "macos")) => "only macOS has Metal",
            Self::Metal => "this program was built without the feature metal",
            Self::Wgpu => "this program was built without the feature wgpu",
            Self::MetalShim => "this program was built without the feature metal-shim",
        };
        Error::Unavailable {
            what: self.name().into(),
            why: why.into(),
        }
    }
}
