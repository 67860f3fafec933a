//! The `bitnet` command as a library: [`run`] takes its arguments and gives its exit code. The program is a line around it, and
//! so is the command in the Python package.
//!
//! One file per command in `commands/`; beside it what they share: the arguments that name and open a model
//! (`open`), progress bars, Ctrl-C, how text from elsewhere becomes harmless for a terminal (`printable`), and how a failure
//! becomes a line on stderr and an exit code.

mod commands;
mod context;
mod failure;
mod interrupt;
mod number;
mod open;
mod parquet;
#[cfg(feature = "plots")]
mod plot;
mod printable;
mod progress;
mod stdin;
mod template;
mod units;

use bitnet::hub::KNOWN_MODELS;
use clap::{Parser, Subcommand};
use commands::{
    batch, bench, chat, convert, devices, embed, inspect, logits, perplexity, run, serve, synth,
    tokenize,
};
use std::ffi::{OsStr, OsString};
use std::io::Write;
use tracing_subscriber::EnvFilter;

const EXAMPLES: &str = "\
Examples:
  bitnet                                      a story by the built-in demo model
  bitnet run \"Once upon a time\" -n 200        continue a text
  bitnet run -m 2b4t \"The capital of France is\"
  bitnet chat -m 2b4t                         talk to a model; it is downloaded once
  bitnet batch prompts.jsonl texts.jsonl      many prompts at once
  bitnet serve -m 2b4t                        a server that OpenAI's clients talk to
  bitnet inspect model.gguf                   what is in a file
  bitnet bench -m model.gguf -t 1,2,4         tokens per second

MODEL is a path (GGUF file, safetensors file or folder), an http(s) address,
hf:owner/repo[/file][@revision], or a short name (`bitnet --help` lists them).
Downloads resume, are verified, and are kept in the platform's cache folder.

Environment:
  BITNET_ISA=scalar|avx2|…    force a kernel set     BITNET_LOG=info   say more on stderr
  HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE   as in Hugging Face's tools

Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted by Ctrl-C.";

/// [`EXAMPLES`] and the models that have a short name.
fn examples_and_models() -> String {
    let lines: Vec<String> = KNOWN_MODELS
        .iter()
        .map(|model| {
            let size = model.bytes.map_or_else(String::new, units::bytes);
            format!("  {:<20} {size:>7}  {}", model.name, model.license)
        })
        .collect();
    format!(
        "{EXAMPLES}\n\nShort names, with published sizes and licences (none was downloaded to check them):\n{}",
        lines.join("\n")
    )
}

/// Run ternary (1.58-bit) language models: the same file, the same text, on every machine.
#[derive(Parser)]
#[command(name = "bitnet", version, after_help = EXAMPLES, after_long_help = examples_and_models())]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Continue a text (the default command)
    Run(run::Arguments),
    /// Talk to a model, line by line
    Chat(chat::Arguments),
    /// Say what is in a model file and what it needs to run
    Inspect(inspect::Arguments),
    /// Run many prompts from a file together, and write their texts to another
    Batch(batch::Arguments),
    /// Serve models to many users over HTTP, in OpenAI's interface
    Serve(serve::Arguments),
    /// Turn texts into vectors, and find the texts nearest to a query
    Embed(embed::Arguments),
    /// Show the tokens of a text
    Tokenize(tokenize::Arguments),
    /// Measure how well a model predicts a text
    Perplexity(perplexity::Arguments),
    /// Print the logits of every position
    Logits(logits::Arguments),
    /// Write a model with random ternary weights, in the shape of a real one
    Synth(synth::Arguments),
    /// Convert between safetensors and GGUF and between ternary types
    Convert(convert::Arguments),
    /// Measure prefill and decode speed, load time and memory
    Bench(bench::Arguments),
    /// List the devices and kernels of this machine
    Devices(devices::Arguments),
}

/// The object that `bitnet inspect --json` prints of a model, or of the demo model.
///
/// # Errors
/// If the file cannot be found, downloaded or read.
pub fn inspection(model: Option<&OsStr>) -> anyhow::Result<serde_json::Value> {
    inspect::report(model)
}

/// Runs the command with `arguments`, of which the first is the program's own name, and gives its exit code: 0 for success, 1
/// for failure, 2 for wrong usage, 130 for an interruption by Ctrl-C.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return failure::usage(&error, arguments),
    };
    // A second subscriber cannot be there yet; logging is no reason to fail.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_env("BITNET_LOG").unwrap_or_else(|_| EnvFilter::new("warn")),
        )
        .with_writer(printable::log)
        // They could not be told from those of a file.
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .try_init();
    let command = cli
        .command
        .unwrap_or_else(|| Command::Run(run::Arguments::default()));
    let outcome = match command {
        Command::Run(arguments) => arguments.run(),
        Command::Chat(arguments) => arguments.run(),
        Command::Inspect(arguments) => arguments.run(),
        Command::Batch(arguments) => arguments.run(),
        Command::Serve(arguments) => arguments.run(),
        Command::Embed(arguments) => arguments.run(),
        Command::Tokenize(arguments) => arguments.run(),
        Command::Perplexity(arguments) => arguments.run(),
        Command::Logits(arguments) => arguments.run(),
        Command::Synth(arguments) => arguments.run(),
        Command::Convert(arguments) => arguments.run(),
        Command::Bench(arguments) => arguments.run(),
        Command::Devices(arguments) => arguments.run(),
    };
    // A program flushes it at its end, and a library has none. A reader that left early is no failure.
    let flushed = std::io::stdout().flush().map_err(anyhow::Error::from);
    failure::exit_code(outcome.and(flushed))
}
