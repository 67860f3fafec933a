//! `bitnet-digest TOKENS THREADS BATCHES MODEL…`: a line of `MODEL isa threads batch digest` for each combination.
//!
//! The first three are lists separated by commas; a model is a file, or `demo` for the one that ships with the library.

use bitnet::Model;
use bitnet_digest::Plan;
use std::error::Error;
use std::process::ExitCode;

const USAGE: &str = "usage: bitnet-digest TOKENS THREADS BATCHES MODEL…
  bitnet-digest 1,2,3 1,2 1,64 demo model.gguf";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [tokens, threads, batches, models @ ..] = arguments else {
        return Err(USAGE.into());
    };
    let plan = Plan::parse(tokens, threads, batches)?;
    for model in models {
        plan.run(
            |options| match model.as_str() {
                "demo" => Model::demo_with(options),
                path => Model::open_with(path, options, |_, _| ()),
            },
            |line| println!("{model} {line}"),
        )?;
    }
    Ok(())
}
