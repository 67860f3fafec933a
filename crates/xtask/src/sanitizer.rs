//! The parts of the suite that run tests under a sanitizer of the compiler: the memory pool, the thread team and the owners
//! of tensors under ThreadSanitizer, kernels and readers of files under AddressSanitizer.
//!
//! ThreadSanitizer must see every access and every lock, so the standard library is compiled with it too, from its sources;
//! AddressSanitizer takes the library as it is. Both are unstable in name, and the compiler in use is told to allow them: no
//! second one is installed.

use crate::program::carry_out;
use crate::requirement::Requirement;
use crate::workspace::{cargo_with, workspace};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target of this program, where the sanitizers know it.
pub(crate) const TARGET: Option<&str> = if cfg!(all(
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

/// Flags of the compiler for ThreadSanitizer.
const THREAD: &str = "-Zsanitizer=thread";

/// Flags of the compiler for AddressSanitizer and libFuzzer, which is told what code an input reaches. The tests get the same, so
/// that they and the fuzz targets share what they depend on.
pub(crate) const ADDRESS: &str = "-Zsanitizer=address --cfg=fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Random cases of a property, each of which takes some ten times as long as without.
const CASES: &str = "32";

/// A sanitizer, and what runs under it.
#[derive(Clone, Copy)]
pub(crate) enum Sanitizer {
    /// Unordered accesses to the same memory.
    Thread,
    /// Accesses outside of allocations.
    Address,
}

/// What ThreadSanitizer needs.
pub(crate) const THREAD_REQUIREMENTS: &[Requirement] = match TARGET {
    Some(_) => &[Requirement::LibrarySource],
    None => &[],
};

impl Sanitizer {
    fn name(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::Address => "address",
        }
    }

    /// Arguments of `cargo test`, one list for each run.
    fn tests(self) -> &'static [&'static [&'static str]] {
        match self {
            // The pool and the team through the public interface, the team by itself, and the owners of a tensor's storage.
            Self::Thread => &[
                &[
                    "--package=bitnet-core",
                    "--profile=race",
                    "-Zbuild-std=std",
                    "--test=races",
                ],
                &[
                    "--package=bitnet-core",
                    "--profile=race",
                    "-Zbuild-std=std",
                    "--lib",
                    "cpu::fork",
                ],
                &[
                    "--package=bitnet-tensor",
                    "--profile=race",
                    "-Zbuild-std=std",
                    "--test=races",
                ],
            ],
            // Kernels on rows that end where their allocation ends, and everything that reads what strangers wrote. Attention
            // and whole batches read memory of the pool, whose blocks the sanitizer does not know, and take most of the time.
            Self::Address => &[
                &[
                    "--package=bitnet-core",
                    "--profile=asan",
                    "--test=agreement",
                    "--",
                    "--skip=batches::",
                    "--skip=sublayers::attention",
                ],
                &[
                    "--package=bitnet",
                    "--profile=asan",
                    "--test=hostile_files",
                    "--test=hub",
                ],
            ],
        }
    }

    /// Runs the tests; says so where there is no sanitizer.
    pub(crate) fn run(self) -> Result<()> {
        let Some(target) = TARGET else {
            println!(
                "the {} sanitizer does not know this system: nothing is run",
                self.name()
            );
            return Ok(());
        };
        let flags = match self {
            Self::Thread => THREAD,
            Self::Address => ADDRESS,
        };
        self.tests().iter().try_for_each(|tests| {
            let mut command = command("test", target, flags);
            command.args(*tests);
            // What is looked for is in the lengths of rows more than in the numbers.
            command.env("PROPTEST_CASES", CASES);
            carry_out(command)
        })
    }
}

/// `cargo` with that subcommand, compiling for `target` with `flags`, some of which are unstable.
pub(crate) fn command(subcommand: &str, target: &str, flags: &str) -> Command {
    let mut command = cargo_with(&[subcommand, "--target", target]);
    // For the target alone: build scripts and macros run as they are.
    let variable = format!(
        "CARGO_TARGET_{}_RUSTFLAGS",
        target.to_uppercase().replace('-', "_")
    );
    command.env("RUSTC_BOOTSTRAP", "1").env(variable, flags);
    // These would stand in for the target's own.
    command
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}

/// The compiler in use.
pub(crate) fn rustc() -> Command {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.current_dir(workspace());
    rustc
}

/// Whether a compiler has the sources of its standard library.
pub(crate) fn has_library_source(rustc: Command) -> bool {
    sysroot(rustc).is_ok_and(|folder| {
        folder
            .join("lib/rustlib/src/rust/library/Cargo.lock")
            .exists()
    })
}

fn sysroot(mut rustc: Command) -> Result<PathBuf> {
    let found = rustc
        .args(["--print", "sysroot"])
        .output()
        .context("cannot run rustc")?;
    Ok(Path::new(String::from_utf8_lossy(&found.stdout).trim()).to_owned())
}
