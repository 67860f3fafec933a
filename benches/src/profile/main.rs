//! Where the time of decode and prefill goes, operation by operation: `cargo xtask profile`.
//!
//! The model runs on a CPU that keeps time ([`Clock`]); the rest is time that no operation accounts for: the transformer
//! between them, and handing work to the threads.

use anyhow::{Result, bail};
use bitnet::file::ModelFile;
use bitnet::{LogitsFor, Model, ModelOptions, Session};
use bitnet_benchmarks::comparison::median;
use bitnet_benchmarks::machine::{self, with};
use bitnet_benchmarks::places::Places;
use bitnet_benchmarks::report::{Chart, Report, Table, Verdict};
use bitnet_benchmarks::synthetic::Recipe;
use bitnet_core::cpu::{Clock, CpuBackend, Part};
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tokens of a prompt that run in one batch, as generating does.
const BATCH: usize = 256;

/// The synthetic files.
const RECIPES: [Recipe; 5] = [
    Recipe::I2S_F16,
    Recipe::I2S_Q6K,
    Recipe::TQ1_F16,
    Recipe::BONSAI2_2B_PQ2,
    Recipe::BONSAI2_2B_PTQ1,
];

/// The most that delta nets and rotations may cost in prefill, in hybrid models: shares of the time.
const MOST: [(Part, f64); 2] = [(Part::Rotation, 0.06), (Part::Recurrence, 0.10)];

/// Profile decode and prefill and write a report.
#[derive(Parser)]
struct Arguments {
    /// The folder that the report is written to
    #[arg(long, default_value = "benches/report")]
    report: PathBuf,

    /// The model file; without it, synthetic ones in the shapes of BitNet b1.58 2B-4T and Ternary-Bonsai-2 2B
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// Only the synthetic files whose name has this in it: I2_S, TQ1_0, Bonsai2
    #[arg(long, value_name = "NAME", conflicts_with = "model")]
    only: Option<String>,

    /// The bitnet command that writes the synthetic files; without it, the one beside this program
    #[arg(long)]
    bitnet: Option<PathBuf>,

    /// The folder for the synthetic files, which are kept; without it, one beside this program
    #[arg(long)]
    work: Option<PathBuf>,

    /// Fewer tokens: a look, not a result
    #[arg(long)]
    quick: bool,
}

/// How much is run.
#[derive(Clone, Copy)]
struct Plan {
    rounds: usize,
    prefill: usize,
    decode: usize,
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
    let plan = if arguments.quick {
        Plan {
            rounds: 1,
            prefill: 32,
            decode: 8,
        }
    } else {
        Plan {
            rounds: 3,
            prefill: 512,
            decode: 64,
        }
    };
    let mut command = "cargo xtask profile".to_owned();
    if arguments.quick {
        command.push_str(" --quick");
    }
    if let Some(only) = &arguments.only {
        command.push_str(&format!(" --only {only}"));
    }
    if let Some(model) = &arguments.model {
        command.push_str(&format!(" --model {}", model.display()));
    }
    let mut report = Report::new("profile", "Where the time goes", command);
    report.note(format!(
        "Milliseconds of one decoded token, and of a whole prompt of {} tokens: medians of {} round{}. Each operation ends \
         before the next begins, so times add up; the rest is what happens between them.",
        plan.prefill,
        plan.rounds,
        if plan.rounds == 1 { "" } else { "s: one run each, all alike" },
    ));
    report.note_load();
    for (name, path) in files(arguments)? {
        let file = ModelFile::open(&path)?;
        for threads in machine::thread_counts() {
            eprintln!("profile: {name}, {}", with(threads));
            profile(&file, &name, threads, plan, &mut report)?;
        }
    }
    println!("{}", report.terminal());
    report.write(&arguments.report)?;
    println!("again: {}", report.command);
    println!("report: {}", arguments.report.join("profile.md").display());
    Ok(())
}

/// The files to profile, by name.
fn files(arguments: &Arguments) -> Result<Vec<(String, PathBuf)>> {
    if let Some(path) = &arguments.model {
        let name = path.file_name().unwrap_or(path.as_os_str());
        return Ok(vec![(name.display().to_string(), path.clone())]);
    }
    let named = (arguments.bitnet.as_deref(), arguments.work.as_deref());
    let Places { bitnet, work, .. } = Places::find(named.0, named.1, "models")?;
    let only = arguments.only.as_deref().unwrap_or_default().to_lowercase();
    let wanted: Vec<Recipe> = RECIPES
        .into_iter()
        .filter(|recipe| recipe.name.to_lowercase().contains(&only))
        .collect();
    if wanted.is_empty() {
        bail!("no file has {only:?} in its name");
    }
    wanted
        .into_iter()
        .map(|recipe| Ok((recipe.name.to_owned(), recipe.file(&bitnet, &work)?)))
        .collect()
}

/// Seconds of one run: of each part, then of the rest.
type Seconds = [f64; Part::ALL.len() + 1];

