//! Files of kernels: one of `shaders-wgsl/`, one of `shaders-metal/`, or one of each that are twins. The text of a language
//! that nothing in this build is written for is left out.

use crate::gpu::lanes::Lanes;

/// A part of a kernel's text, in each language; nothing where only the other has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) wgsl: &'static str,
    pub(super) metal: &'static str,
}

impl Piece {
    /// Its text in the language of devices with these `lanes`.
    pub(super) fn text(self, lanes: Lanes) -> &'static str {
        if lanes.metal { self.metal } else { self.wgsl }
    }
}

#[cfg(feature = "wgpu")]
macro_rules! wgsl_text {
    ($name:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../shaders-wgsl/",
            $name,
            ".wgsl"
        ))
    };
}
#[cfg(not(feature = "wgpu"))]
macro_rules! wgsl_text {
    ($name:literal) => {
        ""
    };
}

#[cfg(any(
    all(feature = "metal", target_os = "macos"),
    all(feature = "metal-shim", target_os = "linux")
))]
macro_rules! metal_text {
    ($name:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../shaders-metal/",
            $name,
            ".metal"
        ))
    };
}
#[cfg(not(any(
    all(feature = "metal", target_os = "macos"),
    all(feature = "metal-shim", target_os = "linux")
)))]
macro_rules! metal_text {
    ($name:literal) => {
        ""
    };
}

/// Files that both folders have, in the order of their names.
macro_rules! shaders {
    ($($name:literal),*) => {
        [$($crate::gpu::kernel::piece::Piece { wgsl: wgsl_text!($name), metal: metal_text!($name) }),*]
    };
}

/// Files of WGSL that Metal's language needs no twin of.
macro_rules! wgsl {
    ($($name:literal),*) => {
        [$($crate::gpu::kernel::piece::Piece { wgsl: wgsl_text!($name), metal: "" }),*]
    };
}

/// Files of Metal's language that WGSL has no twin of.
macro_rules! metal {
    ($($name:literal),*) => {
        [$($crate::gpu::kernel::piece::Piece { wgsl: "", metal: metal_text!($name) }),*]
    };
}
