//! `cargo xtask validate`: builds the command and the measuring program alike, for release, and runs the latter.

use crate::program::{build, finish, measuring};
use anyhow::Result;
use clap::Args;

/// What is handed on to the measuring program.
#[derive(Args)]
pub(crate) struct Measurement {
    /// Fewer and shorter measurements: a look, not a result; its report goes to the target folder
    #[arg(long)]
    quick: bool,
}

/// Measures every target and writes `benches/report`, unless quick.
pub(crate) fn run(measurement: &Measurement) -> Result<()> {
    build()?;
    let mut validate = measuring("validate", measurement.quick)?;
    finish(&mut validate, "validate")
}
