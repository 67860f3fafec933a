//! `bitnet perplexity`: how well a model predicts a text.

use super::print_json;
use crate::open::{ModelArguments, ThreadsArgument};
use crate::progress::Steps;
use crate::{number, stdin};
use serde::Serialize;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

/// Arguments of `bitnet perplexity`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bitnet perplexity -m model.gguf -f wiki.test.raw
  bitnet perplexity -m model.gguf -f wiki.test.raw --window 2048 --json
  bitnet perplexity -m model.gguf -f text.txt --activations f32   without the rounding of activations
  cat chapter-*.txt | bitnet perplexity -m model.gguf -f -        the text from stdin")]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    threads: ThreadsArgument,

    /// The text, UTF-8; - reads it from stdin
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,

    /// Tokens of each stretch that is scored on its own; at most the context
    #[arg(short, long, value_name = "TOKENS", value_parser = number::at_least(2))]
    window: Option<usize>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    perplexity: f64,
    error: f64,
    tokens: usize,
    window: usize,
    seconds: f64,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let text = if self.file.as_os_str() == "-" {
            stdin::read("the text")?
        } else {
            fs::read_to_string(&self.file).map_err(|error| bitnet::Error::io(&self.file, error))?
        };
        let model = self
            .model
            .open(self.threads.threads, bitnet::LmHeadMode::Full)?
            .model;
        let window = self.window.unwrap_or(model.context().min(512));
        let begin = Instant::now();
        let score = {
            let mut steps = Steps::new("scoring");
            bitnet::perplexity(&model, &text, window, |done, all, _| {
                steps.set(done as u64, all as u64);
            })?
        };
        let seconds = begin.elapsed().as_secs_f64();
        if self.json {
            return print_json(&Report {
                model: model.name(),
                perplexity: score.value,
                error: score.error,
                tokens: score.tokens,
                window,
                seconds,
            });
        }
        writeln!(
            anstream::stdout(),
            "perplexity {:.4} ± {:.4} ({} tokens in windows of {window}, {:.1} tok/s)",
            score.value,
            score.error,
            score.tokens,
            score.tokens as f64 / seconds.max(1e-9),
        )?;
        Ok(())
    }
}
