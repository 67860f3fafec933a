//! `bitnet logits`: the logits of every position, for comparing implementations and machines.

use crate::context;
use crate::open::{ModelArguments, ThreadsArgument};
use crate::{number, stdin};
use bitnet::LmHeadMode;
use bitnet::LogitsFor;
use bitnet::tokenizer::EncodeOptions;
use sha2::{Digest, Sha256};
use std::io::{BufWriter, Write, stdout};

/// Arguments of `bitnet logits`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bitnet logits --tokens 1,2,3 --json                {\"logits\": [[…], […], […]]}
  bitnet logits -m model.gguf --text \"Hello\" --digest
  bitnet logits -m model.gguf --tokens 1,2,3 --digest -t 1 --batch 1   the same digest: that is the promise
  bitnet logits -m model.gguf --tokens 1,2,3 --activations f32 --json  without the rounding of activations")]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,

    #[command(flatten)]
    threads: ThreadsArgument,

    /// The tokens to run, by their ids
    #[arg(
        long,
        value_name = "IDS",
        value_delimiter = ',',
        required_unless_present = "text"
    )]
    tokens: Vec<u32>,

    /// Run the tokens of this text instead, with the model's beginning-of-text token in front; - reads it from stdin
    #[arg(long, conflicts_with = "tokens")]
    text: Option<String>,

    /// Tokens run at once; the result does not depend on it
    #[arg(long, value_name = "TOKENS", default_value_t = 128, value_parser = number::at_least(1))]
    batch: usize,

    /// Print {"logits": [[…] for each position]}
    #[arg(long)]
    json: bool,

    /// Print the SHA-256 of the logits' little-endian bits, which are the same on every processor
    #[arg(long, conflicts_with = "json")]
    digest: bool,
}

impl Arguments {
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        if self.digest {
            self.model.require_bits("--digest")?;
        }
        let text = match self.text.take() {
            Some(text) if text == "-" => Some(stdin::read("the text")?),
            text => text,
        };
        let model = self
            .model
            .open(self.threads.threads, LmHeadMode::Full)?
            .model;
        let tokenizer = model.tokenizer();
        let tokens = match &text {
            Some(text) => tokenizer.encode(
                text,
                EncodeOptions {
                    add_bos: tokenizer.add_bos(),
                    parse_special: false,
                },
            )?,
            None => self.tokens,
        };
        let mut session = model.session()?;
        let mut out = BufWriter::new(stdout().lock());
        let mut digest = Sha256::new();
        let mut position = 0;
        if self.json {
            write!(out, "{{\"logits\":[")?;
        }
        // Positions are written as they come: all of them together would fill the memory.
        for piece in tokens.chunks(self.batch) {
            let logits = session
                .forward(piece, LogitsFor::All)
                .map_err(|error| context::explain(error, &model, 0))?;
            for row in logits.chunks_exact(model.vocabulary()) {
                if self.digest {
                    for value in row {
                        digest.update(value.to_le_bytes());
                    }
                } else if self.json {
                    if position > 0 {
                        out.write_all(b",")?;
                    }
                    serde_json::to_writer(&mut out, row)?;
                } else {
                    for (index, value) in row.iter().enumerate() {
                        let space = if index == 0 { "" } else { " " };
                        write!(out, "{space}{value}")?;
                    }
                    writeln!(out)?;
                }
                position += 1;
            }
        }
        if self.json {
            writeln!(out, "]}}")?;
        }
        if self.digest {
            let hex: String = digest
                .finalize()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            writeln!(out, "{hex}")?;
        }
        out.flush()?;
        Ok(())
    }
}
