//! How close every kernel comes to the machine's limits on the shapes of BitNet b1.58 2B-4T: `cargo xtask kernels`.
//!
//! Every instruction set runs on one thread, the best also on all cores, in turns. Their limits are measured in the same
//! process, before, between and after; the highest count.

use anyhow::Result;
use bitnet_benchmarks::comparison::Effort;
use bitnet_benchmarks::layers::{self, Kernel, PROMPT, Stage};
use bitnet_benchmarks::machine::{self, Roofs, with};
use bitnet_benchmarks::report::{Chart, Report, Table};
use bitnet_core::cpu::Isa;
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Measure every kernel against the machine's limits and write a report.
#[derive(Parser)]
struct Arguments {
    /// The folder that the report is written to
    #[arg(long, default_value = "benches/report")]
    report: PathBuf,

    /// Fewer rounds: a look, not a result
    #[arg(long)]
    quick: bool,
}

/// Who runs: the kernels of an instruction set, on some threads, below these roofs.
struct Runner {
    isa: Isa,
    threads: usize,
    roofs: Roofs,
}

impl Runner {
    fn label(&self) -> String {
        layers::label(self.isa, self.threads)
    }

    /// The best kernels: those that the chart shows.
    fn is_best(&self) -> bool {
        self.isa == Isa::best()
    }
}

/// Nanoseconds of one kernel for each runner that has it.
type Row = (Kernel, Vec<Option<f64>>);

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
    let effort = Effort {
        rounds: if arguments.quick { 3 } else { 11 },
        turn: Duration::from_millis(5),
    };
    let mut command = "cargo xtask kernels".to_owned();
    if arguments.quick {
        command.push_str(" --quick");
    }
    let mut report = Report::new("kernels", "Kernels against the machine's limits", command);
    report.note(format!(
        "Medians of {} turns. Weights are read from memory, not from a cache: copies of a matrix are multiplied in turns. \
         Percent: the least time that the machine needs to read the packed weights, or to make the int8 products with that \
         instruction set if this takes longer, over the time measured.",
        effort.rounds,
    ));
    report.note_load();
    let mut runners = runners();
    let mut stages = Vec::new();
    for stage in Stage::ALL {
        raise(&mut runners);
        stages.push((stage, measure(stage, &runners, effort)?));
    }
    raise(&mut runners);
    report.tables.push(limits(&runners));
    for (stage, rows) in &stages {
        report.tables.push(table(*stage, rows, &runners)?);
        let chart = chart(*stage, rows, &runners)?;
        if !chart.bars.is_empty() {
            report.charts.push(chart);
        }
    }
    println!("{}", report.terminal());
    report.write(&arguments.report)?;
    println!("again: {}", report.command);
    println!("report: {}", arguments.report.join("kernels.md").display());
    Ok(())
}

/// Every instruction set on one thread, the best first, then the best on all cores; their limits not yet measured.
fn runners() -> Vec<Runner> {
    let sets = Isa::ALL.into_iter().rev().filter(|isa| isa.is_available());
    let single = sets.map(|isa| (isa, 1));
    let more = more().into_iter().map(|threads| (Isa::best(), threads));
    let runners = single.chain(more).map(|(isa, threads)| Runner {
        isa,
        threads,
        roofs: Roofs::default(),
    });
    runners.collect()
}

/// Measures the limits, and raises those that were too low.
fn raise(runners: &mut [Runner]) {
    eprintln!("kernels: the machine's limits");
    for threads in machine::thread_counts() {
        let bandwidth = machine::read_bandwidth(threads);
        for runner in runners.iter_mut().filter(|it| it.threads == threads) {
            let peak = machine::int8_peak_of(runner.isa, threads);
            runner.roofs = runner.roofs.or_higher(Roofs {
                bandwidth,
                int8: peak.map(|peak| peak.rate),
            });
        }
    }
}

/// The numbers of threads that the best kernels run on besides one.
fn more() -> Vec<usize> {
    let counts = machine::thread_counts().into_iter();
    counts.filter(|threads| *threads > 1).collect()
}

