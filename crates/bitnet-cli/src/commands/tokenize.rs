//! `bitnet tokenize`: the tokens of a text.

use super::print_json;
use crate::open::open_file;
use crate::stdin;
use bitnet::tokenizer::{EncodeOptions, Tokenizer};
use serde::Serialize;
use std::ffi::OsString;
use std::io::{Write, stdout};

/// Arguments of `bitnet tokenize`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bitnet tokenize \"Once upon a time\"
  bitnet tokenize -m 2b4t \"The capital of France is\" --json
  bitnet tokenize -m 2b4t --special \"<|eot_id|>\"     as one token
  bitnet tokenize - < text.txt")]
pub(crate) struct Arguments {
    /// A path, an address, hf:owner/repo[/file] or a short name; without it, the built-in demo model
    #[arg(short, long, value_name = "MODEL")]
    model: Option<OsString>,

    /// The text; - reads it from stdin
    text: String,

    /// Let the text's spelling of special tokens stand for them
    #[arg(long)]
    special: bool,

    /// Leave out the beginning-of-text token
    #[arg(long)]
    no_bos: bool,

    /// Print JSON: {"ids": […], "pieces": […]}
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    ids: Vec<u32>,
    pieces: Vec<String>,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let text = if self.text == "-" {
            stdin::read("the text")?
        } else {
            self.text
        };
        let tokenizer = Tokenizer::from_file(&open_file(self.model.as_deref())?)?;
        let ids = tokenizer.encode(
            &text,
            EncodeOptions {
                add_bos: tokenizer.add_bos() && !self.no_bos,
                parse_special: self.special,
            },
        )?;
        let piece = |id: u32| {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            if bytes.is_empty() {
                // A control token adds nothing to a text; its name says what it is.
                tokenizer.token_text(id).unwrap_or_default()
            } else {
                String::from_utf8_lossy(&bytes).into_owned()
            }
        };
        let pieces: Vec<String> = ids.iter().map(|id| piece(*id)).collect();
        if self.json {
            return print_json(&Report { ids, pieces });
        }
        let mut out = stdout().lock();
        for (id, piece) in ids.iter().zip(&pieces) {
            // `Debug` shows what a terminal would act on.
            writeln!(out, "{id:>7}  {piece:?}")?;
        }
        Ok(())
    }
}
