//! `cargo xtask bench-peers`: builds ours and the peers, and runs the program that measures them in turns.

use crate::llama_cpp;
use crate::program::{build, finish, measuring};
use anyhow::Result;
use clap::Args;

/// What is handed on to the measuring program.
#[derive(Args)]
pub(crate) struct Measurement {
    /// Turns of every program on every file
    #[arg(long)]
    rounds: Option<usize>,

    /// One turn and shorter tests: a look, not a result; its report goes to the target folder
    #[arg(long)]
    quick: bool,

    /// Only the files whose name has this in it (TQ2_0-F16, Q6_K, I2_S, …), or `candle`
    #[arg(long, value_name = "NAME")]
    only: Option<String>,

    /// Files that are measured at the same time, each with as large a share of the cores
    #[arg(long, value_name = "N")]
    lanes: Option<u16>,

    /// Seconds that llama.cpp has for a test of a file; one that takes longer is counted as if it had just ended then
    #[arg(long, value_name = "SECONDS")]
    limit: Option<u64>,
}

/// Measures ours beside the peers and writes `benches/report`, unless quick. A peer that cannot be built is named there with the reason.
pub(crate) fn run(measurement: &Measurement) -> Result<()> {
    build()?;
    let mut peers = measuring("peers", measurement.quick)?;
    let wants_llama = measurement
        .only
        .as_deref()
        .is_none_or(|only| !"candle".contains(&only.to_lowercase()));
    if wants_llama {
        match llama_cpp::install() {
            Ok(built) => {
                peers.arg("--llama-bench").arg(&built.bench);
                peers.arg("--llama-batched-bench").arg(built.batched_bench);
                peers.arg("--llama-note").arg(&built.description);
            }
            Err(error) => {
                eprintln!("bench-peers: llama.cpp is left out: {error:#}");
                let why = format!("left out, because it could not be built: {error:#}");
                peers.arg("--llama-note").arg(why);
            }
        }
    }
    if let Some(rounds) = measurement.rounds {
        peers.arg("--rounds").arg(rounds.to_string());
    }
    if let Some(only) = &measurement.only {
        peers.arg("--only").arg(only);
    }
    if let Some(lanes) = measurement.lanes {
        peers.arg("--lanes").arg(lanes.to_string());
    }
    if let Some(limit) = measurement.limit {
        peers.arg("--limit").arg(limit.to_string());
    }
    finish(&mut peers, "peers")
}