fn measure(stage: Stage, runners: &[Runner], effort: Effort) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for kernel in stage.kernels() {
        eprintln!("kernels: {}, {}", stage.name(), kernel.name());
        let comparison = kernel.comparison(layers::Extent::Whole, &more())?;
        let times = comparison.interleave(effort)?;
        let of = |runner: &Runner| {
            let label = runner.label();
            let times = times.iter().find(|times| times.label == label);
            times.map(|times| times.median())
        };
        rows.push((kernel, runners.iter().map(of).collect()));
    }
    Ok(rows)
}

/// The share of the limit in percent, where that is known.
fn share(kernel: &Kernel, roofs: Roofs, nanoseconds: f64) -> Result<Option<f64>> {
    let least = roofs.least(kernel.work()?);
    Ok(least.map(|seconds| 100.0 * seconds * 1e9 / nanoseconds))
}

/// What the percentages are of.
fn limits(runners: &[Runner]) -> Table {
    let mut table = Table::new(
        "The machine's limits",
        "Memory read sequentially, in the fastest of a few ways; int8 multiply-accumulates out of registers.",
        &["kernels", "threads", "read GB/s", "int8 GMAC/s"],
    );
    for runner in runners {
        let int8 = runner.roofs.int8;
        table.row([
            runner.isa.to_string(),
            runner.threads.to_string(),
            format!("{:.1}", runner.roofs.bandwidth / 1e9),
            int8.map_or("–".to_owned(), |peak| format!("{:.0}", peak / 1e9)),
        ]);
    }
    table
}

fn table(stage: Stage, rows: &[Row], runners: &[Runner]) -> Result<Table> {
    let (title, note) = match stage {
        Stage::Decode => (
            "Decode: one token".to_owned(),
            "GB/s of packed weights, and the share of the limit.",
        ),
        Stage::Head => (
            "Head: the likeliest token".to_owned(),
            "GB/s of the head, or of its int8 copy where it is screened, and the share of the read bandwidth.",
        ),
        Stage::Prefill => (
            format!("Prefill: {PROMPT} tokens"),
            "int8 multiply-accumulates in 10⁹ per second, and the share of the limit.",
        ),
    };
    let labels: Vec<String> = runners.iter().map(Runner::label).collect();
    let head: Vec<&str> = ["format, rows x columns", "in the model"]
        .into_iter()
        .chain(labels.iter().map(String::as_str))
        .collect();
    let mut table = Table::new(title, note, &head);
    for (kernel, times) in rows {
        let work = kernel.work()?;
        let amount = match stage {
            Stage::Prefill => work.macs,
            _ => work.bytes,
        };
        let mut cells = vec![kernel.name(), kernel.what.to_owned()];
        for (runner, nanoseconds) in runners.iter().zip(times) {
            cells.push(match nanoseconds {
                None => "–".to_owned(),
                Some(nanoseconds) => {
                    let rate = amount as f64 / nanoseconds;
                    match share(kernel, runner.roofs, *nanoseconds)? {
                        Some(share) => format!("{rate:.1} ({share:.0} %)"),
                        None => format!("{rate:.1}"),
                    }
                }
            });
        }
        table.row(cells);
    }
    Ok(table)
}

fn chart(stage: Stage, rows: &[Row], runners: &[Runner]) -> Result<Chart> {
    // The first is the one that a page shows.
    let (file, title, unit) = match stage {
        Stage::Decode => ("kernels", "One token", "% of the limit"),
        Stage::Head => ("kernels-head", "The head", "% of the read bandwidth"),
        Stage::Prefill => ("kernels-prefill", "A prompt", "% of the limit"),
    };
    let mut chart = Chart::new(file, title, unit);
    chart.line = Some((100.0, "limit".into()));
    for (kernel, times) in rows {
        for (runner, nanoseconds) in runners.iter().zip(times) {
            if let Some(nanoseconds) = nanoseconds.filter(|_| runner.is_best()) {
                let series = format!("{}, {}", runner.isa, with(runner.threads));
                if let Some(share) = share(kernel, runner.roofs, nanoseconds)? {
                    chart.bar(&kernel.name(), &series, share);
                }
            }
        }
    }
    Ok(chart)
}
