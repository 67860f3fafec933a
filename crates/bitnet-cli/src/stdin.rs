//! A text from stdin, which is what `-` stands for.

use anyhow::Context;
use std::io::{Read, stdin};

/// All of stdin, which must be UTF-8; `what` it is, for errors.
pub(crate) fn read(what: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    stdin()
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {what} from stdin"))?;
    Ok(text)
}
