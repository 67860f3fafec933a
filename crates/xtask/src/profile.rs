//! `cargo xtask profile`: where the time of decode and prefill goes, operation by operation.

use crate::program::{build, finish, measuring};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// What is handed on to the measuring program.
#[derive(Args)]
pub(crate) struct Measurement {
    /// The model file; without it, synthetic ones in the shapes of BitNet b1.58 2B-4T and Ternary-Bonsai-2 2B
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// Only the synthetic files whose name has this in it: I2_S, TQ1_0, Bonsai2
    #[arg(long, value_name = "NAME", conflicts_with = "model")]
    only: Option<String>,

    /// Fewer tokens: a look, not a result; its report goes to the target folder
    #[arg(long)]
    quick: bool,
}

/// Profiles decode and prefill and writes `benches/report`, unless quick.
pub(crate) fn run(measurement: &Measurement) -> Result<()> {
    build()?;
    let mut profile = measuring("profile", measurement.quick)?;
    if let Some(model) = &measurement.model {
        profile.arg("--model").arg(model);
    }
    if let Some(only) = &measurement.only {
        profile.arg("--only").arg(only);
    }
    finish(&mut profile, "profile")
}
