//! `cargo xtask …`: the chores of this repository, so that nobody has to remember a command line.
//!
//! `setup` installs what the tests need and says what it did; `test` runs every part of the test suite in order; `web` builds
//! the demo site and serves it; `validate`, `bench-peers`, `bench-server`, `bench-python`, `bench-scale`, `bench-against`, `bench-gpu`,
//! `bench-web`, `profile`, `kernels` and `activations` measure and write a report.

mod activations;
mod against;
mod apple;
mod bench_python;
mod cross;
mod debian;
mod fuzz;
mod gpu;
mod image;
mod install;
mod kernels;
mod llama_cpp;
mod metal;
mod miri;
mod mlx;
mod peers;
mod profile;
mod program;
mod python;
mod requirement;
mod sanitizer;
mod server;
mod serving;
mod suite;
mod target;
mod validate;
mod web;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Chores of the BitNet-Rust repository"
)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install what the tests need, saying what is done; does nothing where all is present
    Setup,
    /// Run the test suite: every part, or only those named
    Test(suite::Selection),
    /// Let users behave badly towards the server for a while: nothing may come of it
    Soak(server::Soaking),
    /// Build the demo site for browsers and serve it: prints its address
    Web(web::Serving),
    /// Measure the project's targets: prints a table and writes benches/report
    Validate(validate::Measurement),
    /// Measure llama.cpp and candle beside ours on the same models: prints tables and writes benches/report
    BenchPeers(peers::Measurement),
    /// Measure an earlier build of the `bitnet` command beside this tree's, in turns: prints the ratio of every test
    BenchAgainst(against::Measurement),
    /// Measure our server beside llama-server with the same users: prints a table and writes benches/report/server.md
    BenchServer(serving::Measurement),
    /// Measure the Python package beside sentence-transformers and llama-cpp-python: prints a table and writes benches/report/python.md
    BenchPython(bench_python::Measurement),
    /// Measure a corpus on 1, 2 and 3 nodes of Ray and simulate more: prints tables and writes benches/report/scale.md
    BenchScale(bench_python::Scale),
    /// Measure oxbitnet beside ours on a GPU: prints tables and writes benches/report/gpu.md
    BenchGpu(gpu::Measurement),
    /// Measure wllama beside ours in Chromium: prints a table and writes benches/report/web.md
    BenchWeb(web::bench::Measurement),
    /// Show where the time of decode and prefill goes: prints tables and writes benches/report
    Profile(profile::Measurement),
    /// Compare every kernel with the machine's limits on the shapes of a real model: prints tables and writes benches/report
    Kernels(kernels::Measurement),
    /// Judge the rounding of activations, plain and rotated, on held-out text: prints tables and writes benches/report
    Activations(activations::Measurement),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Setup => install(&suite::Part::ALL),
        Chore::Test(selection) => test(&selection),
        Chore::Soak(soaking) => server::soak(&soaking),
        Chore::Web(serving) => web::serve(&serving),
        Chore::Validate(measurement) => validate::run(&measurement),
        Chore::BenchPeers(measurement) => peers::run(&measurement),
        Chore::BenchAgainst(measurement) => against::run(&measurement),
        Chore::BenchServer(measurement) => serving::run(&measurement),
        Chore::BenchPython(measurement) => bench_python::run(&measurement),
        Chore::BenchScale(measurement) => bench_python::scale(&measurement),
        Chore::BenchGpu(measurement) => gpu::run(&measurement),
        Chore::BenchWeb(measurement) => web::bench::run(&measurement),
        Chore::Profile(measurement) => profile::run(&measurement),
        Chore::Kernels(measurement) => kernels::run(&measurement),
        Chore::Activations(measurement) => activations::run(&measurement),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn test(selection: &suite::Selection) -> Result<()> {
    let parts = selection.parts();
    install(&parts)?;
    suite::run(&parts)
}

/// Installs what `parts` need.
fn install(parts: &[suite::Part]) -> Result<()> {
    install::install(parts.iter().flat_map(|part| part.requirements()).copied())
}
