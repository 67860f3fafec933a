//! Runs a model of the shape of BitNet b1.58 2B-4T on the GPU, beside oxbitnet on the same file, in turns:
//! `cargo xtask bench-gpu`.

mod kernels;
mod targets;

use anyhow::Result;
use bitnet_benchmarks::figures::{Figures, Key, Test};
use bitnet_benchmarks::outputs::{parse_bitnet, parse_llama};
use bitnet_benchmarks::places::Places;
use bitnet_benchmarks::process;
use bitnet_benchmarks::report::{Chart, Report, Table};
use bitnet_benchmarks::synthetic::Recipe;
use clap::Parser;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What reports call ours, and theirs.
const OURS: &str = "bitnet";
const OXBITNET: &str = "oxbitnet";

/// The files, and whether oxbitnet reads them: it knows I2_S with f16 tables.
const FILES: [(Recipe, bool); 2] = [(Recipe::I2S_F16, true), (Recipe::I2S_Q6K, false)];

const PROMPTS: [usize; 2] = [128, 512];
/// From an empty context.
const LONG: usize = 512;
/// Behind [`DEPTH`] tokens, and of the peer.
const SHORT: usize = 64;
const DEPTH: usize = 2048;
/// Texts that are written together, each behind a short prompt, and tokens of each.
const TEXTS: [usize; 3] = [8, 32, 64];
const TEXT_PROMPT: usize = 32;
const TEXT: usize = 128;

/// Measure the GPU backend and write a report.
#[derive(Parser)]
struct Arguments {
    /// The folder that the report is written to
    #[arg(long, default_value = "benches/report")]
    report: PathBuf,

    /// The bitnet command to measure, built with the feature wgpu; without it, the one beside this program
    #[arg(long)]
    bitnet: Option<PathBuf>,

    /// The program that runs oxbitnet; without it, oxbitnet is left out
    #[arg(long, value_name = "PROGRAM")]
    oxbitnet: Option<PathBuf>,

    /// What is to be said of oxbitnet: how it was built, or why it is missing
    #[arg(long, value_name = "TEXT", default_value = "no --oxbitnet was named")]
    oxbitnet_note: String,

    /// The adapter, as `bitnet devices` names it; without it, the first that is no software
    #[arg(long)]
    adapter: Option<String>,

    /// The folder for the model files that are measured, which are kept; without it, one beside this program
    #[arg(long)]
    work: Option<PathBuf>,

    /// Turns of each program on each file
    #[arg(long, default_value_t = 3)]
    rounds: usize,

    /// Only print what the kernels take on the first file, and write no report
    #[arg(long)]
    only_kernels: bool,
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
    let Places { bitnet, work, .. } = Places::find(named.0, named.1, "models")?;
    let rounds = arguments.rounds.max(1);
    let mut report = Report::new(
        "gpu",
        "BitNet-Rust on a GPU",
        format!("cargo xtask bench-gpu --rounds {rounds}"),
    );
    report.note(format!(
        "{rounds} rounds, each program in turn on each file in a process of its own; medians, ratios of the same round."
    ));
    report.note(format!("oxbitnet: {}.", arguments.oxbitnet_note));
    let mut session = Session {
        bitnet: &bitnet,
        adapter: arguments.adapter.as_deref(),
        oxbitnet: arguments.oxbitnet.as_deref(),
        figures: Figures::default(),
        device: String::new(),
    };
    if arguments.only_kernels {
        let path = FILES[0].0.file(&bitnet, &work)?;
        if let Some(kernels) = kernels::measure(&path, session.adapter, &mut report)? {
            kernels.tell(&mut report);
        }
        println!("{}", report.terminal());
        return Ok(());
    }
    let mut paths = Vec::new();
    for (recipe, peer) in FILES {
        paths.push((recipe.name, recipe.file(&bitnet, &work)?, peer));
    }
    for round in 1..=rounds {
        for (name, path, peer) in &paths {
            eprintln!("bench-gpu: round {round} of {rounds}: {name}");
            session.turn(name, path, *peer, &mut report)?;
        }
    }
    report.note(format!("The GPU: {}.", session.device));
    tell(&session.figures, &mut report);
    let kernels = kernels::measure(&paths[0].1, session.adapter, &mut report)?;
    if let Some(kernels) = &kernels {
        kernels.tell(&mut report);
    }
    targets::tell(
        &session.figures,
        kernels.as_ref(),
        &session.device,
        &mut report,
    );
    println!("{}", report.terminal());
    report.write(&arguments.report)?;
    println!("again: {}", report.command);
    println!("report: {}", arguments.report.join("gpu.md").display());
    Ok(())
}

struct Session<'a> {
    bitnet: &'a Path,
    adapter: Option<&'a str>,
    /// Until it fails.
    oxbitnet: Option<&'a Path>,
    figures: Figures,
    /// The device as ours describes it.
    device: String,
}

