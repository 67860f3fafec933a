//! `bitnet bench`: prefill and decode speed, load time and memory, in the manner of llama-bench.
//!
//! A test is a number of tokens run from an empty context, prefill in batches (`pp512`) or decode one by one (`tg64`, or
//! behind a context `tg64@d2048`; of several texts together, `tg64x8@p32`, each behind a prompt of 32), once for warming up (unless told otherwise) and then as often as asked. Reported are mean
//! and standard deviation of the tokens per second.

mod embedded;
mod parallel;
mod shared;

use super::print_json;
use crate::failure::Usage;
use crate::open::{HeadArgument, ModelArguments, THREADS};
use crate::{context, number, printable, units};
use bitnet::{GenerateOptions, LogitsFor, Model, SamplingOptions, Session, Speculation};
use embedded::{Embedded, Together};
use parallel::{Parallel, Waiting};
use serde::Serialize;
use shared::{Reuse, Shared};
use std::io::Write;
use std::ops::RangeInclusive;
use std::time::Instant;

/// Tokens that prefill runs at once, as generating does.
const BATCH: usize = 256;

/// Numbers of texts at once that are accepted.
const TEXTS: RangeInclusive<usize> = 1..=4096;

/// Arguments of `bitnet bench`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bitnet bench                                     the built-in demo model
  bitnet bench -m model.gguf -p 512 -n 64 -t 1,2,4
  bitnet bench -m model.gguf -p 0 -n 128 -r 10     decode alone
  bitnet bench -m model.gguf -p 128,512 --json     two prefill tests, as JSON
  bitnet bench -m model.gguf --device wgpu -p 128,512 -n 64 -d 0,2048
                                                   on a GPU, decode also behind a long context
  bitnet bench -m model.gguf -p 0 -n 32 --parallel 1,4,8,16,32
                                                   many texts at once
  bitnet bench -m model.gguf -p 0 -n 0 --shared-prefix 512 --requests 1000
                                                   requests that begin alike
  bitnet bench -m embeddings.gguf --embed 1000     texts as vectors, together and one by one
  bitnet bench -m model.gguf -p 8 -n 0 -r 1 --no-warmup
                                                   from opening the file to the first token")]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    head: HeadArgument,

    /// Tokens of the prefill tests, separated by commas; 0 leaves them out
    #[arg(
        short,
        long,
        value_name = "TOKENS",
        value_delimiter = ',',
        default_value = "512"
    )]
    prompt: Vec<usize>,

    /// Tokens of the decode test; 0 leaves it out
    #[arg(short = 'n', long, value_name = "TOKENS", default_value_t = 64)]
    tokens: usize,

    /// Tokens of context before the decode test, separated by commas: a test for each
    #[arg(
        short,
        long,
        value_name = "TOKENS",
        value_delimiter = ',',
        default_value = "0"
    )]
    depth: Vec<usize>,

    /// Numbers of texts that are written at once, separated by commas: a test of `-n` tokens for each
    #[arg(long, value_name = "TEXTS", value_delimiter = ',', value_parser = number::within(TEXTS))]
    parallel: Vec<usize>,

    /// Tokens of each text's prompt in these tests
    #[arg(long, value_name = "TOKENS", default_value_t = 32, value_parser = number::at_least(1))]
    parallel_prompt: usize,

    /// Tokens that the requests of a further test begin with, one request after the other: how long they wait for their first token
    #[arg(long, value_name = "TOKENS", value_parser = number::at_least(1))]
    shared_prefix: Option<usize>,

    /// Requests of this test
    #[arg(long, value_name = "REQUESTS", default_value_t = 100, value_parser = number::within(2..=1 << 20))]
    requests: usize,

    /// Texts of 8 to 256 tokens of a further test: as vectors, all together and one by one. The only test of models that generate no text
    #[arg(long, value_name = "TEXTS", value_parser = number::within(1..=1 << 20))]
    embed: Option<usize>,

    /// Numbers of threads to measure, separated by commas; without it, one thread for each core
    #[arg(short, long, value_name = "THREADS", value_delimiter = ',', value_parser = number::within(THREADS))]
    threads: Vec<usize>,

    /// Repetitions of each test
    #[arg(short, long, value_name = "COUNT", default_value_t = 5, value_parser = number::at_least(1))]
    repetitions: usize,

    /// Measure from the first run on, with nothing warmed up before
    #[arg(long)]
    no_warmup: bool,

    /// Print JSON: model, architecture, parameters, weight_bytes, kv, bytes_per_token, peak_rss_bytes, and results, each with
    /// device, threads, test, tokens, load_seconds, tokens_per_second, deviation, samples, and for several texts at once
    /// parallel, with texts, per_text, first_token_p50, first_token_p95, and for a shared prefix reuse, with requests, shared_p50, alone_p50,
    /// computed, cached, and for texts as vectors embedding, with texts, alone, ratio
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    model: String,
    architecture: String,
    parameters: u64,
    weight_bytes: u64,
    /// The type of keys and values.
    kv: &'static str,
    /// Bytes read for one decoded token: every matrix once, of a screened head the copy that screens it, and the keys and
    /// values at half the first decode test's length.
    bytes_per_token: u64,
    /// The most memory this process has held, file pages included; `null` where the system does not say.
    peak_rss_bytes: Option<u64>,
    results: Vec<TestResult>,
}

