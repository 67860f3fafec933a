//! `bitnet embed`: texts as vectors, and the texts of a file that are nearest to a query.

use super::print_json;
use crate::failure::Usage;
use crate::interrupt::Interrupt;
use crate::open::{ModelArguments, ThreadsArgument};
use crate::progress::Steps;
use crate::{number, parquet, printable, stdin};
use bitnet::{EmbedOptions, Embeddings, LmHeadMode, Model, Pooling};
use clap::ValueEnum;
use serde::Serialize;
use std::fs;
use std::io::{IsTerminal, Write, stdout};
use std::path::{Path, PathBuf};

/// The task of a query unless it is said: of those of the published models the one that is nearest to a search.
const TASK: &str = "Given a web search query, retrieve relevant passages that answer the query";
/// Numbers of a vector that people are shown.
const SHOWN: usize = 6;

/// Arguments of `bitnet embed`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bitnet embed -m embeddings.gguf \"a cat\" \"a kitten\" --json
  bitnet embed -m embeddings.gguf -f lines.txt --npy > vectors.npy
  bitnet embed -m embeddings.gguf -f corpus.parquet --column body --parquet vectors.parquet
  bitnet embed -m embeddings.gguf --query \"how do cats sleep?\" --similar lines.txt
  bitnet embed -m embeddings.gguf -f lines.txt --dimensions 256 --json    the first 256 numbers")]
pub(crate) struct Arguments {
    /// Texts to embed
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,

    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    threads: ThreadsArgument,

    /// Embed each line of this file, or each row of a Parquet file; - reads stdin
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// The column of the texts in Parquet files
    #[arg(long, value_name = "NAME", default_value = "text")]
    column: String,

    /// Embed this as a query: behind a sentence that says what it is for (--task)
    #[arg(long, value_name = "TEXT")]
    query: Option<String>,

    /// The task of the query [default: a search of the web]
    #[arg(long, value_name = "SENTENCE", requires = "query")]
    task: Option<String>,

    /// Print the lines of this file that are nearest to the query, or else to each text
    #[arg(long, value_name = "CORPUS")]
    similar: Option<PathBuf>,

    /// How many lines of --similar are printed
    #[arg(long, value_name = "LINES", default_value_t = 5, value_parser = number::at_least(1))]
    top: usize,

    /// How the rows of a text become one; without it, as the model is made for
    #[arg(long, value_enum, value_name = "POOLING")]
    pooling: Option<PoolingArgument>,

    /// Keep so many numbers of each vector, the first ones
    #[arg(long, value_name = "NUMBERS", value_parser = number::at_least(1))]
    dimensions: Option<usize>,

    /// Leave the length of vectors as it is
    #[arg(long)]
    no_normalize: bool,

    /// Print JSON
    #[arg(long, conflicts_with = "npy")]
    json: bool,

    /// Write the vectors to stdout as a NumPy array, f32 [texts, dimensions]
    #[arg(long, conflicts_with = "similar")]
    npy: bool,

    /// Write texts, their tokens and vectors to this Parquet file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["similar", "json", "npy"])]
    parquet: Option<PathBuf>,
}

/// [`Pooling`] as an argument; `file` is what the model's file says.
#[derive(Clone, Copy, ValueEnum)]
enum PoolingArgument {
    /// The one that the file names
    File,
    /// The last row
    Last,
    /// The mean of all rows
    Mean,
    /// The first row
    First,
}

#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    pooling: &'static str,
    normalized: bool,
    dimensions: usize,
    embeddings: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    text: &'a str,
    tokens: usize,
    embedding: &'a [f32],
}

