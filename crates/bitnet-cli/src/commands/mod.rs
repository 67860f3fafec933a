//! The commands, one file each. `Arguments` is what clap reads, `Arguments::run` does the work.

pub(crate) mod batch;
pub(crate) mod bench;
pub(crate) mod chat;
pub(crate) mod convert;
pub(crate) mod devices;
pub(crate) mod embed;
mod form;
pub(crate) mod inspect;
pub(crate) mod logits;
mod memory;
pub(crate) mod perplexity;
mod reply;
pub(crate) mod run;
mod sampling;
pub(crate) mod serve;
pub(crate) mod synth;
pub(crate) mod tokenize;

use crate::printable;
use serde::Serialize;
use std::io::{self, Write};

/// Prints `value` as one line of JSON on stdout. A terminal acts on nothing in it, and its strings lose nothing.
fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = printable::json(serde_json::to_string(value)?);
    text.push('\n');
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}