#[derive(Serialize)]
struct TestResult {
    device: String,
    threads: Option<usize>,
    test: String,
    tokens: usize,
    load_seconds: f64,
    tokens_per_second: f64,
    deviation: f64,
    samples: Vec<f64>,
    /// For several texts at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel: Option<Waiting>,
    /// For requests that begin alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    reuse: Option<Reuse>,
    /// For texts as vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<Together>,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let mut prompts = self.prompt.clone();
        prompts.retain(|tokens| *tokens > 0);
        let others = self.shared_prefix.or(self.embed);
        if prompts.is_empty() && self.tokens == 0 && others.is_none() {
            return Err(
                Usage("-p and -n are both 0: there is nothing to measure".to_owned()).into(),
            );
        }
        if !self.parallel.is_empty() && self.tokens == 0 {
            return Err(Usage("--parallel measures -n tokens of each text: -n is 0".into()).into());
        }
        let threads: Vec<Option<usize>> = match &self.threads[..] {
            [] => vec![None],
            list => list.iter().copied().map(Some).collect(),
        };
        let mut report: Option<Report> = None;
        for threads in threads {
            let opened = self.model.open(threads, self.head.mode())?;
            let model = &opened.model;
            let mut measure = |test: Test| -> anyhow::Result<u64> {
                let runs = (self.repetitions, !self.no_warmup);
                let Outcome {
                    samples,
                    cache,
                    parallel,
                    reuse,
                    embedding,
                } = test.time(model, runs).map_err(|error| {
                    match error.downcast::<bitnet::Error>() {
                        Ok(error) => context::explain(error, model, 0),
                        Err(error) => error,
                    }
                })?;
                let (mean, deviation) = mean_and_deviation(&samples);
                let result = TestResult {
                    device: model.device(),
                    threads,
                    test: test.name(),
                    tokens: test.tokens(),
                    load_seconds: opened.time.as_secs_f64(),
                    tokens_per_second: mean,
                    deviation,
                    samples,
                    parallel,
                    reuse,
                    embedding,
                };
                report
                    .get_or_insert_with(|| Report {
                        model: model.name().to_owned(),
                        architecture: model.architecture().name.clone(),
                        parameters: model.parameters(),
                        weight_bytes: model.weight_bytes(),
                        kv: model.kv_type().name(),
                        bytes_per_token: model.decode_bytes(),
                        peak_rss_bytes: None,
                        results: Vec::new(),
                    })
                    .results
                    .push(result);
                Ok(cache)
            };
            if let Some(texts) = self.embed {
                measure(Test::Embedded(Embedded { texts }))?;
                if model.embeds_only() {
                    continue;
                }
            }
            for tokens in &prompts {
                measure(Test::Prefill(*tokens))?;
            }
            if let Some(prefix) = self.shared_prefix {
                let requests = self.requests;
                measure(Test::Shared(Shared { prefix, requests }))?;
            }
            if self.tokens == 0 {
                continue;
            }
            let mut caches = Vec::new();
            for &depth in &self.depth {
                let tokens = self.tokens;
                let cache = measure(Test::Decode { tokens, depth })?;
                caches.push(if depth == 0 { cache / 2 } else { cache });
            }
            for &texts in &self.parallel {
                measure(Test::Parallel(Parallel {
                    texts,
                    prompt: self.parallel_prompt,
                    tokens: self.tokens,
                }))?;
            }
            if let (Some(report), Some(cache)) = (&mut report, caches.first()) {
                report.bytes_per_token = model.decode_bytes() + cache;
            }
        }
        let Some(mut report) = report else {
            return Ok(());
        };
        report.peak_rss_bytes = peak_rss();
        if self.json {
            print_json(&report)
        } else {
            print(&report)
        }
    }
}

