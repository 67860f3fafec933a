//! Matrix products of the model's shapes: ternary weights times int8 here, quantized weights times f32 rows in candle.
//!
//! candle has no ternary type; Q4_0 and Q8_0 are what it offers. Both sides begin with f32 rows and quantize them. candle
//! fixes its number of threads when it first computes, so every number of threads gets a process of its own.

use crate::programs::Plan;
use anyhow::{Context, Result};
use bitnet_benchmarks::comparison::Effort;
use bitnet_benchmarks::machine::with;
use bitnet_benchmarks::matmul::{self, Product};
use bitnet_benchmarks::process;
use bitnet_benchmarks::report::{Chart, Report, Table};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Columns and rows of the projections of 2B-4T, and what they are.
const SHAPES: [(usize, usize, &str); 4] = [
    (2560, 2560, "query, output"),
    (2560, 640, "key, value"),
    (2560, 6912, "gate, up"),
    (6912, 2560, "down"),
];

/// Tells candle how many threads to use.
const THREADS: &str = "CANDLE_NUM_THREADS";

/// What the process for one number of threads is told.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Threads on our side; candle reads CANDLE_NUM_THREADS
    #[arg(long)]
    threads: usize,

    /// Rounds
    #[arg(long)]
    rounds: usize,

    /// Tokens of the larger products
    #[arg(long)]
    tokens: usize,
}

/// Median times of one product in nanoseconds, and candle's time over ours.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    threads: usize,
    tokens: usize,
    what: String,
    cols: usize,
    rows: usize,
    ours: f64,
    /// Label, nanoseconds, times that ours is faster.
    candle: Vec<(String, f64, f64)>,
}

impl Arguments {
    /// Times all shapes and prints the rows as JSON.
    pub(crate) fn run(&self) -> Result<()> {
        let effort = Effort {
            rounds: self.rounds,
            turn: Duration::from_millis(20),
        };
        let mut all = Vec::new();
        for tokens in [1, self.tokens] {
            for (cols, rows, what) in SHAPES {
                let product = Product { tokens, cols, rows };
                let times = matmul::quantized(product, self.threads).interleave(effort)?;
                let (ours, candle) = times.split_first().context("nothing was measured")?;
                all.push(Row {
                    threads: self.threads,
                    tokens,
                    what: what.to_owned(),
                    cols,
                    rows,
                    ours: ours.median(),
                    candle: candle
                        .iter()
                        .map(|theirs| {
                            let label = theirs.label.clone();
                            (label, theirs.median(), ours.faster_than(theirs))
                        })
                        .collect(),
                });
            }
        }
        println!("{}", serde_json::to_string(&all)?);
        Ok(())
    }
}

/// Writes the products into the report. Where candle cannot be measured the report says why.
///
/// # Errors
/// If our side fails.
pub(crate) fn tell(own: &Path, plan: &Plan, threads: &[usize], report: &mut Report) -> Result<()> {
    let mut rows = Vec::new();
    for threads in threads {
        eprintln!(
            "bench-peers: matrix products beside candle's, {}",
            with(*threads)
        );
        let mut command = Command::new(own);
        let tokens = plan.longest().to_string();
        let rounds = (plan.rounds * 3).to_string();
        command.args(["products", "--threads", &threads.to_string()]);
        command.args(["--rounds", &rounds, "--tokens", &tokens]);
        command.env(THREADS, threads.to_string());
        let finished = process::run(&mut command, "the process that measures products")?;
        let more: Vec<Row> = serde_json::from_slice(&finished.stdout)
            .context("the process that measures products printed something else")?;
        rows.extend(more);
    }
    let mut table = Table::new(
        "Matrix products of 2B-4T beside candle's",
        "Microseconds; f32 rows are quantized on both sides. × is candle's time over ours. Our weights have 2 bits, those of \
         candle's smallest type, Q4_0, 4.5.",
        &[
            "product",
            "tokens",
            "threads",
            "bitnet",
            "candle Q4_0",
            "×",
            "candle Q8_0",
            "×",
        ],
    );
    let mut chart = Chart::new(
        "peers-candle",
        "Matrix products against candle's",
        "× faster",
    );
    chart.line = Some((1.0, "candle".into()));
    for row in rows {
        let name = format!("{}×{} ({})", row.cols, row.rows, row.what);
        let place = format!("{}, {} tok, {} thr", row.what, row.tokens, row.threads);
        let mut cells = vec![name, row.tokens.to_string(), row.threads.to_string()];
        cells.push(format!("{:.1}", row.ours / 1e3));
        for (label, nanoseconds, ratio) in &row.candle {
            cells.push(format!("{:.1}", nanoseconds / 1e3));
            cells.push(format!("{ratio:.2}×"));
            chart.bar(&place, &format!("against {label}"), *ratio);
        }
        table.row(cells);
    }
    report.tables.push(table);
    report.charts.push(chart);
    Ok(())
}
