//! Runs other programs beside ours on the same files, in turns, and says how they compare: `cargo xtask bench-peers`.
//!
//! Peers are llama.cpp (`llama-bench` and `llama-batched-bench` on the same GGUF files) and candle (its quantized products on the shapes of the
//! model). In the same run the machine's read bandwidth and int8 peak are measured, the roofs over decode and prefill.

mod facts;
mod large;
mod products;
mod programs;
mod reference;
mod tables;
mod targets;

use anyhow::{Context, Result, bail};
use bitnet_benchmarks::figures::{Figures, Key, Test};
use bitnet_benchmarks::machine::{self, with};
use bitnet_benchmarks::places::Places;
use bitnet_benchmarks::report::Report;
use bitnet_benchmarks::synthetic::Recipe;
use clap::{Parser, Subcommand};
use facts::Facts;
use programs::{LARGE, LlamaCpp, Plan, VARIANTS, Variant};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

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

    let mut report = Report::new(
        "peers",
        "BitNet-Rust beside other programs",
        command(arguments),
    );
    report.note(plan.describe());
    report.note_load();
    let mut session = Session {
        plan,
        bitnet: &bitnet,
        llama: (arguments.llama_bench.as_deref())
            .zip(arguments.llama_batched_bench.as_deref())
            .map(|(bench, batched_bench)| LlamaCpp {
                bench,
                batched_bench,
            }),
        figures: Figures::default(),
        facts: Vec::new(),
    };
    report.note(format!("llama.cpp: {}.", arguments.llama_note));
    let paths = session.files(&files, &work)?;
    let rounds = if files.is_empty() { 0 } else { plan.rounds };
    for round in 1..=rounds {
        session.round(round, &paths, &mut report)?;
        if round < rounds {
            // A run takes long, and what it found so far is worth having if it is stopped.
            let mut so_far = report.clone();
            so_far.note(format!("Stopped after round {round} of {rounds}."));
            session.tell(&mut so_far);
            so_far.write(&arguments.report)?;
        }
    }
    if candle {
        products::tell(&own, &plan, &machine::thread_counts(), &mut report)?;
    }
    if rounds > 0 {
        session.tell(&mut report);
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
    words.join(" ")
}

/// The lines of the steps of [`Session::large_turn`] that run many texts at once.
const TOGETHER: &str = ", many texts";

/// What is measured, with what, and what came out so far.
struct Session<'a> {
    plan: Plan,
    bitnet: &'a Path,
    /// Until it fails.
    llama: Option<LlamaCpp<'a>>,
    figures: Figures,
    facts: Vec<Facts>,
}

