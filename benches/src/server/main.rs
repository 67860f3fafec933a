//! Serves a model to many users and measures what they see, beside llama-server on the same file with the same users:
//! `cargo xtask bench-server`.

mod client;
mod scenes;
mod servers;
mod targets;

use anyhow::Result;
use bitnet::engine::{Batcher, TokenStream};
use bitnet::{
    EngineOptions, GenerateOptions, Model, ModelOptions, Request, SamplingOptions, Speculation,
};
use bitnet_benchmarks::machine;
use bitnet_benchmarks::places::Places;
use bitnet_benchmarks::report::Report;
use bitnet_benchmarks::synthetic::Recipe;
use clap::Parser;
use scenes::{Intruder, Shared, Users};
use servers::{Program, Room};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use targets::Seen;

/// The model: llama.cpp knows it.
const FILE: Recipe = Recipe::TQ2_F16;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// Numbers of users that ask at once.
    users: [usize; 2],
    /// Tokens of each of their prompts, and of the answers.
    asked: (usize, usize),
    /// Tokens of the prompt that comes while others are being answered.
    long: usize,
    /// Tokens of the prefix that prompts share, and how many share it.
    shared: (usize, usize),
    /// Tokens of each of 32 texts through HTTP and through the engine alone.
    streamed: usize,
}

const WHOLE: Plan = Plan {
    users: [8, 32],
    asked: (256, 64),
    long: 4000,
    shared: (1000, 100),
    streamed: 48,
};

const QUICK: Plan = Plan {
    users: [2, 4],
    asked: (32, 8),
    long: 400,
    shared: (128, 8),
    streamed: 8,
};

/// Texts of the scene with a long prompt, and numbers of users of a shared prefix that ask at once.
const COMPANY: usize = 8;
const AT_ONCE: [usize; 2] = [1, 4];
/// Texts that are written through HTTP and through the engine alone.
const STREAMS: usize = 32;

/// Measure the server and write a report.
#[derive(Parser)]
struct Arguments {
    /// The folder that the report is written to
    #[arg(long, default_value = "benches/report")]
    report: PathBuf,

    /// The bitnet command to measure; without it, the one beside this program
    #[arg(long)]
    bitnet: Option<PathBuf>,

    /// llama.cpp's llama-server; without it, it is left out
    #[arg(long, value_name = "PROGRAM")]
    llama_server: Option<PathBuf>,

    /// A note on llama-server: how it was built, or why it is missing
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "no --llama-server was named"
    )]
    llama_note: String,

    /// The folder for the model file, which is kept; without it, one beside this program
    #[arg(long)]
    work: Option<PathBuf>,

    /// Short prompts and few users: a look, not a result
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
    let Places { bitnet, work, .. } = Places::find(named.0, named.1, "models")?;
    let plan = if arguments.quick { QUICK } else { WHOLE };
    let threads = machine::thread_counts().last().copied().unwrap_or(1);
    let path = FILE.file(&bitnet, &work)?;

    let quick = if arguments.quick { " --quick" } else { "" };
    let mut report = Report::new(
        "server",
        "BitNet-Rust as a server",
        format!("cargo xtask bench-server{quick}"),
    );
    report.note_load();
    report.note(format!(
        "{} in the shape of 2B-4T, {}; both servers get the same requests from the same users, one server at a time, a fresh \
         one for each scene.{}",
        FILE.name,
        machine::with(threads),
        if arguments.quick { " A quick look, not a result." } else { "" }
    ));
    report.note(format!("llama-server: {}.", arguments.llama_note));
    let mut seen = Seen::default();
    let programs = [
        Some(Program::Ours(&bitnet)),
        arguments.llama_server.as_deref().map(Program::Llama),
    ];
    for program in programs.into_iter().flatten() {
        scenes_of(program, (&path, threads), &plan, &mut seen, &mut report)?;
    }
    eprintln!("bench-server: the engine alone");
    seen.alone = Some(engine_alone(&path, threads, &plan)?);
    targets::tell(&seen, &plan, &mut report);
    println!("{}", report.terminal());
    report.write(&arguments.report)?;
    println!("again: {}", report.command);
    println!("report: {}", arguments.report.join("server.md").display());
    Ok(())
}

/// Every scene with one program. What llama-server does not manage is noted and left out.
fn scenes_of(
    program: Program<'_>,
    (path, threads): (&Path, usize),
    plan: &Plan,
    seen: &mut Seen,
    report: &mut Report,
) -> Result<()> {
    let name = program.name();
    let is_ours = matches!(program, Program::Ours(_));
    let serve = |what: &str, users: usize, each: usize| {
        eprintln!("bench-server: {name}: {what}");
        program.serve(path, threads, Room { users, each })
    };
    let (prompted, tokens) = plan.asked;
    let mut scenes = || -> Result<()> {
        for users in plan.users {
            let server = serve(&format!("{users} users"), users, prompted + tokens + 64)?;
            let measured = Users::measure(&server.address, (users, prompted, tokens))?;
            seen.users.insert((users, name), measured);
        }
        let server = serve("a long prompt among others", COMPANY + 1, plan.long + 256)?;
        let measured = Intruder::measure(&server.address, (COMPANY, plan.long, plan.long))?;
        seen.intruder.insert(name, measured);
        drop(server);
        let (prefix, sharing) = plan.shared;
        for at_once in AT_ONCE {
            let what = format!("prompts that begin alike, {at_once} at once");
            let server = serve(&what, at_once, prefix + 128)?;
            let measured = Shared::measure(&server.address, (sharing, at_once, prefix))?;
            seen.shared.insert((at_once, name), measured);
        }
        if is_ours {
            let server = serve("streams", STREAMS, 32 + plan.streamed + 64)?;
            let measured = Users::measure(&server.address, (STREAMS, 32, plan.streamed))?;
            seen.streamed = Some(measured.tokens_per_second);
            drop(server);
            let users = plan.users[0] * 2;
            let server = serve("alone and in company", users, 8 + 7 * users + 64)?;
            seen.same = Some((scenes::same_in_company(&server.address, users)?, users));
        }
        Ok(())
    };
    match scenes() {
        Err(error) if !is_ours => {
            let why = format!("llama-server is left out from here on: {error:#}");
            eprintln!("bench-server: {why}");
            report.note(why);
            Ok(())
        }
        other => other,
    }
}

/// Tokens per second of as many texts as the streams, without a server.
fn engine_alone(path: &Path, threads: usize, plan: &Plan) -> Result<f64> {
    let options = ModelOptions {
        threads: Some(threads),
        ..ModelOptions::default()
    };
    let model = Model::open_with(path, &options, |_, _| ())?;
    let options = EngineOptions {
        max_running: STREAMS,
        ..EngineOptions::default()
    };
    let mut batcher = Batcher::new(&model, options)?;
    let generate = GenerateOptions {
        max_tokens: plan.streamed,
        sampling: SamplingOptions::greedy(),
        speculation: Speculation::Off,
        ..GenerateOptions::default()
    };
    let begin = Instant::now();
    let mut streams: Vec<TokenStream> = (0..STREAMS)
        .map(|user| {
            let prompt = scenes::prompt(1000 + user as u32, 32);
            batcher.submit(Request::new(prompt, &generate))
        })
        .collect::<bitnet::Result<_>>()?;
    let mut tokens = 0;
    while streams.iter().any(|stream| stream.finish().is_none()) {
        batcher.step();
        for stream in &mut streams {
            while let Some(piece) = stream.try_next() {
                piece?;
                tokens += 1;
            }
        }
    }
    Ok(tokens as f64 / begin.elapsed().as_secs_f64())
}
