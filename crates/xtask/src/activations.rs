//! `cargo xtask activations`: what the rounding of activations costs, and what a rotation makes of it.

use crate::program::{build, finish, measuring};
use anyhow::Result;
use clap::Args;

/// What is handed on to the measuring program.
#[derive(Args)]
pub(crate) struct Measurement {
    /// Fewer tokens: a look, not a result; its report goes to the target folder
    #[arg(long)]
    quick: bool,
}

/// Judges every rounding and writes `benches/report`, unless quick.
pub(crate) fn run(measurement: &Measurement) -> Result<()> {
    build()?;
    finish(
        &mut measuring("activations", measurement.quick)?,
        "activations",
    )
}
