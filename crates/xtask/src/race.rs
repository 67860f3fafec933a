//! The part of the suite that looks for races: the memory pool's and the thread team's tests under ThreadSanitizer.
//!
//! The sanitizer must see every access and every lock, so the standard library is compiled with it too, from its sources.
//! That is unstable in name, and the compiler in use is told to allow it: no second one is installed.

use crate::requirement::Requirement;
use crate::suite::{cargo_with, carry_out, workspace};
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target of this program, where the sanitizer knows it.
const TARGET: Option<&str> = if cfg!(all(
    target_os = "linux",
    target_env = "gnu",
    target_arch = "x86_64"
)) {
    Some("x86_64-unknown-linux-gnu")
} else if cfg!(all(
    target_os = "linux",
    target_env = "gnu",
    target_arch = "aarch64"
)) {
    Some("aarch64-unknown-linux-gnu")
} else if cfg!(all(target_os = "macos", target_arch = "aarch64")) {
    Some("aarch64-apple-darwin")
} else {
    None
};

/// Which tests run: those through the public interface, and those of the team by itself.
const TESTS: [&[&str]; 2] = [&["--test=races"], &["--lib", "cpu::fork"]];

/// What must be installed.
pub(crate) const REQUIREMENTS: &[Requirement] = match TARGET {
    Some(_) => &[Requirement::LibrarySource],
    None => &[],
};

/// Runs the tests; says so where there is no sanitizer.
pub(crate) fn run() -> Result<()> {
    let Some(target) = TARGET else {
        println!("ThreadSanitizer does not know this system: nothing is run");
        return Ok(());
    };
    TESTS
        .into_iter()
        .try_for_each(|tests| carry_out(sanitized(tests, target)))
}

/// The command that runs `tests`.
fn sanitized(tests: &[&str], target: &str) -> Command {
    let mut command = cargo_with(&["test", "--package=bitnet-core"]);
    command.args(["--profile=race", "-Zbuild-std=std", "--target", target]);
    command.args(tests);
    // For the target alone: build scripts and macros run as they are.
    command.env("RUSTC_BOOTSTRAP", "1").env(
        format!(
            "CARGO_TARGET_{}_RUSTFLAGS",
            target.to_uppercase().replace('-', "_")
        ),
        "-Zsanitizer=thread",
    );
    // These would stand in for the target's own.
    command
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}

/// Whether the compiler in use has the sources of its standard library.
pub(crate) fn has_library_source() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    sysroot(rustc).is_ok_and(|folder| {
        folder
            .join("lib/rustlib/src/rust/library/Cargo.lock")
            .exists()
    })
}

fn sysroot(rustc: OsString) -> Result<PathBuf> {
    let found = Command::new(rustc)
        .current_dir(workspace())
        .args(["--print", "sysroot"])
        .output()
        .context("cannot run rustc")?;
    Ok(Path::new(String::from_utf8_lossy(&found.stdout).trim()).to_owned())
}
