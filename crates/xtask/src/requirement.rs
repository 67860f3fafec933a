//! What the parts of the test suite need beyond a Rust compiler, and how it is installed: by rustup, cargo and npm,
//! or as Debian packages.
//!
//! A requirement can tell whether it is met and, if not, meet it. Each [`Part`] lists its own, so that running one part
//! never installs what only another needs.

use crate::metal;
use crate::mlx;
use crate::sanitizer;
use crate::suite::{Part, cargo};
use crate::target::{self, Target};
use crate::web::tools;
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};

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
    /// The standard library of another target.
    Library(Target),
    /// A C compiler and C library for aarch64, by which programs are linked.
    Aarch64Linker,
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
    /// A C++ compiler.
    CxxCompiler,
    /// What MLX is built by on a Mac.
    Cmake,
    /// What MLX's C interface declares, in Rust.
    MlxBindings,
    /// MLX for the CPUs of Linux.
    MlxLibrary,
}

/// The oldest node whose WebAssembly has relaxed SIMD.
const NODE: u32 = 20;

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

    fn name(self) -> &'static str {
        match self {
            Self::Component { name, .. } => name,
            Self::LibrarySource => "rust-src",
            Self::Library(target) => target.triple(),
            Self::Aarch64Linker => target::LINKER,
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
            Self::CxxCompiler => "c++",
            Self::Cmake => "cmake",
            Self::MlxBindings => "bindings of MLX",
            Self::MlxLibrary => "MLX for Linux",
        }
    }

    fn is_met(self) -> bool {
        match self {
            Self::Component { subcommand, .. } => {
                succeeds(Command::new(cargo()).args([subcommand, "--version"]))
            }
            Self::LibrarySource => sanitizer::has_library_source(),
            Self::Library(target) => target.is_installed(),
            Self::Aarch64Linker => target::linker_is_installed(),
            Self::Qemu => target::qemu_is_installed(),
            Self::Node => target::node_version().is_some_and(|version| version >= NODE),
            Self::Source => Target::Wasm.has_source(),
            Self::WasmBindgen => tools::wasm_bindgen_is_installed(),
            Self::NpmPackages => tools::npm_packages_are_installed(),
            Self::Chromium => tools::chromium().is_some(),
            Self::Chromedriver => std::path::Path::new(tools::CHROMEDRIVER).exists(),
            Self::Vulkan => has_vulkan_driver(),
            Self::Clang => metal::clang_is_installed(),
            Self::Pip => succeeds(Command::new("python3").args(["-m", "pip", "--version"])),
            Self::CxxCompiler => succeeds(Command::new("c++").arg("--version")),
            Self::Cmake => succeeds(Command::new("cmake").arg("--version")),
            Self::MlxBindings => mlx::bindings_are_made(),
            Self::MlxLibrary => mlx::library_is_built(),
        }
    }

    fn meet(self) -> Result<()> {
        match self {
            Self::Component { .. } | Self::LibrarySource | Self::Source => {
                add_component(self.name())
            }
            Self::WasmBindgen => tools::install_wasm_bindgen(),
            Self::NpmPackages => tools::install_npm_packages(),
            Self::Chromedriver => apt_install(&["chromium-driver"], tools::CHROMEDRIVER),
            Self::Vulkan => apt_install(
                &["libvulkan1", "mesa-vulkan-drivers"],
                "Vulkan with a driver (on the processor: Mesa's lavapipe)",
            ),
            Self::Clang => apt_install(&["clang-19"], "clang++, version 16 or later"),
            Self::Chromium => apt_install(
                &["chromium"],
                "Chromium, or its path in the variable CHROMIUM",
            ),
            Self::Library(target) => target.install(),
            Self::Pip => apt_install(&["python3-pip"], "Python 3 with pip"),
            Self::CxxCompiler => apt_install(&["g++"], "a C++ compiler, called c++"),
            Self::Cmake => apt_install(&["cmake"], "CMake (brew install cmake)"),
            Self::MlxBindings => mlx::install_bindings(),
            Self::MlxLibrary => mlx::install_library(),
            Self::Aarch64Linker => apt_install(
                &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
                "a C compiler and C library for aarch64, called aarch64-linux-gnu-gcc",
            ),
            Self::Qemu => apt_install(&["qemu-user"], "qemu-user (the program qemu-aarch64)"),
            Self::Node => {
                let found = match target::node_version() {
                    Some(version) => format!("found {version}"),
                    None => "found none".to_owned(),
                };
                let wanted = format!("node {NODE} or later ({found}; https://nodejs.org)");
                apt_install(&["nodejs", "npm"], &wanted)?;
                if !self.is_met() {
                    bail!("the distribution's node is too old: install {wanted}");
                }
                Ok(())
            }
        }
    }
}

