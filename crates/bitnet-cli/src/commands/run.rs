//! `bitnet run`: continues a text.

use super::form::{FormArguments, Forms};
use super::memory::{Memory, tables};
use super::print_json;
use super::sampling::SamplingArguments;
use crate::failure::{Interrupted, Usage};
use crate::interrupt::Interrupt;
use crate::open::{HeadArgument, ModelArguments, ThreadsArgument};
use crate::progress::Steps;
use crate::{context, printable, stdin};
use anstyle::Style;
use bitnet::{Error, GenerateOptions, LogitsHook, Model, StopReason, Timings};
use serde::Serialize;
use std::time::Duration;

/// The most tokens to generate unless asked otherwise.
const TOKENS: usize = 128;
/// The same where no prompt is given: no story of the demo model is as long.
const STORY_TOKENS: usize = 400;

/// Arguments of `bitnet run`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bitnet run                                         a story by the built-in demo model
  bitnet run \"One day, Tom found a key\" --seed 7     the same text every time, on every machine
  bitnet run -m 2b4t \"The capital of France is\" -n 20 --temp 0
  cat notes.txt | bitnet run -m model.gguf -         the prompt from stdin
  bitnet run --json \"Once upon a time\" | jq .text
  bitnet run -m 2b4t \"A cat as JSON: \" --json-schema cat.json --no-echo
  bitnet run --stats                                 what memory it took, and what was not copied")]
pub(crate) struct Arguments {
    /// The text to continue; - reads it from stdin; without it, the beginning of a story
    prompt: Option<String>,

    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    threads: ThreadsArgument,

    #[command(flatten)]
    head: HeadArgument,

    /// The most tokens to generate [default: 128; without PROMPT 400, which is enough for a story to end]
    #[arg(short = 'n', long, value_name = "TOKENS")]
    tokens: Option<usize>,

    #[command(flatten)]
    sampling: SamplingArguments,

    #[command(flatten)]
    form: FormArguments,

    /// End at this text, which is not printed; may be given more than once
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,

    /// Go on after the model's own end of text
    #[arg(long)]
    ignore_end: bool,

    /// Print the continuation alone, without the prompt
    #[arg(long)]
    no_echo: bool,

    /// When done, say on stderr what memory the pool handed out and how much data was used without a copy
    #[arg(long)]
    stats: bool,

