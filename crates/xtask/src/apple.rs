//! The part of the suite that checks what is for Macs, from any machine: types and lints of the whole workspace for
//! `aarch64-apple-darwin`. Nothing is linked and nothing runs.

use crate::mlx;
use crate::requirement::Requirement;
use crate::suite::{cargo_with, carry_out};
use crate::target::Target;
use anyhow::Result;

/// The features that a Mac can use.
const FEATURES: &str = "mlx,wgpu";

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
} else {
    &[Requirement::CLIPPY]
};

/// Checks and lints; says so where the bindings cannot be made.
pub(crate) fn run() -> Result<()> {
    let arguments = [
        "clippy",
        "--workspace",
        "--all-targets",
        &format!("--features={FEATURES}"),
    ];
    let mut check = if cfg!(target_os = "macos") {
        cargo_with(&arguments)
    } else if BINDINGS {
        let mut check = Target::Apple.cargo("cross", &arguments)?;
        check.arg("--config").arg(mlx::for_apple()?);
        // Compiled C and assembly are of no use to a check, and a compiler for Macs is not at hand.
        check.env("CC_aarch64_apple_darwin", "true");
        check.env("AR_aarch64_apple_darwin", "true");
        check
    } else {
        println!("MLX's bindings are made on a Mac or on x86-64 with Linux: nothing is checked");
        return Ok(());
    };
    check.args(["--", "-Dwarnings"]);
    carry_out(check)
}
