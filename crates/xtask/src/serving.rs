//! `cargo xtask bench-server`: builds ours and llama-server, and runs the program that serves a model to many users.

use crate::llama_cpp;
use crate::program::{build, finish, measuring};
use anyhow::Result;
use clap::Args;

/// What is handed on to the measuring program.
#[derive(Args)]
pub(crate) struct Measurement {
    /// Short prompts and few users: a look, not a result; its report goes to the target folder
    #[arg(long)]
    quick: bool,
}

/// Measures our server beside llama-server and writes `benches/report/server.md`, unless quick. If llama-server cannot be built,
/// the report says why.
pub(crate) fn run(measurement: &Measurement) -> Result<()> {
    build()?;
    let mut server = measuring("server", measurement.quick)?;
    match llama_cpp::install() {
        Ok(built) => {
            server.arg("--llama-server").arg(&built.server);
            server.arg("--llama-note").arg(&built.description);
        }
        Err(error) => {
            eprintln!("bench-server: llama-server is left out: {error:#}");
            let why = format!("left out, because it could not be built: {error:#}");
            server.arg("--llama-note").arg(why);
        }
    }
    finish(&mut server, "server")
}
