//! `cargo xtask validate`: builds the command and the measuring program alike, for release, and runs the latter.

use crate::suite::{cargo_with, workspace};
use anyhow::{Context, Result, bail};
use clap::Args;
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
    let built = [
        "--release",
        "--package=bitnet-cli",
        "--package=bitnet-benchmarks",
        "--features=bitnet-benchmarks/measure",
    ];
    let mut build = cargo_with(&["build"]);
    finish(build.args(built), "cargo build")?;
    let mut validate = cargo_with(&["run", "--quiet"]);
    validate.args(built).args(["--bin=validate", "--"]);
    validate
        .arg("--report")
        .arg(workspace().join("benches/report"));
    if measurement.quick {
        validate.arg("--quick");
    }
    finish(&mut validate, "validate")
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
