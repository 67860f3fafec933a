//! `cargo xtask validate`: builds the command and the measuring program alike, for release, and runs the latter.

use crate::suite::{cargo_with, workspace};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is handed on to the measuring program.
#[derive(Args)]
pub(crate) struct Measurement {
    /// Fewer and shorter measurements: a look, not a result
    #[arg(long)]
    quick: bool,
}

/// Measures every target and writes `benches/report`.
pub(crate) fn run(measurement: &Measurement) -> Result<()> {
    // One build of both, so that what they share is compiled once.
    let mut build = cargo_with(&["build", "--release", "--features=measure"]);
    build.args(["--package=bitnet-cli", "--package=bitnet-benchmarks"]);
    finish(&mut build, "cargo build")?;
    let mut validate = Command::new(program()?);
    validate
        .arg("--report")
        .arg(workspace().join("benches/report"));
    if measurement.quick {
        validate.arg("--quick");
    }
    finish(&mut validate, "validate")
}

/// The measuring program: in the release folder beside the one that this program is in.
fn program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program")?;
    let target = own
        .parent()
        .and_then(Path::parent)
        .with_context(|| format!("{} is in no target folder", own.display()))?;
    let name = format!("validate{}", std::env::consts::EXE_SUFFIX);
    Ok(target.join("release").join(name))
}

fn finish(command: &mut Command, name: &str) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    Ok(())
}