/// Whether a Vulkan driver has registered itself. Metal and DirectX 12 come with their systems.
fn has_vulkan_driver() -> bool {
    if !cfg!(target_os = "linux") || std::env::var_os("VK_ICD_FILENAMES").is_some() {
        return true;
    }
    ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"]
        .into_iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .any(|mut entries| entries.next().is_some())
}

/// Installs a component of the compiler in use.
fn add_component(name: &str) -> Result<()> {
    if !succeeds(Command::new("rustup").arg("--version")) {
        bail!(
            "{name} is missing and there is no rustup to install it: install your Rust distribution's {name}"
        );
    }
    println!("setup: rustup component add {name}");
    let status = Command::new("rustup")
        .args(["component", "add", name])
        .status()
        .context("cannot run rustup")?;
    if !status.success() {
        bail!("rustup could not install {name}");
    }
    Ok(())
}

/// Installs Debian packages; `what` says what is missing, for a machine that has none.
fn apt_install(packages: &[&str], what: &str) -> Result<()> {
    let names = packages.join(" ");
    println!("setup: apt-get install {names}");
    apt_script(
        &format!("apt-get install -y -qq --no-install-recommends {names}"),
        what,
    )
}

/// Runs a shell script that installs Debian packages, as root; `what` says what is missing, for a machine where that
/// cannot be done.
pub(crate) fn apt_script(script: &str, what: &str) -> Result<()> {
    if !succeeds(Command::new("apt-get").arg("--version")) {
        bail!("{what} is missing, and there is no apt-get to install it: please install it");
    }
    let script =
        format!("set -e; export DEBIAN_FRONTEND=noninteractive; apt-get update -qq\n{script}");
    let user = Command::new("id").arg("-u").output();
    let is_root = user.is_ok_and(|user| user.stdout.trim_ascii() == b"0");
    let mut command = if is_root {
        Command::new("sh")
    } else if succeeds(Command::new("sudo").args(["-n", "true"])) {
        let mut command = Command::new("sudo");
        command.args(["-n", "sh"]);
        command
    } else {
        bail!(
            "{what} is missing, and installing it needs root (or sudo without a password): please install it"
        );
    };
    let status = command
        .args(["-c", &script])
        .stdin(Stdio::null())
        .status()
        .context("cannot run sh")?;
    if !status.success() {
        bail!("apt-get could not install {what}");
    }
    Ok(())
}

/// Meets every requirement of `parts` and says what was found or done.
pub(crate) fn install(parts: &[Part]) -> Result<()> {
    install_all(parts.iter().flat_map(|part| part.requirements()).copied())
}

/// Meets all of `requirements` and says what was found or done.
pub(crate) fn install_all(requirements: impl IntoIterator<Item = Requirement>) -> Result<()> {
    let mut needed: Vec<Requirement> = Vec::new();
    for requirement in requirements {
        if !needed.contains(&requirement) {
            needed.push(requirement);
        }
    }
    let mut present = Vec::new();
    for requirement in needed {
        if requirement.is_met() {
            present.push(requirement.name());
        } else {
            requirement.meet()?;
        }
    }
    if !present.is_empty() {
        println!("setup: present: {}", present.join(", "));
    }
    Ok(())
}

/// Whether `command` can be run and exits with 0; its output is not shown.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
