//! The lines of the input, and what tells them from others.

use anyhow::Context;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Bytes of the longest line. Conversations are shorter, and a file without lines must not fill the memory.
const LONGEST: usize = 16 << 20;

/// One line that is not blank.
pub(super) struct Line {
    /// From 1, blank ones counted.
    pub(super) number: usize,
    /// Its text, or why that cannot be read.
    pub(super) text: Result<String, String>,
    /// The beginning of the SHA-256 of the options and the line, in hexadecimal.
    pub(super) input: String,
}

/// Reads the lines of a file one after the other.
pub(super) struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    number: usize,
    /// The hash of what all lines share.
    shared: Sha256,
}

impl Lines {
    /// The lines of `path`; `shared` is what their texts depend on beside them.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub(super) fn open(path: &Path, shared: String) -> anyhow::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            reader: open(path)?,
            number: 0,
            shared: Sha256::new_with_prefix(shared),
        })
    }

    /// Lines read so far, blank ones counted.
    pub(super) fn read(&self) -> usize {
        self.number
    }

    /// The next line that is not blank, or none at the end.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Line>> {
        loop {
            let mut bytes = Vec::new();
            let mut limited = self.reader.by_ref().take(LONGEST as u64);
            limited
                .read_until(b'\n', &mut bytes)
                .map_err(|error| bitnet::Error::io(&self.path, error))?;
            if bytes.is_empty() {
                return Ok(None);
            }
            self.number += 1;
            let mut hash = self.shared.clone();
            let rest = if bytes.ends_with(b"\n") || bytes.len() < LONGEST {
                0
            } else {
                self.skip()?
            };
            let line = bytes.trim_ascii();
            if line.is_empty() && rest == 0 {
                continue;
            }
            hash.update(line);
            hash.update(rest.to_le_bytes());
            let hash = hash.finalize();
            let input = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
            let text = if rest > 0 {
                let found = bytes.len() + rest;
                Err(format!(
                    "expected a line of at most {LONGEST} bytes, found {found}"
                ))
            } else {
                String::from_utf8(line.to_vec()).map_err(|error| {
                    let at = error.utf8_error().valid_up_to() + 1;
                    format!("expected UTF-8, found another byte at column {at}")
                })
            };
            return Ok(Some(Line {
                number: self.number,
                text,
                input,
            }));
        }
    }

    /// Reads up to the end of a line, and counts the bytes.
    fn skip(&mut self) -> anyhow::Result<usize> {
        let mut skipped = 0;
        loop {
            let buffer = self
                .reader
                .fill_buf()
                .map_err(|error| bitnet::Error::io(&self.path, error))?;
            if buffer.is_empty() {
                return Ok(skipped);
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let len = end.map_or(buffer.len(), |end| end + 1);
            self.reader.consume(len);
            skipped += len;
            if end.is_some() {
                return Ok(skipped);
            }
        }
    }
}

/// How many lines of the file at `path` are not blank.
///
/// # Errors
/// If it cannot be read.
pub(super) fn count(path: &Path) -> anyhow::Result<usize> {
    let mut reader = open(path)?;
    let (mut lines, mut blank) = (0, true);
    loop {
        let buffer = reader
            .fill_buf()
            .map_err(|error| bitnet::Error::io(path, error))?;
        if buffer.is_empty() {
            return Ok(lines + usize::from(!blank));
        }
        for byte in buffer {
            if *byte == b'\n' {
                lines += usize::from(!blank);
                blank = true;
            } else {
                blank &= byte.is_ascii_whitespace();
            }
        }
        let len = buffer.len();
        reader.consume(len);
    }
}

fn open(path: &Path) -> anyhow::Result<BufReader<File>> {
    let file = File::open(path).map_err(|error| bitnet::Error::io(path, error))?;
    let kind = file
        .metadata()
        .map_err(|error| bitnet::Error::io(path, error))?;
    if !kind.is_file() {
        return Err(anyhow::anyhow!("it must be a file, which is read twice"))
            .with_context(|| path.display().to_string());
    }
    Ok(BufReader::new(file))
}