    /// Print one JSON object when done instead of streaming
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    device: String,
    prompt: &'a str,
    text: &'a str,
    stop: &'static str,
    seed: u64,
    prompt_tokens: usize,
    generated_tokens: usize,
    load_seconds: f64,
    prompt_seconds: f64,
    decode_seconds: f64,
    prompt_tokens_per_second: f64,
    decode_tokens_per_second: f64,
    drafted_tokens: usize,
    accepted_tokens: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let prompt = self.prompt()?;
        let most_tokens = if self.prompt.is_some() {
            TOKENS
        } else {
            STORY_TOKENS
        };
        let (sampling, seed) = self.sampling.options()?;
        let speculation = self.sampling.speculation();
        let grammar = self.form.grammar()?;
        let opened = self.model.open(self.threads.threads, self.head.mode())?;
        let interrupt = Interrupt::watch()?;
        let mut session = opened.model.session()?;
        let options = GenerateOptions {
            max_tokens: self.tokens.unwrap_or(most_tokens),
            sampling,
            stop: self.stop,
            stop_at_end: !self.ignore_end,
            speculation,
            cancel: interrupt.cancel(),
            ..GenerateOptions::default()
        };
        let model = &opened.model;
        let hook = match &grammar {
            Some(grammar) => {
                let constraint = Forms::of(model).constraint(grammar, None)?;
                Some(Box::new(constraint) as Box<dyn LogitsHook>)
            }
            None => None,
        };
        let tokens = model.prompt_tokens(&prompt.as_str().into(), &options)?;
        let mut generation = session
            .answer(&tokens, &options, hook)
            .map_err(|error| context::explain(error, model, 1))?;
        let prompt_tokens = generation.session().tokens().len();
        let mut out = printable::stdout();
        if !self.json && !self.no_echo {
            let bold = Style::new().bold();
            out.begin(bold)?;
            out.write(&prompt)?;
            out.end(bold)?;
        }
        {
            let mut steps = Steps::new("reading");
            generation.prefill(|done, all| steps.set(done as u64, all as u64))?;
        }
        let mut text = String::new();
        for piece in generation.by_ref() {
            let piece = piece?;
            if self.json {
                text.push_str(&piece);
            } else {
                out.write(&piece)?;
            }
        }
        let (timings, reason) = (generation.timings(), generation.stop_reason());
        // The prompt alone filled the context.
        let no_room = reason == Some(StopReason::ContextFull)
            && generation.session().tokens().len() == prompt_tokens;
        if self.json {
            print_json(&Report {
                model: model.name(),
                device: model.device(),
                prompt: &prompt,
                text: &text,
                stop: reason.map_or("none", StopReason::name),
                seed,
                prompt_tokens: timings.prompt_tokens,
                generated_tokens: timings.generated_tokens,
                load_seconds: opened.time.as_secs_f64(),
                prompt_seconds: timings.prompt_time.as_secs_f64(),
                decode_seconds: timings.decode_time.as_secs_f64(),
                prompt_tokens_per_second: timings.prompt_rate(),
                decode_tokens_per_second: timings.decode_rate(),
                drafted_tokens: timings.drafted_tokens,
                accepted_tokens: timings.accepted_tokens,
                memory: self.stats.then(|| Memory::of(model)),
            })?;
        } else {
            out.finish()?;
            let line = timings_line(opened.time, &timings);
            let truncated = truncation(reason, model, options.max_tokens).filter(|_| !no_room);
            let dim = Style::new().dimmed();
            anstream::eprintln!(
                "{dim}{line}{} | {} | seed {seed}{dim:#}",
                truncated.unwrap_or_default(),
                printable::line(&model.device())
            );
            if self.stats {
                anstream::eprintln!("\n{}", printable::text(&tables(model)));
            }
        }
        if no_room {
            let full = Error::ContextFull {
                capacity: model.context(),
                used: prompt_tokens,
                wanted: 1,
            };
            return Err(context::explain(full, model, 0));
        }
        if interrupt.is_pressed() {
            return Err(Interrupted.into());
        }
        Ok(())
    }

    fn prompt(&self) -> anyhow::Result<String> {
        match self.prompt.as_deref() {
            None => Ok(bitnet_demo::STORY_PROMPT.to_owned()),
            Some("-") => stdin::read("the prompt"),
            Some("") => Err(Usage("the prompt is empty".to_owned()).into()),
            Some(text) => Ok(text.to_owned()),
        }
    }
}

impl Default for Arguments {
    /// What `bitnet run` without anything behind it means.
    fn default() -> Self {
        use clap::Parser;

        #[derive(Parser)]
        struct Bare {
            #[command(flatten)]
            arguments: Arguments,
        }
        Bare::parse_from(["bitnet"]).arguments
    }
}

/// Says that the text is not whole, and how to get more of it.
fn truncation(reason: Option<StopReason>, model: &Model, most: usize) -> Option<String> {
    match reason? {
        StopReason::MaxTokens => Some(format!(" | truncated after {most} tokens (-n)")),
        StopReason::ContextFull => Some(format!(
            " | truncated: the context of {} tokens is full; {}",
            model.context(),
            context::longer(model)
        )),
        _ => None,
    }
}

/// Load, prompt and decode in one line.
pub(super) fn timings_line(load: Duration, timings: &Timings) -> String {
    let mut line = format!(
        "load {} | prompt {} tokens, {:.1} tok/s | generated {} tokens, {:.1} tok/s",
        crate::units::seconds(load.as_secs_f64()),
        timings.prompt_tokens,
        timings.prompt_rate(),
        timings.generated_tokens,
        timings.decode_rate(),
    );
    if timings.drafted_tokens > 0 {
        let (accepted, drafted) = (timings.accepted_tokens, timings.drafted_tokens);
        line += &format!(", {accepted} of {drafted} drafted");
    }
    line
}