impl Session<'_> {
    /// Makes the files that are missing and reads what is in each: name, path, and whether llama.cpp knows it.
    fn files(
        &mut self,
        files: &[(Recipe, bool)],
        work: &Path,
    ) -> Result<Vec<(&'static str, PathBuf, bool)>> {
        let mut paths = Vec::new();
        for (recipe, llama) in files {
            let path = recipe.file(self.bitnet, work)?;
            self.facts.push(Facts::read(recipe.name, &path)?);
            paths.push((recipe.name, path, *llama));
        }
        Ok(paths)
    }

    /// With each number of threads the machine, then every program on every file.
    fn round(
        &mut self,
        round: usize,
        paths: &[(&'static str, PathBuf, bool)],
        report: &mut Report,
    ) -> Result<()> {
        for threads in machine::thread_counts() {
            step(
                round,
                self.plan.rounds,
                &format!("the machine, {}", with(threads)),
            );
            let bandwidth = machine::read_bandwidth(threads);
            self.figures
                .add(Key::machine(threads, Test::Bandwidth), bandwidth);
            if let Some(peak) = machine::int8_peak(threads) {
                self.figures
                    .add(Key::machine(threads, Test::Int8Peak), peak.rate);
            }
            for (name, path, llama) in paths {
                self.turn(round, (name, path), threads, *llama, report)?;
            }
            if let Some((name, path, _)) = paths.iter().find(|(name, ..)| *name == LARGE) {
                self.large_turn(round, (name, path), threads, report)?;
            }
        }
        Ok(())
    }

    /// Puts the figures so far into `report`.
    fn tell(&self, report: &mut Report) {
        let (figures, facts, threads) = (&self.figures, &self.facts, machine::thread_counts());
        tables::tell(figures, facts, &self.plan, &threads, report);
        targets::tell(figures, facts, &self.plan, &threads, report);
        large::tell(figures, &self.plan, &threads, report);
        report.tables.push(reference::table());
    }

    /// Every program once on one file.
    fn turn(
        &mut self,
        round: usize,
        (file, path): (&'static str, &Path),
        threads: usize,
        llama_knows: bool,
        report: &mut Report,
    ) -> Result<()> {
        let plan = self.plan;
        let variants = VARIANTS.iter().filter(|it| it.applies(file, threads));
        for variant in variants {
            self.ours(round, variant, (file, threads), "", |bitnet| {
                variant.run(bitnet, path, threads, &plan)
            })?;
        }
        if llama_knows {
            self.theirs(round, (file, threads), "", report, |llama| {
                llama.run(path, threads, &plan)
            });
        }
        Ok(())
    }

    /// Long contexts on one file, and with all threads a long prompt and many texts at once.
    fn large_turn(
        &mut self,
        round: usize,
        (file, path): (&'static str, &Path),
        threads: usize,
        report: &mut Report,
    ) -> Result<()> {
        let (plan, place) = (self.plan, (file, threads));
        let all = machine::thread_counts().last() == Some(&threads);
        let long = format!(", {} tokens deep", plan.depth);
        for variant in large::variants() {
            self.ours(round, variant, place, &long, |bitnet| {
                variant.long(bitnet, path, threads, &plan, all)
            })?;
            if all {
                self.ours(round, variant, place, TOGETHER, |bitnet| {
                    variant.parallel(bitnet, path, threads, &plan)
                })?;
            }
        }
        self.theirs(round, place, &long, report, |llama| {
            llama.long(path, threads, &plan, all)
        });
        if all {
            self.theirs(round, place, TOGETHER, report, |llama| {
                llama.parallel(path, threads, &plan)
            });
        }
        Ok(())
    }

    /// One run of ours, which may not fail.
    fn ours(
        &mut self,
        round: usize,
        variant: &Variant,
        (file, threads): (&'static str, usize),
        how: &str,
        run: impl FnOnce(&Path) -> Result<Vec<(Test, f64)>>,
    ) -> Result<()> {
        let what = format!("{}, {file}, {}{how}", variant.name, with(threads));
        step(round, self.plan.rounds, &what);
        let results = run(self.bitnet).with_context(|| what)?;
        self.figures.add_all(file, variant.name, threads, results);
        Ok(())
    }

    /// One run of llama.cpp, which is named and left out from then on if it fails.
    fn theirs(
        &mut self,
        round: usize,
        (file, threads): (&'static str, usize),
        how: &str,
        report: &mut Report,
        run: impl FnOnce(&LlamaCpp<'_>) -> Result<Vec<(Test, f64)>>,
    ) {
        let Some(llama) = &self.llama else { return };
        let what = format!("{}, {file}, {}{how}", LlamaCpp::NAME, with(threads));
        step(round, self.plan.rounds, &what);
        match run(llama) {
            Ok(results) => self.figures.add_all(file, LlamaCpp::NAME, threads, results),
            Err(error) => {
                let why = format!("llama.cpp is left out from here on: {what}: {error:#}");
                eprintln!("bench-peers: {why}");
                report.note(why);
                self.llama = None;
            }
        }
    }
}

fn step(round: usize, rounds: usize, what: &str) {
    eprintln!("bench-peers: round {round} of {rounds}: {what}");
}
