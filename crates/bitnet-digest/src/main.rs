//! `bitnet-digest TOKENS THREADS BATCHES KV MODEL…`: a line of `MODEL isa threads batch kv digest` for each combination.
//!
//! The first four are lists separated by commas, the last of them of types of keys and values; a model is a file, or `demo` for the one that ships with the library.

use bitnet::Model;
use bitnet_digest::Plan;
use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;

const USAGE: &str = "usage: bitnet-digest TOKENS THREADS BATCHES KV MODEL…
  bitnet-digest 1,2,3 1,2 1,64 f16,f32,int8 demo model.gguf";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[OsString]) -> Result<(), Box<dyn Error>> {
    let [tokens, threads, batches, kv, models @ ..] = arguments else {
        return Err(USAGE.into());
    };
    let [Some(tokens), Some(threads), Some(batches), Some(kv)] =
        [tokens, threads, batches, kv].map(|list| list.to_str())
    else {
        return Err(USAGE.into());
    };
    let plan = Plan::parse([tokens, threads, batches, kv])?;
    for model in models {
        plan.run(
            |options| match model.to_str() {
                Some("demo") => Model::demo_with(options),
                // A path, which need not be text.
                _ => Model::open_with(model, options, |_, _| ()),
            },
            |line| println!("{} {line}", model.display()),
        )?;
    }
    Ok(())
}
