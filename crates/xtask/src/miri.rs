//! The part of the suite that Miri interprets: the packed formats and the memory pool, whose blocks no sanitizer knows. It reports
//! accesses outside of allocations, what is not initialised, pointers that alias, and unordered accesses.
//!
//! An interpreter takes seconds for what a processor does in milliseconds, so tests are named, and left out where they go over
//! megabytes. Miri comes with nightly compilers only: one is installed beside the compiler in use, where rustup is there to do so.

use crate::program::{carry_out, succeeds};
use crate::requirement::Requirement;
use crate::sanitizer;
use crate::workspace::workspace;
use anyhow::Result;
use std::process::Command;

/// The toolchain that has Miri.
const TOOLCHAIN: &str = "nightly";

/// The components that it needs of that toolchain.
const COMPONENTS: [&str; 2] = ["miri", "rust-src"];

/// Arguments of `cargo miri test`, one list for each run.
const TESTS: [&[&str]; 3] = [
    &[
        "--package=bitnet-quant",
        "--test=golden",
        "--test=hf_packed",
        "--test=codecs",
        "--",
        "--skip=errors_stay_within_a_step",
        "--skip=q6_k_is_finer_than_q4_0",
        "--skip=scales_that_are_not_finite_are_refused",
    ],
    &["--package=bitnet-core", "--lib", "pool::"],
    &[
        "--package=bitnet-core",
        "--test=pool",
        "--",
        "--skip=idle_memory_goes_back_by_itself",
        "--skip=the_limit_is_kept_and_named",
    ],
];

/// Runs the tests; says so where Miri could not be installed.
pub(crate) fn run() -> Result<()> {
    if !is_installed() {
        println!(
            "there is no Miri here (rustup toolchain install {TOOLCHAIN} --component {}): nothing is run",
            COMPONENTS.join(",")
        );
        return Ok(());
    }
    TESTS.iter().try_for_each(|tests| {
        let mut command = nightly("cargo");
        command.args(["miri", "test"]).args(*tests);
        // proptest looks for a file of earlier failures.
        command.env("MIRIFLAGS", "-Zmiri-disable-isolation");
        command.env("PROPTEST_CASES", "2");
        // Flags for the compiler in use are none of an interpreter's.
        command
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        carry_out(command)
    })
}

/// The requirements of the part: none where there is no rustup, which alone has Miri.
pub(crate) fn requirements() -> &'static [Requirement] {
    if succeeds(Command::new("rustup").arg("--version")) {
        &[Requirement::Miri]
    } else {
        &[]
    }
}

/// Whether Miri is there, and the sources of the standard library that it interprets.
pub(crate) fn is_installed() -> bool {
    succeeds(nightly("cargo").args(["miri", "--version"]))
        && sanitizer::has_library_source(nightly("rustc"))
}

/// Installs it beside the compiler in use. Where there is none for this system, or no network, [`run`] says so.
pub(crate) fn install() {
    let components = COMPONENTS.join(",");
    println!("setup: rustup toolchain install {TOOLCHAIN} --component {components}");
    // A nightly that is there already is not brought up to date.
    let add = ["component", "add", "--toolchain", TOOLCHAIN];
    let added = Command::new("rustup").args(add).args(COMPONENTS).status();
    if added.is_ok_and(|status| status.success()) {
        return;
    }
    let install = ["toolchain", "install", TOOLCHAIN, "--profile=minimal"];
    let installed = Command::new("rustup")
        .args(install)
        .args(["--component", &components])
        .status();
    if !installed.is_ok_and(|status| status.success()) {
        println!("setup: rustup could not install Miri");
    }
}

/// A program of the toolchain that has Miri, in the workspace root.
fn nightly(program: &str) -> Command {
    let mut command = Command::new("rustup");
    command
        .current_dir(workspace())
        .args(["run", TOOLCHAIN, program]);
    command
}
