//! The programs of this workspace that a chore drives: built together, found, and run.

use crate::suite::{cargo_with, workspace};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the `bitnet` command and the measuring programs alike, in one go, so that what they share is compiled once.
pub(crate) fn build() -> Result<()> {
    let mut build = cargo_with(&["build", "--release", "--features=measure"]);
    build.args(["--package=bitnet-cli", "--package=bitnet-benchmarks"]);
    finish(&mut build, "cargo build")
}

/// A measuring program, told where to write its report: in the release folder beside the one that this program is in.
pub(crate) fn measuring(name: &str) -> Result<Command> {
    let mut command = Command::new(target_folder()?.join("release").join(file_name(name)));
    command.arg("--report").arg(report());
    Ok(command)
}

/// The folder that cargo builds into: the one that the folder of this program is in.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program")?;
    own.parent()
        .and_then(Path::parent)
        .map(Path::to_owned)
        .with_context(|| format!("{} is in no target folder", own.display()))
}

/// How the file of a program is called on this system.
pub(crate) fn file_name(program: &str) -> String {
    format!("{program}{}", std::env::consts::EXE_SUFFIX)
}

fn report() -> PathBuf {
    workspace().join("benches/report")
}

/// Runs `command`, which errors call `name`, to its end.
pub(crate) fn finish(command: &mut Command, name: &str) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {name} ({})", command.get_program().display()))?;
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    Ok(())
}
