//! How requirements are met: by rustup, cargo and npm, or as Debian packages.

use crate::debian::apt_install;
use crate::metal;
use crate::miri;
use crate::mlx;
use crate::program::succeeds;
use crate::python;
use crate::requirement::Requirement;
use crate::sanitizer;
use crate::server;
use crate::target::{self, Target};
use crate::web::tools;
use crate::workspace::cargo;
use anyhow::{Context, Result, bail};
use std::process::Command;

/// The oldest node whose WebAssembly has relaxed SIMD.
const NODE: u32 = 20;

/// Meets all of `requirements` and says what was found or done.
pub(crate) fn install(requirements: impl IntoIterator<Item = Requirement>) -> Result<()> {
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

impl Requirement {
    fn is_met(self) -> bool {
        match self {
            Self::Component { subcommand, .. } => {
                succeeds(Command::new(cargo()).args([subcommand, "--version"]))
            }
            Self::LibrarySource => sanitizer::has_library_source(sanitizer::rustc()),
            Self::Miri => miri::is_installed(),
            Self::Library(target) => target.is_installed(),
            Self::Aarch64Linker => target::linker_is_installed(),
            Self::MuslCompiler => succeeds(Command::new(target::MUSL_COMPILER).arg("--version")),
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
            Self::Venv => python::venv_is_installed(),
            Self::PythonPackages => python::packages_are_installed(),
            Self::Clients => server::clients_are_installed(),
            Self::Nginx => server::nginx_is_installed(),
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
            Self::Miri => {
                miri::install();
                Ok(())
            }
            Self::Library(target) => target.install(),
            Self::Pip => apt_install(&["python3-pip"], "Python 3 with pip"),
            Self::Venv => apt_install(&["python3-venv"], "Python 3 with venv"),
            Self::PythonPackages => python::install_packages(),
            Self::Clients => server::install_clients(),
            Self::Nginx => apt_install(&["nginx-light"], "nginx"),
            Self::CxxCompiler => apt_install(&["g++"], "a C++ compiler, called c++"),
            Self::Cmake => apt_install(&["cmake"], "CMake (brew install cmake)"),
            Self::MlxBindings => mlx::install_bindings(),
            Self::MlxLibrary => mlx::install_library(),
            Self::Aarch64Linker => apt_install(
                &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
                "a C compiler and C library for aarch64, called aarch64-linux-gnu-gcc",
            ),
            Self::MuslCompiler => {
                apt_install(&["musl-tools"], "a C compiler for musl, called musl-gcc")
            }
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