#[derive(Serialize)]
struct Match<'a> {
    query: &'a str,
    line: usize,
    similarity: f32,
    text: &'a str,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        if self.npy && stdout().is_terminal() {
            let why = "--npy writes bytes: send them to a file, as in `… --npy > vectors.npy`";
            return Err(Usage(why.to_owned()).into());
        }
        if let Some(path) = &self.parquet {
            parquet::check(path)?;
        }
        let mut texts = self.texts.clone();
        if let Some(file) = &self.file {
            texts.extend(self.lines(file)?);
        }
        if texts.is_empty() && self.query.is_none() {
            let why = "there is nothing to embed: give a TEXT, --file or --query";
            return Err(Usage(why.to_owned()).into());
        }
        let corpus = self.similar.as_deref();
        let corpus = corpus.map(|path| self.lines(path)).transpose()?;
        // No head is computed.
        let opened = self.model.open(self.threads.threads, LmHeadMode::Full)?;
        let model = &opened.model;
        let options = EmbedOptions {
            pooling: self.pooling(model)?,
            normalize: !self.no_normalize,
            dimensions: self.dimensions,
            instruction: None,
            cancel: Interrupt::watch()?.cancel(),
        };
        let mut embeddings = embed(model, &texts, &options)?;
        if let Some(query) = &self.query {
            let task = self.task.as_deref().unwrap_or(TASK);
            let options = EmbedOptions {
                instruction: Some(task.to_owned()),
                ..options.clone()
            };
            let found = embed(model, std::slice::from_ref(query), &options)?;
            embeddings.rows.splice(0..0, found.rows);
            embeddings.tokens.splice(0..0, found.tokens);
            embeddings.truncated += found.truncated;
            texts.insert(0, query.clone());
        }
        if let Some(corpus) = corpus {
            let found = embed(model, &corpus, &options)?;
            warn_of_cuts(&found);
            return self.print_similar((&texts, &embeddings.rows), (&corpus, &found.rows));
        }
        warn_of_cuts(&embeddings);
        if let Some(path) = &self.parquet {
            return parquet::write_vectors(path, &texts, &embeddings);
        }
        self.print(model, &texts, &embeddings)
    }

    /// The lines of a file, or of stdin for `-`, that are not empty; of a Parquet file the texts of the column.
    fn lines(&self, path: &Path) -> anyhow::Result<Vec<String>> {
        if parquet::is_named(path) {
            return parquet::texts(path, &self.column);
        }
        lines(path)
    }

    fn pooling(&self, model: &Model) -> anyhow::Result<Option<Pooling>> {
        Ok(Some(match self.pooling {
            None => return Ok(None),
            Some(PoolingArgument::Last) => Pooling::Last,
            Some(PoolingArgument::Mean) => Pooling::Mean,
            Some(PoolingArgument::First) => Pooling::First,
            Some(PoolingArgument::File) => match model.architecture().pooling {
                Some(pooling) => pooling,
                None => {
                    let why = format!("{} does not say how: use --pooling last", model.name());
                    return Err(Usage(why).into());
                }
            },
        }))
    }

    fn print(
        &self,
        model: &Model,
        texts: &[String],
        embeddings: &Embeddings,
    ) -> anyhow::Result<()> {
        let dimensions = embeddings.rows.first().map_or(0, Vec::len);
        if self.npy {
            return write_npy(&embeddings.rows, dimensions);
        }
        let rows = texts.iter().zip(&embeddings.tokens).zip(&embeddings.rows);
        if self.json {
            let rows = rows.map(|((text, tokens), embedding)| Row {
                text,
                tokens: *tokens,
                embedding,
            });
            return print_json(&Report {
                model: model.name(),
                pooling: embeddings.pooling.name(),
                normalized: !self.no_normalize,
                dimensions,
                embeddings: rows.collect(),
            });
        }
        let mut out = anstream::stdout().lock();
        for ((text, tokens), row) in rows {
            let first: Vec<String> = row.iter().take(SHOWN).map(|x| format!("{x:.4}")).collect();
            let more = if row.len() > SHOWN { " …" } else { "" };
            let (text, first) = (printable::line(text), first.join(" "));
            writeln!(out, "{first}{more}  {tokens} tokens  {text}")?;
        }
        let pooling = embeddings.pooling.name();
        anstream::eprintln!("{dimensions} numbers each, pooling {pooling}; --json prints all");
        Ok(())
    }

    /// The lines of a corpus nearest to each text, the nearest first.
    fn print_similar(
        &self,
        (texts, queries): (&[String], &[Vec<f32>]),
        (corpus, rows): (&[String], &[Vec<f32>]),
    ) -> anyhow::Result<()> {
        let mut found = Vec::new();
        for (query, vector) in texts.iter().zip(queries) {
            let mut matches: Vec<Match> = (rows.iter().zip(corpus).enumerate())
                .map(|(index, (row, text))| Match {
                    query,
                    line: index + 1,
                    similarity: cosine(vector, row),
                    text,
                })
                .collect();
            matches.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
            matches.truncate(self.top);
            found.push(matches);
        }
        if self.json {
            let found: Vec<&Match> = found.iter().flatten().collect();
            return print_json(&found);
        }
        let mut out = anstream::stdout().lock();
        for matches in &found {
            if let (Some(first), true) = (matches.first(), found.len() > 1) {
                writeln!(out, "{}", printable::line(first.query))?;
            }
            for found in matches {
                let text = printable::line(found.text);
                writeln!(out, "{:.4}  {}: {text}", found.similarity, found.line)?;
            }
        }
        Ok(())
    }
}

fn embed(model: &Model, texts: &[String], options: &EmbedOptions) -> anyhow::Result<Embeddings> {
    let mut steps = Steps::new("embedding");
    Ok(model.embed_with(texts, options, |done, all| {
        steps.set(done as u64, all as u64);
    })?)
}

fn warn_of_cuts(embeddings: &Embeddings) {
    if embeddings.truncated > 0 {
        let (cut, all) = (embeddings.truncated, embeddings.rows.len());
        tracing::warn!("{cut} of {all} texts were longer than the context, and were cut to it");
    }
}

/// The lines of a file, or of stdin for `-`, that are not empty.
fn lines(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = if path.as_os_str() == "-" {
        stdin::read("the texts")?
    } else {
        fs::read_to_string(path).map_err(|error| bitnet::Error::io(path, error))?
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    Ok(lines.map(str::to_owned).collect())
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
        products.sum()
    };
    (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f64::MIN_POSITIVE)) as f32
}

/// Writes rows as NumPy's format of version 1.0: a header that fills 64 bytes or a multiple, then little-endian numbers.
fn write_npy(rows: &[Vec<f32>], dimensions: usize) -> anyhow::Result<()> {
    const BEFORE: usize = 10;
    let mut header = format!(
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {dimensions}), }}",
        rows.len()
    );
    while !(BEFORE + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len())?.to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(rows.iter().flatten().flat_map(|value| value.to_le_bytes()));
    stdout().lock().write_all(&bytes)?;
    Ok(())
}
