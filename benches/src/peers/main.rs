//! Runs other programs beside ours on the same files, in turns, and says how they compare: `cargo xtask bench-peers`.
//!
//! Peers are llama.cpp (`llama-bench` and `llama-batched-bench` on the same GGUF files) and candle (its quantized products on the shapes of the
//! model). In the same run the machine's read bandwidth and int8 peak are measured, the roofs over decode and prefill.

mod facts;
mod lanes;
mod large;
mod products;
mod programs;
mod reference;
mod session;
mod tables;
mod targets;

use anyhow::{Result, bail};
use bitnet_benchmarks::places::Places;
use bitnet_benchmarks::report::Report;
use bitnet_benchmarks::synthetic::Recipe;
use clap::{Parser, Subcommand};
use lanes::Lanes;
use programs::{LlamaCpp, Plan};
use session::Session;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The model files, and whether llama.cpp knows them: not I2_S, and not Bonsai's own types.
const FILES: [(Recipe, bool); 13] = [
    (Recipe::TQ2_F16, true),
    (Recipe::TQ1_F16, true),
    (Recipe::TQ2_Q6K, true),
    (Recipe::I2S_F16, false),
    (Recipe::I2S_Q6K, false),
    (Recipe::BONSAI2_2B_Q2, true),
    (Recipe::BONSAI2_2B_PQ2, false),
    (Recipe::BONSAI2_2B_PTQ1, false),
    (Recipe::BONSAI2_9B_Q2, true),
    (Recipe::BONSAI2_9B_PQ2, false),
    (Recipe::BONSAI2_9B_PTQ1, false),
    (Recipe::MAPLE, true),
    (Recipe::EMBEDDING, true),
];

/// Measure other programs beside BitNet-Rust and write a report.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,

    /// The folder that the report is written to
    #[arg(long, default_value = "benches/report")]
    report: PathBuf,

    /// The bitnet command to measure; without it, the one beside this program
    #[arg(long)]
    bitnet: Option<PathBuf>,

    /// llama.cpp's llama-bench; without it, llama.cpp is left out
    #[arg(long, value_name = "PROGRAM", requires = "llama_batched_bench")]
    llama_bench: Option<PathBuf>,

    /// llama.cpp's llama-batched-bench
    #[arg(long, value_name = "PROGRAM", requires = "llama_bench")]
    llama_batched_bench: Option<PathBuf>,

    /// What is to be said of llama.cpp: how it was built, or why it is missing
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "no --llama-bench was named"
    )]
    llama_note: String,

    /// The folder for the model files that are measured, which are kept; without it, one beside this program
    #[arg(long)]
    work: Option<PathBuf>,

    /// Turns of every program on every file
    #[arg(long)]
    rounds: Option<usize>,

    /// One turn and shorter tests: a look, not a result
    #[arg(long)]
    quick: bool,

    /// Only the files whose name has this in it (TQ2_0-F16, Q6_K, I2_S, …), or `candle`
    #[arg(long, value_name = "NAME")]
    only: Option<String>,

    /// Files that are measured at the same time, each with as large a share of the cores
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    lanes: u16,

    /// Seconds that llama.cpp has for a test of a file; one that takes longer is ended and counted as if it had just ended then
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

#[derive(Subcommand)]
enum Part {
    /// Time matrix products beside candle's in this process alone and print JSON
    #[command(hide = true)]
    Products(products::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.part {
        Some(Part::Products(part)) => part.run(),
        None => run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let named = (arguments.bitnet.as_deref(), arguments.work.as_deref());
    let Places { own, bitnet, work } = Places::find(named.0, named.1, "models")?;
    let asked = arguments.only.as_deref().unwrap_or("").to_lowercase();
    let files: Vec<(Recipe, bool)> = FILES
        .into_iter()
        .filter(|(recipe, _)| recipe.name.to_lowercase().contains(&asked))
        .collect();
    let candle = "candle".contains(&asked);
    if files.is_empty() && !candle {
        let names: Vec<&str> = FILES.iter().map(|(recipe, _)| recipe.name).collect();
        bail!(
            "--only {asked}: nothing is called that; there are {} and candle",
            names.join(", ")
        );
    }
    let plan = Plan::new(arguments.quick, arguments.rounds);
    let lanes = Lanes::new(usize::from(arguments.lanes))?;

    let mut report = Report::new(
        "peers",
        "BitNet-Rust beside other programs",
        command(arguments),
    );
    report.note(plan.describe());
    report.note_load();
    report.note(format!("llama.cpp: {}.", arguments.llama_note));
    if lanes.count() > 1 {
        report.note(lanes.describe());
    }
    let llama = (arguments.llama_bench.as_deref())
        .zip(arguments.llama_batched_bench.as_deref())
        .map(|(bench, batched_bench)| LlamaCpp {
            bench,
            batched_bench,
            limit: arguments.limit.map(Duration::from_secs),
        });
    let session = Session::new(plan, &bitnet, llama, &lanes, report);
    let paths = session.files(&files, &work)?;
    if !paths.is_empty() {
        session.run(&paths, &arguments.report)?;
    }
    let mut report = session.finish();
    if candle {
        products::tell(&own, &plan, lanes.threads(), &mut report)?;
    }
    println!("{}", report.terminal());
    report.write(&arguments.report)?;
    println!("again: {}", report.command);
    println!("report: {}", arguments.report.join("peers.md").display());
    Ok(())
}

/// The command that does this again.
fn command(arguments: &Arguments) -> String {
    let mut words = vec!["cargo xtask bench-peers".to_owned()];
    if arguments.quick {
        words.push("--quick".to_owned());
    }
    if let Some(rounds) = arguments.rounds {
        words.push(format!("--rounds {rounds}"));
    }
    if let Some(only) = &arguments.only {
        words.push(format!("--only {only}"));
    }
    if arguments.lanes > 1 {
        words.push(format!("--lanes {}", arguments.lanes));
    }
    if let Some(limit) = arguments.limit {
        words.push(format!("--limit {limit}"));
    }
    words.join(" ")
}
