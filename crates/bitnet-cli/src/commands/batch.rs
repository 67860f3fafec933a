//! `bitnet batch`: many prompts from one file, run together, their texts into another.
//!
//! Texts are written down as they end, into a journal beside the output ([`journal`]); when all have ended they are put in
//! the order of the input. A run that was killed goes on where the journal ends. The output holds nothing that depends on time
//! or company, so that it has the same bytes however often the run was interrupted.

mod files;
mod journal;
mod lines;
mod request;

use super::form::{FormArguments, Forms};
use super::sampling::SamplingArguments;
use crate::failure::Interrupted;
use crate::interrupt::Interrupt;
use crate::open::{HeadArgument, ModelArguments, ThreadsArgument};
use crate::progress::Steps;
use crate::{number, printable, units};
use anyhow::Context;
use bitnet::engine::{Batcher, TokenStream};
use bitnet::{EngineOptions, GenerateOptions, Model, Prompt, Request};
use files::Files;
use journal::{Entry, Journal};
use lines::{Line, Lines};
use request::Defaults;
use std::path::PathBuf;
use std::time::Instant;

/// Requests that are submitted for each that runs, so that the engine never waits for one.
const SUBMITTED: usize = 3;

/// Arguments of `bitnet batch`.
#[derive(clap::Args)]
#[command(after_help = "\
Each line of INPUT is a JSON object with one of
  prompt      a text to continue
  messages    a conversation to answer: [{\"role\": \"user\", \"content\": \"…\"}, …]
  tokens      token ids to continue
and, if it differs from the options here, any of
  id, max_tokens, temperature, top_k, top_p, min_p, typical_p, xtc_threshold, xtc_probability,
  repetition_penalty, seed, stop, ignore_end, chat_template_kwargs

Each line of OUTPUT has line, id, text, finish_reason, seed, prompt_tokens and generated_tokens, or error,
in the order of INPUT. Files named .parquet have rows in the place of lines, and columns in that of fields. A run that was stopped goes on where it was: start it again with the same arguments.

Examples:
  bitnet batch prompts.jsonl texts.jsonl
  bitnet batch -m 2b4t questions.jsonl answers.jsonl --temp 0 -n 200 --parallel 32")]
pub(crate) struct Arguments {
    /// The requests, a JSON object a line, or a Parquet file
    #[arg(value_name = "INPUT")]
    input: PathBuf,

    /// Where the texts go, a JSON object a line, or a Parquet file; OUTPUT.journal stands beside it until all are there
    #[arg(value_name = "OUTPUT")]
    output: PathBuf,

    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    threads: ThreadsArgument,

    #[command(flatten)]
    head: HeadArgument,

    /// The most tokens of a text
    #[arg(short = 'n', long, value_name = "TOKENS", default_value_t = 128)]
    tokens: usize,

    #[command(flatten)]
    sampling: SamplingArguments,

    #[command(flatten)]
    form: FormArguments,

    /// End texts here; may be given more than once
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,

    /// Go on after the model's own end of text
    #[arg(long)]
    ignore_end: bool,

    /// Texts that run together
    #[arg(long, value_name = "TEXTS", default_value_t = 32, value_parser = number::within(1..=4096))]
    parallel: usize,

    /// Memory for keys and values, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 2048, value_parser = number::within(1..=1 << 30))]
    kv_memory: usize,

    /// Forget what an earlier run wrote to OUTPUT
    #[arg(long)]
    restart: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let files = Files::open(&self.input, &self.output, self.restart)?;
        let total = lines::count(&files.input)?;
        // Texts must be the same when a run goes on.
        let (sampling, _) = self.sampling.options_from(0)?;
        let grammar = self.form.grammar()?;
        let journal = Journal::open(&files.input, &files.output, self.restart)?;
        let opened = self.model.open(self.threads.threads, self.head.mode())?;
        let defaults = Defaults {
            options: GenerateOptions {
                max_tokens: self.tokens,
                sampling,
                stop: self.stop,
                stop_at_end: !self.ignore_end,
                speculation: self.sampling.speculation(),
                ..GenerateOptions::default()
            },
            model: opened.model.fingerprint()?,
            kv: opened.model.kv_type(),
            context: opened.model.context(),
            grammar,
        };
        let lines = Lines::open(&files.input, defaults.fingerprint())?;
        let window = self.parallel.saturating_mul(SUBMITTED);
        let options = EngineOptions {
            max_running: self.parallel,
            max_waiting: window,
            kv_bytes: self.kv_memory << 20,
            ..EngineOptions::default()
        };
        let mut run = Run {
            batcher: Batcher::new(&opened.model, options)?,
            forms: Forms::of(&opened.model),
            defaults,
            lines,
            journal,
            window,
            texts: Vec::new(),
            counts: Counts::default(),
        };
        let begin = Instant::now();
        let outcome = run.all(total, &Interrupt::watch()?);
        let counts = run.counts;
        let seconds = begin.elapsed().as_secs_f64();
        let done = counts.earlier + counts.now;
        if outcome.is_err() {
            anstream::eprintln!(
                "{done} of {total} lines are done; the same command goes on from there"
            );
        }
        outcome?;
        run.journal.finish(run.lines.read())?;
        files.finish()?;
        anstream::eprintln!("{}", counts.line(seconds, run.batcher.model()));
        Ok(())
    }
}

/// Lines and tokens of a run.
#[derive(Clone, Copy, Default)]
struct Counts {
    /// Lines that an earlier run did.
    earlier: usize,
    /// Lines that this one did.
    now: usize,
    /// Of both, those with errors.
    errors: usize,
    prompt_tokens: usize,
    generated_tokens: usize,
}

impl Counts {
    fn line(self, seconds: f64, model: &Model) -> String {
        let lines = self.earlier + self.now;
        let mut line = format!("{lines} lines");
        if self.errors > 0 {
            line += &format!(", {} of them with errors", self.errors);
        }
        if self.earlier > 0 {
            line += &format!(", {} from before", self.earlier);
        }
        line + &format!(
            " | {} prompt tokens, {} generated in {}, {:.1} tok/s | {}",
            self.prompt_tokens,
            self.generated_tokens,
            units::seconds(seconds),
            self.generated_tokens as f64 / seconds.max(1e-9),
            printable::line(&model.device())
        )
    }
}

/// A text that is being written.
struct Text {
    line: usize,
    input: String,
    id: Option<serde_json::Value>,
    seed: u64,
    stream: TokenStream,
    text: String,
}

struct Run {
    batcher: Batcher,
    forms: Forms,
    defaults: Defaults,
    lines: Lines,
    journal: Journal,
    /// Requests that are submitted at a time.
    window: usize,
    texts: Vec<Text>,
    counts: Counts,
}

impl Run {
    /// Runs all lines that have no text yet.
    fn all(&mut self, total: usize, interrupt: &Interrupt) -> anyhow::Result<()> {
        let mut steps = Steps::new("writing");
        loop {
            if interrupt.is_pressed() {
                return Err(Interrupted.into());
            }
            self.submit()?;
            if self.texts.is_empty() {
                return Ok(());
            }
            self.batcher.step();
            self.collect()?;
            let done = self.counts.earlier + self.counts.now;
            steps.set(done as u64, total as u64);
        }
    }

    /// Submits lines while there is room for them. Those that are refused are done.
    fn submit(&mut self) -> anyhow::Result<()> {
        while self.texts.len() < self.window {
            let Some(line) = self.lines.next()? else {
                return Ok(());
            };
            if let Some(failed) = self.journal.has(&line)? {
                self.counts.earlier += 1;
                self.counts.errors += usize::from(failed);
                continue;
            }
            self.submit_line(line)?;
        }
        Ok(())
    }

    fn submit_line(&mut self, line: Line) -> anyhow::Result<()> {
        let number = line.number;
        let (id, request) = request::parse(&line, &self.defaults);
        let submitted = request.and_then(|request| {
            let seed = request.options.sampling.seed;
            let request = self.in_form(request)?;
            Ok((self.batcher.submit(request)?, seed))
        });
        match submitted {
            Ok((stream, seed)) => self.texts.push(Text {
                line: number,
                input: line.input,
                id,
                seed,
                stream,
                text: String::new(),
            }),
            Err(error) => {
                self.counts.now += 1;
                self.counts.errors += 1;
                self.journal.append(&Entry {
                    line: number,
                    id,
                    input: line.input,
                    error: Some(crate::failure::one_line(&error)),
                    ..Entry::default()
                })?;
            }
        }
        Ok(())
    }

    /// A request whose text has the form that was asked for, where a conversation is answered behind thinking.
    fn in_form(&mut self, mut request: Request) -> bitnet::Result<Request> {
        let Some(grammar) = &self.defaults.grammar else {
            return Ok(request);
        };
        let model = self.batcher.model();
        let tokens = model.prompt_tokens(&request.prompt, &request.options)?;
        let thinking = match &request.prompt {
            Prompt::Chat(_) => model.thinking(&tokens)?,
            Prompt::Text(_) | Prompt::Tokens(_) => None,
        };
        let constraint = self.forms.constraint(grammar, thinking.as_ref())?;
        request.hook = Some(Box::new(constraint));
        request.prompt = Prompt::Tokens(tokens);
        Ok(request)
    }

    /// Takes what the last step wrote, and notes the texts that it ended.
    fn collect(&mut self) -> anyhow::Result<()> {
        for text in &mut self.texts {
            while let Some(piece) = text.stream.try_next() {
                // The line is no reason to fail once it runs: memory or the device is.
                let piece = piece.with_context(|| format!("line {}", text.line))?;
                text.text.push_str(&piece.text);
            }
        }
        let ended = |text: &mut Text| text.stream.finish().is_some();
        for mut text in self.texts.extract_if(.., ended) {
            let Some(finish) = text.stream.finish() else {
                continue;
            };
            self.counts.now += 1;
            self.counts.prompt_tokens += finish.prompt_tokens;
            self.counts.generated_tokens += finish.timings.generated_tokens;
            self.journal.append(&Entry {
                line: text.line,
                id: text.id.take(),
                input: text.input,
                text: Some(text.text),
                finish_reason: Some(finish.reason.name().into()),
                seed: Some(text.seed),
                prompt_tokens: Some(finish.prompt_tokens),
                generated_tokens: Some(finish.timings.generated_tokens),
                error: None,
            })?;
        }
        Ok(())
    }
}
