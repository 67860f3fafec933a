//! Where this repository is, and the cargo that works in it.

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

/// The workspace root: where cargo finds this package now, or else where it was built.
pub(crate) fn workspace() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.join("../..")
}