/// What is measured.
#[derive(Clone, Copy)]
enum Test {
    /// So many tokens in batches.
    Prefill(usize),
    /// So many tokens one by one, behind a context of `depth`.
    Decode { tokens: usize, depth: usize },
    /// Several texts at once.
    Parallel(Parallel),
    /// Requests that begin alike.
    Shared(Shared),
    /// Texts as vectors.
    Embedded(Embedded),
}

/// Results of a test.
struct Outcome {
    /// Tokens per second of each repetition.
    samples: Vec<f64>,
    /// Bytes of keys and values at the end of one.
    cache: u64,
    parallel: Option<Waiting>,
    reuse: Option<Reuse>,
    embedding: Option<Together>,
}

impl Outcome {
    /// Of tests that have no more to say.
    fn of(samples: Vec<f64>) -> Self {
        Self {
            samples,
            cache: 0,
            parallel: None,
            reuse: None,
            embedding: None,
        }
    }
}

impl Test {
    fn name(self) -> String {
        match self {
            Self::Prefill(tokens) => format!("pp{tokens}"),
            Self::Decode { tokens, depth: 0 } => format!("tg{tokens}"),
            Self::Decode { tokens, depth } => format!("tg{tokens}@d{depth}"),
            Self::Parallel(parallel) => parallel.name(),
            Self::Shared(shared) => shared.name(),
            Self::Embedded(embedded) => embedded.name(),
        }
    }

    fn tokens(self) -> usize {
        match self {
            Self::Prefill(tokens) | Self::Decode { tokens, .. } => tokens,
            Self::Parallel(parallel) => parallel.texts * parallel.tokens,
            Self::Shared(shared) => shared.tokens(),
            Self::Embedded(embedded) => embedded.tokens(),
        }
    }

    /// Runs the test as often as asked. Before the repetitions a run that does not count, if `warm_up`.
    fn time(self, model: &Model, (repetitions, warm_up): (usize, bool)) -> anyhow::Result<Outcome> {
        let depth = match self {
            Self::Prefill(_) => 0,
            Self::Decode { depth, .. } => depth,
            Self::Parallel(parallel) => {
                let (samples, waiting) = parallel.time(model, (repetitions, warm_up))?;
                return Ok(Outcome {
                    parallel: Some(waiting),
                    ..Outcome::of(samples)
                });
            }
            Self::Shared(shared) => {
                let (rate, reuse) = shared.time(model)?;
                return Ok(Outcome {
                    reuse: Some(reuse),
                    ..Outcome::of(vec![rate])
                });
            }
            Self::Embedded(embedded) => {
                let (rate, together) = embedded.time(model)?;
                return Ok(Outcome {
                    embedding: Some(together),
                    ..Outcome::of(vec![rate])
                });
            }
        };
        let mut session = model.session()?;
        let ids = walk(model, depth + self.tokens());
        let (before, ids) = ids.split_at(depth);
        read(&mut session, before)?;
        // States of delta nets are not to be had again once they are passed.
        let hybrid = model.architecture().hybrid.as_ref();
        let begun = match hybrid.filter(|_| depth > 0) {
            Some(_) => Some(session.fork()?),
            None => None,
        };
        let mut samples = Vec::with_capacity(repetitions);
        for run in 0..repetitions + usize::from(warm_up) {
            match &begun {
                Some(begun) => session = begun.fork()?,
                None => session.truncate(depth),
            }
            let begin = Instant::now();
            match self {
                Self::Decode { .. } => decode(&mut session, ids)?,
                _ => read(&mut session, ids)?,
            }
            if run > 0 || !warm_up {
                samples.push(ids.len() as f64 / begin.elapsed().as_secs_f64().max(1e-9));
            }
        }
        Ok(Outcome {
            cache: session.cache_bytes() as u64,
            ..Outcome::of(samples)
        })
    }
}

