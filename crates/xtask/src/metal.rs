//! Tests of the kernels of `shaders-metal/`: by Metal on a Mac, on Linux as C++ on the processor.

use crate::program::succeeds;
use crate::requirement::Requirement;
use crate::workspace::{cargo_with, run_tests};
use std::process::Command;

/// What Linux lacks.
pub(crate) const REQUIREMENTS: &[Requirement] = if cfg!(target_os = "linux") {
    &[Requirement::Clang]
} else {
    &[]
};

/// Their target, which is no part of the unit tests.
pub(crate) const TESTS: &[&str] = &["--test", "metal"];

/// Versions of clang that Metal's kernels can be compiled by, under the names that distributions give them.
const VERSIONS: std::ops::RangeInclusive<u32> = 16..=22;

/// Whether one of them is there.
pub(crate) fn clang_is_installed() -> bool {
    VERSIONS
        .into_iter()
        .any(|version| succeeds(Command::new(format!("clang++-{version}")).arg("--version")))
}

/// The tests of the GPU backend with these kernels, and those of the shim itself. Elsewhere there is nothing to run them.
pub(crate) fn commands() -> Vec<Command> {
    if !cfg!(any(target_os = "linux", target_os = "macos")) {
        println!("neither Metal nor what stands for it on Linux is here: nothing to run");
        return Vec::new();
    }
    // With the features of the other parts, so that nothing is compiled again.
    let test = |rest: &[&str]| {
        let mut words = vec!["test", "--workspace", "--all-features"];
        words.extend_from_slice(rest);
        cargo_with(&words)
    };
    let mut commands = vec![run_tests(TESTS)];
    if cfg!(target_os = "linux") {
        commands.push(test(&["--lib", "shim_driver::", "--", "--ignored"]));
    }
    commands
}
