//! Targets that this repository builds for besides the machine's own, and the compiler that can: the one in use, or else the distribution's.

use crate::debian::apt_script;
use crate::program::{succeeds, target_folder};
use crate::workspace::{cargo, workspace};
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A target besides the machine's own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// `aarch64-unknown-linux-gnu`, run by qemu-user.
    Aarch64,
    /// `wasm32-unknown-unknown`, run by node and by browsers.
    Wasm,
    /// `aarch64-apple-darwin`, checked and never linked.
    Apple,
    /// `…-unknown-linux-musl` of this machine's processor: programs that need nothing but a kernel.
    Musl,
}

/// A compiler with the standard library of a target.
enum Toolchain {
    /// The cargo that runs this program, and its rustc.
    Own,
    /// The distribution's, in `/usr/bin`.
    System,
}

impl Toolchain {
    /// Where it builds: two compilers in one folder would rebuild after each other.
    fn folder(&self) -> Result<PathBuf> {
        let folder = target_folder()?;
        Ok(match self {
            Self::Own => folder,
            Self::System => folder.join("system"),
        })
    }
}

impl Target {
    /// The name that rustc has for it.
    pub(crate) const fn triple(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
            Self::Wasm => "wasm32-unknown-unknown",
            Self::Apple => "aarch64-apple-darwin",
            Self::Musl if cfg!(target_arch = "aarch64") => "aarch64-unknown-linux-musl",
            Self::Musl => "x86_64-unknown-linux-musl",
        }
    }

    /// Whether there is a compiler for it.
    pub(crate) fn is_installed(self) -> bool {
        self.toolchain().is_some()
    }

    /// Installs its standard library: by rustup, or else with Debian's compiler.
    pub(crate) fn install(self) -> Result<()> {
        let triple = self.triple();
        println!("setup: rustup target add {triple}");
        let mut rustup = Command::new("rustup");
        rustup
            .current_dir(workspace())
            .args(["target", "add", triple]);
        // Here and not by exit code alone: a cargo that is not rustup's would not find what rustup adds.
        if rustup.status().is_ok_and(|status| status.success()) && self.is_installed() {
            return Ok(());
        }
        println!("setup: no rustup, or it cannot; Debian's compiler then");
        let script = match self {
            Self::Aarch64 => include_str!("setup/debian-aarch64.sh"),
            Self::Wasm => include_str!("setup/debian-wasm.sh"),
            Self::Apple => include_str!("setup/debian-apple.sh"),
            Self::Musl => {
                bail!("rustup cannot install {triple}, and Debian has no standard library for it")
            }
        };
        apt_script(
            script,
            &format!("the standard library of {triple} (rustup target add {triple})"),
        )?;
        if !self.is_installed() {
            bail!("Debian's compiler was installed, but not a standard library of {triple} for it");
        }
        Ok(())
    }

    /// A cargo command in the workspace root that builds for this target in `profile`.
    ///
    /// # Errors
    /// If there is no compiler for it.
    pub(crate) fn cargo(self, profile: &str, arguments: &[&str]) -> Result<Command> {
        let triple = self.triple();
        let Some(toolchain) = self.toolchain() else {
            bail!("no compiler here has a standard library for {triple}: cargo xtask setup");
        };
        let mut command = match toolchain {
            Toolchain::Own => Command::new(cargo()),
            Toolchain::System => {
                let mut command = Command::new("/usr/bin/cargo");
                command.env("RUSTC", "/usr/bin/rustc");
                // Its linker is a package of its own, under the name that tells rustc its kind.
                if self == Self::Wasm {
                    command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld");
                }
                command
            }
        };
        command.current_dir(workspace()).args(arguments);
        command.args(["--target", triple, "--profile", profile]);
        command.env("CARGO_TARGET_DIR", toolchain.folder()?);
        if self == Self::Aarch64 && !cfg!(target_arch = "aarch64") {
            command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER);
        }
        if self == Self::Musl {
            command.env(format!("CC_{}", triple.replace('-', "_")), MUSL_COMPILER);
        }
        Ok(command)
    }

    /// The target folder that [`cargo`](Self::cargo) builds into.
    pub(crate) fn folder(self) -> Result<PathBuf> {
        self.toolchain().context("no compiler")?.folder()
    }

    /// The folder of what [`cargo`](Self::cargo) built.
    pub(crate) fn built(self, profile: &str) -> Result<PathBuf> {
        Ok(self.folder()?.join(self.triple()).join(profile))
    }

    /// Whether the sources of the standard library are there, so that it can be built with other features.
    pub(crate) fn has_source(self) -> bool {
        let Some(toolchain) = self.toolchain() else {
            return false;
        };
        let rustc = match toolchain {
            Toolchain::Own => std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()),
            Toolchain::System => "/usr/bin/rustc".into(),
        };
        let said = Command::new(rustc)
            .current_dir(workspace())
            .args(["--print", "sysroot"])
            .output();
        said.is_ok_and(|said| {
            let root = String::from_utf8_lossy(&said.stdout).trim().to_owned();
            Path::new(&root)
                .join("lib/rustlib/src/rust/library/std/Cargo.toml")
                .exists()
        })
    }

    fn toolchain(self) -> Option<Toolchain> {
        if self.has_library(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())) {
            Some(Toolchain::Own)
        } else if Path::new("/usr/bin/cargo").exists() && self.has_library("/usr/bin/rustc".into())
        {
            Some(Toolchain::System)
        } else {
            None
        }
    }

    /// Whether `rustc` has the standard library.
    fn has_library(self, rustc: OsString) -> bool {
        let found = Command::new(rustc)
            .current_dir(workspace())
            .args(["--print", "target-libdir", "--target", self.triple()])
            .stderr(Stdio::null())
            .output();
        let Ok(found) = found else { return false };
        let folder = String::from_utf8_lossy(&found.stdout);
        let Ok(files) = std::fs::read_dir(folder.trim()) else {
            return false;
        };
        files.flatten().any(|file| {
            let name = file.file_name();
            let name = name.to_string_lossy();
            // Of a target that is checked only, what its library declares is enough.
            let library =
                name.ends_with(".rlib") || self == Self::Apple && name.ends_with(".rmeta");
            name.starts_with("libstd-") && library
        })
    }
}

/// The linker for aarch64: a C compiler, because that knows where the C library is.
pub(crate) const LINKER: &str = if cfg!(target_arch = "aarch64") {
    "cc"
} else {
    "aarch64-linux-gnu-gcc"
};

/// Whether the linker for aarch64 is there, with its C library.
pub(crate) fn linker_is_installed() -> bool {
    let found = Command::new(LINKER).arg("-print-file-name=crt1.o").output();
    found.is_ok_and(|found| Path::new(String::from_utf8_lossy(&found.stdout).trim()).is_absolute())
}

/// The C compiler for musl: what checks certificates is C in part.
pub(crate) const MUSL_COMPILER: &str = "musl-gcc";

/// Whether qemu can run programs for aarch64.
pub(crate) fn qemu_is_installed() -> bool {
    succeeds(Command::new("qemu-aarch64").arg("--version"))
}

/// The first number of node's version, if there is a node.
pub(crate) fn node_version() -> Option<u32> {
    let said = Command::new("node").arg("--version").output().ok()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    said.trim()
        .strip_prefix('v')?
        .split('.')
        .next()?
        .parse()
        .ok()
}
