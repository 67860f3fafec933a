//! Measures every target of the project in one run and says which are met: `cargo xtask validate`.
//!
//! Prints one table (target, measured, met) and writes it with plots to a folder: `index.html` to look at,
//! `validate.md` and `validate.json` to keep. A target that is not met stays so, with a word of why.

mod kernels;
mod memory;

use anyhow::Result;
use bitnet_benchmarks::comparison::Effort;
use bitnet_benchmarks::machine;
use bitnet_benchmarks::places::Places;
use bitnet_benchmarks::report::Report;
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Measure the project's targets and write a report.
#[derive(Parser)]
struct Arguments {
    /// The folder that the report is written to
    #[arg(long, default_value = "benches/report")]
    report: PathBuf,

    /// The bitnet command to measure; without it, the one beside this program
    #[arg(long)]
    bitnet: Option<PathBuf>,

    /// The folder for the model file that is measured, which is kept; without it, one beside this program
    #[arg(long)]
    work: Option<PathBuf>,

    /// Fewer and shorter measurements: a look, not a result
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let named = (arguments.bitnet.as_deref(), arguments.work.as_deref());
    let Places { bitnet, work, .. } = Places::find(named.0, named.1, "validate-models")?;
    let effort = if arguments.quick {
        Effort {
            rounds: 5,
            turn: Duration::from_millis(1),
        }
    } else {
        Effort {
            rounds: 31,
            turn: Duration::from_millis(5),
        }
    };

    let mut validation = Report::new(
        "validate",
        "Targets and measurements",
        "cargo xtask validate".into(),
    );
    validation.note(format!(
        "{} rounds of about {} ms a turn{}.",
        effort.rounds,
        effort.turn.as_millis(),
        if arguments.quick {
            ": a quick look, not a result"
        } else {
            ""
        },
    ));
    validation.note_load();
    let bandwidth = machine::read_bandwidth(machine::cores());
    validation.note(format!(
        "Memory is read at {:.1} GB/s on all cores (a buffer of {} MiB, the best of {} passes).",
        bandwidth / 1e9,
        machine::BUFFER >> 20,
        machine::PASSES,
    ));
    for missing in bitnet_benchmarks::matmul::missing_backends() {
        validation.note(format!("Not measured: {missing}."));
    }
    step("tensor creation and the pool");
    kernels::creation(&mut validation, effort)?;
    step("elementwise kernels");
    kernels::elementwise(&mut validation, effort)?;
    step("matrix products");
    kernels::matmul(&mut validation, effort, bandwidth)?;
    step("loading and running models");
    memory::models(&mut validation, &bitnet, &work);

    println!("{}", validation.terminal());
    validation.write(&arguments.report)?;
    println!("report: {}", arguments.report.join("index.html").display());
    Ok(())
}

fn step(what: &str) {
    eprintln!("validate: {what}");
}