fn profile(
    file: &ModelFile,
    name: &str,
    threads: usize,
    plan: Plan,
    report: &mut Report,
) -> Result<()> {
    let clock = Arc::new(Clock::default());
    let backend = CpuBackend::new(Some(threads), None)?.with_clock(Arc::clone(&clock));
    let model = Model::from_file_on(file, backend, &ModelOptions::default(), |_, _| ())?;
    let mut session = model.session()?;
    let tests = [
        ("decode", plan.decode, 1, plan.decode as f64),
        ("prefill", plan.prefill, BATCH, 1.0),
    ];
    let title = format!("{name}, {} ({})", with(threads), model.device());
    let mut table = Table::new(
        title,
        "",
        &["operation", "decode ms", "share", "prefill ms", "share"],
    );
    let mut columns = Vec::new();
    for (test, tokens, batch, parts) in tests {
        // Once for warming up.
        let mut rounds = Vec::new();
        for round in 0..=plan.rounds {
            let seconds = once(&mut session, &clock, tokens, batch)?;
            if round > 0 {
                rounds.push(seconds);
            }
        }
        let medians: Seconds = std::array::from_fn(|part| {
            let values: Vec<f64> = rounds.iter().map(|round| round[part] / parts).collect();
            median(&values)
        });
        columns.push((test, medians));
    }
    let names = Part::ALL.iter().map(|part| part.name()).chain(["rest"]);
    for (part, name) in names.enumerate() {
        let mut cells = vec![name.to_owned()];
        for (_, medians) in &columns {
            let share = medians[part] / medians.iter().sum::<f64>();
            cells.push(format!("{:.3}", 1e3 * medians[part]));
            cells.push(format!("{:.1} %", 100.0 * share));
        }
        table.row(cells);
    }
    let mut all = vec!["all".to_owned()];
    for (_, medians) in &columns {
        all.extend([
            format!("{:.3}", 1e3 * medians.iter().sum::<f64>()),
            "100.0 %".to_owned(),
        ]);
    }
    table.row(all);
    report.tables.push(table);
    if model.architecture().hybrid.is_some() {
        for (test, medians) in columns.iter().filter(|(test, _)| *test == "prefill") {
            judge(test, medians, &format!("{name}, {}", with(threads)), report);
        }
    }
    draw(&columns, &format!("{name}, {threads} thr"), report);
    Ok(())
}

/// Says whether what hybrid models have beside others costs as little as it is to.
fn judge(test: &str, medians: &Seconds, of: &str, report: &mut Report) {
    let total: f64 = medians.iter().sum();
    for (part, most) in MOST {
        let seconds = Part::ALL.iter().zip(medians).find(|(own, _)| **own == part);
        let share = seconds.map_or(0.0, |(_, seconds)| seconds / total);
        report.target(
            format!("{} of {test}, {of}", part.name()),
            format!("≤ {:.0} % of the time", 100.0 * most),
            format!("{:.1} %", 100.0 * share),
            Verdict::of(share <= most),
            "",
        );
    }
}

/// Adds the shares to the chart of each test.
fn draw(columns: &[(&str, Seconds)], series: &str, report: &mut Report) {
    for (test, medians) in columns {
        // The first is the one that a page shows.
        let file = match *test {
            "decode" => "profile".to_owned(),
            other => format!("profile-{other}"),
        };
        let index = report.charts.iter().position(|chart| chart.name == file);
        let index = index.unwrap_or_else(|| {
            let title = format!("Where the time of {test} goes");
            report
                .charts
                .push(Chart::new(&file, &title, "% of the time"));
            report.charts.len() - 1
        });
        let names = Part::ALL.iter().map(|part| part.name()).chain(["rest"]);
        let total: f64 = medians.iter().sum();
        for (name, seconds) in names.zip(medians) {
            report.charts[index].bar(name, series, 100.0 * seconds / total);
        }
    }
}

/// One run from an empty context: prefill in batches, decode one by one, logits of what a generation needs.
fn once(session: &mut Session, clock: &Clock, tokens: usize, batch: usize) -> Result<Seconds> {
    session.reset();
    let vocabulary = session.model().vocabulary().max(1);
    let ids: Vec<u32> = (0..tokens)
        .map(|index| (index * 7919 % vocabulary) as u32)
        .collect();
    clock.reset();
    let begin = Instant::now();
    for piece in ids.chunks(batch) {
        let done = session.tokens().len() + piece.len() == tokens;
        let want = if batch == 1 || done {
            LogitsFor::Last
        } else {
            LogitsFor::Nothing
        };
        session.forward(piece, want)?;
    }
    let total = begin.elapsed();
    let spent = Part::ALL.map(|part| clock.spent(part));
    let rest = total.saturating_sub(spent.iter().sum::<Duration>());
    let all = spent.iter().chain([&rest]);
    let mut seconds = [0.0; Part::ALL.len() + 1];
    for (seconds, spent) in seconds.iter_mut().zip(all) {
        *seconds = spent.as_secs_f64();
    }
    Ok(seconds)
}