impl Session<'_> {
    /// Both programs once on one file. A peer that fails is named and left out from then on; ours may not fail.
    fn turn(
        &mut self,
        file: &'static str,
        path: &Path,
        peer: bool,
        report: &mut Report,
    ) -> Result<()> {
        let prompts = PROMPTS.map(|tokens| tokens.to_string()).join(",");
        let texts = TEXTS.map(|texts| texts.to_string()).join(",");
        for options in [
            vec!["-p", &prompts, "-n", &LONG.to_string()],
            vec![
                "-p",
                "0",
                "-n",
                &SHORT.to_string(),
                "--depth",
                &DEPTH.to_string(),
            ],
            vec![
                "-p",
                "0",
                "-n",
                &TEXT.to_string(),
                "--parallel",
                &texts,
                "--parallel-prompt",
                &TEXT_PROMPT.to_string(),
            ],
        ] {
            let mut command = Command::new(self.bitnet);
            command.args(["bench", "--device", "wgpu", "-r", "3", "--json", "-m"]);
            command.arg(path).args(options);
            if let Some(adapter) = self.adapter {
                command.args(["--adapter", adapter]);
            }
            let finished = process::run(&mut command, "bitnet bench")?;
            let parsed = parse_bitnet(&finished.stdout)?;
            if let Some(device) = parsed.device() {
                self.device = device.to_owned();
            }
            let mut tests = parsed.tests();
            // Beside texts together the command measures one alone.
            let together = |(test, _): &(Test, f64)| matches!(test, Test::Parallel(_));
            if tests.iter().any(together) {
                tests.retain(together);
            }
            if tests.iter().any(|(test, _)| *test == Test::Decode(LONG)) {
                tests.push((Test::BytesPerToken, parsed.bytes_per_token as f64));
            }
            self.figures.add_all(file, OURS, 0, tests);
        }
        let Some(oxbitnet) = self.oxbitnet.filter(|_| peer) else {
            return Ok(());
        };
        let mut command = Command::new(oxbitnet);
        command
            .arg(path)
            .args([prompts.as_str(), &SHORT.to_string()]);
        let measured =
            process::run(&mut command, OXBITNET).and_then(|finished| parse_llama(&finished.stdout));
        match measured {
            Ok(tests) => self.figures.add_all(file, OXBITNET, 0, tests),
            Err(error) => {
                let why = format!("oxbitnet is left out from here on: {file}: {error:#}");
                eprintln!("bench-gpu: {why}");
                report.note(why);
                self.oxbitnet = None;
            }
        }
        Ok(())
    }
}

/// All speeds in a table, and decode and prefill as charts.
fn tell(figures: &Figures, report: &mut Report) {
    let mut table = Table::new(
        "Speed",
        format!(
            "Tokens/s. Decode of {LONG} tokens from an empty context (of oxbitnet {SHORT}), and of {SHORT} behind {DEPTH} others; \
             greedy, one sequence. GB/s: weights, head, keys and values that one token reads, over its time."
        ),
        &[
            "program and file",
            "prefill 128",
            "prefill 512",
            "decode",
            "GB/s",
            "decode behind 2048",
        ],
    );
    let mut decoding = Chart::new("gpu", "Decode", "tokens/s");
    let mut reading = Chart::new("gpu-prefill", "Prefill 512", "tokens/s");
    for (recipe, _) in FILES {
        for who in [OURS, OXBITNET] {
            let of = |test| figures.median(&Key::new(recipe.name, who, 0, test));
            let decode = of(Test::Decode(LONG)).or(of(Test::Decode(SHORT)));
            let Some(decode) = decode else {
                continue;
            };
            let shown =
                |speed: Option<f64>| speed.map_or("–".into(), |speed| format!("{speed:.1}"));
            let bytes = of(Test::BytesPerToken);
            table.row([
                format!("{who} {}", recipe.name),
                shown(of(Test::Prefill(128))),
                shown(of(Test::Prefill(512))),
                format!("{decode:.1}"),
                shown(bytes.map(|bytes| bytes * decode / 1e9)),
                shown(of(Test::DecodeAfter(SHORT, DEPTH))),
            ]);
            decoding.bar(recipe.name, who, decode);
            if let Some(speed) = of(Test::Prefill(512)) {
                reading.bar(recipe.name, who, speed);
            }
        }
    }
    report.tables.push(table);
    report.tables.push(together(figures));
    report.charts.extend([decoding, reading]);
}

/// Texts that are written together.
fn together(figures: &Figures) -> Table {
    let heads = TEXTS.map(|texts| format!("{texts} texts"));
    let heads = heads.each_ref().map(String::as_str);
    let mut table = Table::new(
        "Together",
        format!(
            "Tokens/s of all texts: {TEXT} tokens of each behind a prompt of {TEXT_PROMPT}, greedy, all in one step."
        ),
        &["file", heads[0], heads[1], heads[2]],
    );
    for (recipe, _) in FILES {
        let of = |texts| figures.median(&Key::new(recipe.name, OURS, 0, Test::Parallel(texts)));
        let [a, b, c] =
            TEXTS.map(|texts| of(texts).map_or("–".to_owned(), |speed| format!("{speed:.0}")));
        table.row([recipe.name.to_owned(), a, b, c]);
    }
    table
}
