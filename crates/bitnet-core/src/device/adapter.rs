//! The GPUs of this machine, as wgpu names them, and the choice of one.

use serde::Serialize;
use std::sync::OnceLock;

/// What kind of machine an adapter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterKind {
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares the processor's memory.
    Integrated,
    /// A share of a GPU, given to a virtual machine.
    Virtual,
    /// Software on the processor: for tests.
    Software,
    /// The driver does not tell.
    Unknown,
}

impl AdapterKind {
    /// Its name in lists.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Software => "software",
            Self::Unknown => "unknown",
        }
    }
}

/// A GPU, or what stands for one, through one programming interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Adapter {
    /// Its maker's name for it.
    pub name: String,
    /// The interface: `vulkan`, `metal`, `dx12` or `webgpu`.
    pub backend: String,
    /// What it is.
    pub kind: AdapterKind,
    /// The driver and its version, as far as it tells.
    pub driver: String,
}

impl Adapter {
    /// Whether it is hardware: software adapters are used only when asked for.
    pub fn is_hardware(&self) -> bool {
        self.kind != AdapterKind::Software
    }
}

impl std::fmt::Display for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, {}", self.name, self.backend, self.kind.name())?;
        if !self.driver.is_empty() {
            write!(f, ", {}", self.driver)?;
        }
        f.write_str(")")
    }
}

/// Which adapter to use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdapterChoice {
    /// A part of its name, or its place in the list of [`adapters`]; if `None`, the best.
    pub name: Option<String>,
    /// Whether it may be software.
    pub software: bool,
}

impl AdapterChoice {
    /// Whether anything was chosen.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The adapters of this machine, software ones too. They are looked for once, and only in a program that is built to use
/// them; a browser tells of its adapter when it is opened.
pub fn adapters() -> &'static [Adapter] {
    static FOUND: OnceLock<Vec<Adapter>> = OnceLock::new();
    FOUND.get_or_init(find)
}

#[cfg(all(feature = "wgpu", not(target_arch = "wasm32")))]
fn find() -> Vec<Adapter> {
    crate::gpu::adapters()
}

#[cfg(not(all(feature = "wgpu", not(target_arch = "wasm32"))))]
fn find() -> Vec<Adapter> {
    Vec::new()
}
