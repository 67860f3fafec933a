//! `cargo xtask bench-gpu`: builds ours with the GPU backend, and oxbitnet beside it, and runs the program that measures
//! them in turns.

use crate::program::{file_name, finish, measuring, target_folder};
use crate::workspace::{cargo, cargo_with, workspace};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;
use std::process::Command;

/// What is handed on to the measuring program.
#[derive(Args)]
pub(crate) struct Measurement {
    /// Turns of every program on every file
    #[arg(long, default_value_t = 3)]
    rounds: usize,

    /// The adapter, as `bitnet devices` names it; without it, the first that is no software
    #[arg(long)]
    adapter: Option<String>,

    /// Build what is measured, for a machine that has the GPU but no compiler, and say what to run there
    #[arg(long)]
    build_only: bool,
}

/// Measures the GPU backend and writes `benches/report/gpu.md`. If oxbitnet cannot be built, the report says why.
pub(crate) fn run(measurement: &Measurement) -> Result<()> {
    let mut build = cargo_with(&["build", "--release", "--features=measure,wgpu"]);
    build.args(["--package=bitnet-cli", "--package=bitnet-benchmarks"]);
    finish(&mut build, "cargo build")?;
    let mut gpu = measuring("gpu", false)?;
    match oxbitnet() {
        Ok(program) => {
            gpu.arg("--oxbitnet").arg(program);
            gpu.args([
                "--oxbitnet-note",
                "version 0.5.2 from crates.io, built for release",
            ]);
        }
        Err(error) => {
            eprintln!("bench-gpu: oxbitnet is left out: {error:#}");
            let why = format!("left out, because it could not be built: {error:#}");
            gpu.arg("--oxbitnet-note").arg(why);
        }
    }
    gpu.args(["--rounds", &measurement.rounds.to_string()]);
    if let Some(adapter) = &measurement.adapter {
        gpu.args(["--adapter", adapter]);
    }
    if measurement.build_only {
        println!("carry the programs of this command there and run it: {gpu:?}");
        return Ok(());
    }
    finish(&mut gpu, "gpu")
}

/// The peer's program, built in a folder beside ours.
fn oxbitnet() -> Result<PathBuf> {
    let folder = target_folder()?.join("peers");
    let manifest = workspace().join("benches/peers/oxbitnet/Cargo.toml");
    let mut build = Command::new(cargo());
    build.args(["build", "--release", "--manifest-path"]);
    build.arg(manifest).env("CARGO_TARGET_DIR", &folder);
    finish(&mut build, "cargo build of oxbitnet")?;
    Ok(folder.join("release").join(file_name("oxbitnet-bench")))
}
