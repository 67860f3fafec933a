//! `cargo xtask kernels`: how close every kernel comes to the machine's limits on the shapes of a real model.

use crate::program::{build, finish, measuring};
use anyhow::Result;
use clap::Args;

/// What is handed on to the measuring program.
#[derive(Args)]
pub(crate) struct Measurement {
    /// Fewer rounds: a look, not a result; its report goes to the target folder
    #[arg(long)]
    quick: bool,
}

/// Measures every kernel and writes `benches/report`, unless quick.
pub(crate) fn run(measurement: &Measurement) -> Result<()> {
    build()?;
    let mut roofline = measuring("roofline", measurement.quick)?;
    finish(&mut roofline, "roofline")
}
