//! What the parts of the test suite need beyond a Rust compiler. Each part lists its own, so that running one part never
//! installs what only another needs; [`install`](mod@crate::install) says how.

use crate::target::{self, Target};

/// Something a part of the suite needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Requirement {
    /// A rustup component that brings a cargo subcommand.
    Component {
        /// Its name for rustup.
        name: &'static str,
        /// The cargo subcommand it brings.
        subcommand: &'static str,
    },
    /// The sources of the standard library, of the compiler in use.
    LibrarySource,
    /// Miri, which nightly compilers have.
    Miri,
    /// The standard library of another target.
    Library(Target),
    /// A C compiler and C library for aarch64, by which programs are linked.
    Aarch64Linker,
    /// A C compiler for musl.
    MuslCompiler,
    /// qemu-user, which runs single programs of another CPU.
    Qemu,
    /// node, which runs WebAssembly.
    Node,
    /// The sources of the standard library, which is built anew for WebAssembly with threads.
    Source,
    /// The program that writes the JavaScript around a WebAssembly module.
    WasmBindgen,
    /// The npm packages that the browser's side is built and tested with.
    NpmPackages,
    /// A browser.
    Chromium,
    /// The program that drives it.
    Chromedriver,
    /// Vulkan, and a driver of it: one that computes on the processor will do.
    Vulkan,
    /// A C++ compiler that has halves and vectors, by which Metal's kernels run on the processor.
    Clang,
    /// pip, which fetches packages from PyPI.
    Pip,
    /// Python 3 with environments of its own.
    Venv,
    /// Packages of PyPI that the Python package is built, tested and typed with.
    PythonPackages,
    /// Clients of servers, from PyPI and npm.
    Clients,
    /// A server that stands before several of ours.
    Nginx,
    /// A C++ compiler.
    CxxCompiler,
    /// What MLX is built by on a Mac.
    Cmake,
    /// What MLX's C interface declares, in Rust.
    MlxBindings,
    /// MLX for the CPUs of Linux.
    MlxLibrary,
}

impl Requirement {
    /// `cargo fmt`.
    pub(crate) const RUSTFMT: Self = Self::Component {
        name: "rustfmt",
        subcommand: "fmt",
    };
    /// `cargo clippy`.
    pub(crate) const CLIPPY: Self = Self::Component {
        name: "clippy",
        subcommand: "clippy",
    };

    /// As messages say it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Component { name, .. } => name,
            Self::LibrarySource => "rust-src",
            Self::Miri => "miri",
            Self::Library(target) => target.triple(),
            Self::Aarch64Linker => target::LINKER,
            Self::MuslCompiler => target::MUSL_COMPILER,
            Self::Qemu => "qemu-aarch64",
            Self::Node => "node",
            Self::Source => "rust-src",
            Self::WasmBindgen => "wasm-bindgen",
            Self::NpmPackages => "web/node_modules",
            Self::Chromium => "chromium",
            Self::Chromedriver => "chromedriver",
            Self::Vulkan => "vulkan",
            Self::Clang => "clang",
            Self::Pip => "pip",
            Self::Venv => "python3 -m venv",
            Self::PythonPackages => "packages of the Python tests",
            Self::Clients => "clients of the server",
            Self::Nginx => "nginx",
            Self::CxxCompiler => "c++",
            Self::Cmake => "cmake",
            Self::MlxBindings => "bindings of MLX",
            Self::MlxLibrary => "MLX for Linux",
        }
    }
}
