//! Where this repository is, and the cargo that works in it.

use crate::program::succeeds;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

/// The cargo that started this program.
pub(crate) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// A cargo command in the workspace root.
pub(crate) fn cargo_with(arguments: &[&str]) -> Command {
    let mut command = Command::new(cargo());
    command.current_dir(workspace()).args(arguments);
    command
}

/// Runs the tests of `targets`, or of all if none is named: by nextest, which ends what hangs and names it, where that is installed.
pub(crate) fn run_tests(targets: &[&str]) -> Command {
    let runs_nextest = succeeds(&mut cargo_with(&["nextest", "--version"]));
    let (runner, more): (&[&str], &[&str]) = match (runs_nextest, targets) {
        (true, _) => (&["nextest", "run"], &["--status-level=slow"]),
        // Without documentation, which has a part of its own.
        (false, []) => (&["test"], &["--all-targets"]),
        (false, _) => (&["test"], &[]),
    };
    let mut command = cargo_with(runner);
    command.args(["--workspace", "--all-features", "--no-fail-fast"]);
    command.args(targets).args(more);
    command
}

/// The workspace root: where cargo finds this package now, or else where it was built.
pub(crate) fn workspace() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.join("../..")
}