/// Any tokens do; a fixed walk through the vocabulary makes runs comparable.
fn walk(model: &Model, tokens: usize) -> Vec<u32> {
    let vocabulary = model.vocabulary().max(1);
    (0..tokens)
        .map(|index| (index * 7919 % vocabulary) as u32)
        .collect()
}

/// Runs `ids` as a prompt: what is likeliest is asked of the last batch.
fn read(session: &mut Session, ids: &[u32]) -> anyhow::Result<()> {
    let mut pieces = ids.chunks(BATCH).peekable();
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_some() {
            session.forward(piece, LogitsFor::Nothing)?;
        } else {
            session.forward_top(piece, 1)?;
        }
    }
    Ok(())
}

/// As many forward passes as there are `ids`, each for the likeliest token.
fn decode(session: &mut Session, ids: &[u32]) -> anyhow::Result<()> {
    if !session.supports_lookahead() {
        for id in ids {
            session.forward_top(&[*id], 1)?;
        }
        return Ok(());
    }
    // Several tokens are under way at once, which only text can be that follows from itself.
    let options = GenerateOptions {
        max_tokens: ids.len(),
        sampling: SamplingOptions::greedy(),
        stop_at_end: false,
        speculation: Speculation::Off,
        ..GenerateOptions::default()
    };
    for piece in session.generate_tokens(&ids[..1], &options)? {
        piece?;
    }
    Ok(())
}

fn mean_and_deviation(samples: &[f64]) -> (f64, f64) {
    let count = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / count;
    let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
    let deviation = if samples.len() > 1 {
        (squares / (count - 1.0)).sqrt()
    } else {
        0.0
    };
    (mean, deviation)
}

/// The high-water mark of resident memory.
fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

fn print(report: &Report) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    writeln!(
        out,
        "{} ({}, {} parameters, {} of weights, keys and values {})\n",
        printable::line(&report.model),
        printable::line(&report.architecture),
        units::count(report.parameters),
        units::bytes(report.weight_bytes),
        report.kv,
    )?;
    writeln!(out, "| device | test | tokens/s | load |")?;
    writeln!(out, "| --- | ---: | ---: | ---: |")?;
    for result in &report.results {
        writeln!(
            out,
            "| {} | {} | {:.2} ± {:.2} | {} |",
            printable::line(&result.device),
            result.test,
            result.tokens_per_second,
            result.deviation,
            units::seconds(result.load_seconds),
        )?;
    }
    writeln!(out)?;
    for result in &report.results {
        if let Some(waiting) = &result.parallel {
            writeln!(
                out,
                "{}: {:.2} tokens/s for each, first token after {} in the middle, {} for one in twenty",
                result.test,
                waiting.per_text,
                units::seconds(waiting.first_token_p50),
                units::seconds(waiting.first_token_p95),
            )?;
        }
    }
    for result in &report.results {
        if let Some(reuse) = &result.reuse {
            writeln!(
                out,
                "{}: first token after {}, and {} where nothing is shared ({:.3}×); {} tokens of prompts were computed, {} were there",
                result.test,
                units::seconds(reuse.shared_p50),
                units::seconds(reuse.alone_p50),
                reuse.shared_p50 / reuse.alone_p50.max(1e-9),
                reuse.computed,
                reuse.cached,
            )?;
        }
    }
    for result in &report.results {
        if let Some(together) = &result.embedding {
            writeln!(
                out,
                "{}: {:.2} tokens/s one by one, {:.2} times that together",
                result.test, together.alone, together.ratio,
            )?;
        }
    }
    let decode = report
        .results
        .iter()
        .filter(|result| result.test.starts_with("tg") && result.parallel.is_none());
    if let Some(fastest) = decode
        .map(|result| result.tokens_per_second)
        .reduce(f64::max)
    {
        writeln!(
            out,
            "{} read per decoded token: {}/s at the fastest",
            units::bytes(report.bytes_per_token),
            units::bytes((report.bytes_per_token as f64 * fastest) as u64),
        )?;
    }
    match report.peak_rss_bytes {
        Some(bytes) => writeln!(out, "peak memory {}", units::bytes(bytes))?,
        None => writeln!(out, "peak memory: this system does not say")?,
    }
    Ok(())
}
