//! The part of the suite that checks what is for Macs, from any machine: types, lints and documentation of the workspace for
//! `aarch64-apple-darwin`. Nothing is linked and nothing runs.

use crate::mlx;
use crate::program::carry_out;
use crate::requirement::Requirement;
use crate::target::Target;
use crate::workspace::cargo_with;
use anyhow::Result;
use std::process::Command;

/// The features that a Mac can use.
const FEATURES: &str = "--features=mlx,metal,wgpu";

/// Those that only a Mac can use.
const DOCUMENTED: &str = "--features=mlx,metal";

/// Whether the bindings of MLX can be made here, as its own build script makes them on a Mac.
const BINDINGS: bool = cfg!(all(
    target_os = "linux",
    target_env = "gnu",
    target_arch = "x86_64"
));

/// What must be installed.
pub(crate) const REQUIREMENTS: &[Requirement] = if BINDINGS {
    &[
        Requirement::CLIPPY,
        Requirement::Library(Target::Apple),
        Requirement::Pip,
        Requirement::CxxCompiler,
        Requirement::MlxBindings,
    ]
} else if cfg!(target_os = "macos") {
    &[Requirement::CLIPPY, Requirement::Cmake]
} else {
    &[]
};

/// Checks and lints; says so where the bindings cannot be made.
pub(crate) fn run() -> Result<()> {
    if !BINDINGS && !cfg!(target_os = "macos") {
        println!("MLX's bindings are made on a Mac or on x86-64 with Linux: nothing is checked");
        return Ok(());
    }
    // The second are no part of all targets: they are built when asked for.
    let targets = ["--all-targets", "--test=metal"];
    let mut lints = for_apple(&["clippy", "--workspace", targets[0], targets[1], FEATURES])?;
    lints.args(["--", "-Dwarnings"]);
    carry_out(lints)?;
    // What only a Mac has is in one package; the rest is documented on any machine.
    let package = "--package=bitnet-core";
    let mut documentation = for_apple(&["doc", "--no-deps", package, DOCUMENTED])?;
    documentation.env("RUSTDOCFLAGS", "-Dwarnings");
    carry_out(documentation)
}

/// A cargo command that compiles for Macs.
fn for_apple(arguments: &[&str]) -> Result<Command> {
    if cfg!(target_os = "macos") {
        return Ok(cargo_with(arguments));
    }
    let mut command = Target::Apple.cargo("cross", arguments)?;
    command.arg("--config").arg(mlx::for_apple()?);
    // Compiled C and assembly are of no use to a check, and a compiler for Macs is not at hand.
    command.env("CC_aarch64_apple_darwin", "true");
    command.env("AR_aarch64_apple_darwin", "true");
    Ok(command)
}
