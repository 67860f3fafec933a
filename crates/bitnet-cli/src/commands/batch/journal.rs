//! Texts as they end, and in the end in the order of the input.
//!
//! `OUTPUT.journal` gets a line for each text at the moment it ends, so that a killed run loses only those that were being
//! written. When all are there, they are sorted into `OUTPUT.sorted`, which becomes `OUTPUT` at once.

use super::lines::Line;
use anyhow::{Context, anyhow, bail};
use bitnet::Error;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The text of a line, or why there is none.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) line: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<serde_json::Value>,
    /// [`Line::input`].
    pub(super) input: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) finish_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) seed: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) prompt_tokens: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) generated_tokens: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

/// Where an entry is, and what of it is needed to know that it belongs to a line.
struct Place {
    start: u64,
    bytes: u64,
    input: String,
    failed: bool,
}

/// The journal of a run.
pub(super) struct Journal {
    output: PathBuf,
    path: PathBuf,
    file: File,
    end: u64,
    entries: BTreeMap<usize, Place>,
}

impl Journal {
    /// The journal of the run that writes `output`: that of an earlier one, if there is any and it shall not `restart`.
    ///
    /// # Errors
    /// If another run has it, a file cannot be read or written, or `output` is something else.
    pub(super) fn open(input: &Path, output: &Path, restart: bool) -> anyhow::Result<Self> {
        let path = beside(output, ".journal");
        if same(input, output) || same(input, &path) {
            bail!(
                "{}: it is the input: choose another file for the output",
                output.display()
            );
        }
        // An earlier run that is complete: this one checks it, and does what was added to the input.
        let unfinished = fs::metadata(&path).is_ok_and(|journal| journal.len() > 0);
        let complete = if restart || unfinished || !output.exists() {
            None
        } else {
            let file = File::open(output).map_err(|error| Error::io(output, error))?;
            let (_, entries) = read(&file, output).context(
                "the output exists: choose another file, or let --restart write it anew",
            )?;
            Some((file, entries))
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options
            .open(&path)
            .map_err(|error| Error::io(&path, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("{}: another run is writing it", path.display());
            }
            Err(TryLockError::Error(error)) => return Err(Error::io(&path, error).into()),
        }
        if restart {
            file.set_len(0).map_err(|error| Error::io(&path, error))?;
        }
        let (end, entries) = match complete {
            None => read(&file, &path)?,
            Some((complete, entries)) => {
                let end = copy(&complete, &mut file).map_err(|error| Error::io(&path, error))?;
                (end, entries)
            }
        };
        // What a killed run had only half written.
        file.set_len(end).map_err(|error| Error::io(&path, error))?;
        file.seek(SeekFrom::End(0))
            .map_err(|error| Error::io(&path, error))?;
        Ok(Self {
            output: output.to_owned(),
            path,
            file,
            end,
            entries,
        })
    }

    /// Whether the text of `line` is there; if so, whether it is an error.
    ///
    /// # Errors
    /// If it is that of another line.
    pub(super) fn has(&self, line: &Line) -> anyhow::Result<Option<bool>> {
        match self.entries.get(&line.number) {
            None => Ok(None),
            Some(place) if place.input == line.input => Ok(Some(place.failed)),
            Some(place) => Err(anyhow!(
                "{}: line {} of the input: expected the line and the options of the earlier run ({}), found others ({}): \
                 choose another file, or let --restart write it anew",
                self.output.display(),
                line.number,
                place.input,
                line.input
            )),
        }
    }

    /// Writes an entry down.
    ///
    /// # Errors
    /// If the disk is full, or the like.
    pub(super) fn append(&mut self, entry: &Entry) -> anyhow::Result<()> {
        let mut bytes = serde_json::to_vec(entry)?;
        bytes.push(b'\n');
        self.file
            .write_all(&bytes)
            .map_err(|error| Error::io(&self.path, error))?;
        self.note(entry, bytes.len() as u64);
        Ok(())
    }

    fn note(&mut self, entry: &Entry, bytes: u64) {
        self.entries
            .insert(entry.line, Place::of(entry, self.end, bytes));
        self.end += bytes;
    }

    /// Writes the output, which has an entry for each of the input's `lines` that is not blank.
    ///
    /// # Errors
    /// If there are entries for lines behind those, or a file cannot be written.
    pub(super) fn finish(&mut self, lines: usize) -> anyhow::Result<()> {
        if let Some((line, _)) = self.entries.range(lines + 1..).next() {
            bail!(
                "{}: expected texts for the {lines} lines of the input, found one for line {line}: choose another file, or \
                 let --restart write it anew",
                self.output.display()
            );
        }
        let sorted = beside(&self.output, ".sorted");
        let write = || {
            let mut out = BufWriter::new(File::create(&sorted)?);
            let mut journal = BufReader::new(&self.file);
            for place in self.entries.values() {
                journal.seek(SeekFrom::Start(place.start))?;
                std::io::copy(&mut journal.by_ref().take(place.bytes), &mut out)?;
            }
            out.into_inner()?.sync_all()?;
            fs::rename(&sorted, &self.output)
        };
        write().map_err(|error| Error::io(&sorted, error))?;
        self.entries.clear();
        Ok(())
    }
}

impl Drop for Journal {
    /// Removes a journal that holds nothing which the output does not.
    fn drop(&mut self) {
        if self.entries.is_empty() {
            // It is empty, or checked again by the next run.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Place {
    fn of(entry: &Entry, start: u64, bytes: u64) -> Self {
        Self {
            start,
            bytes,
            input: entry.input.clone(),
            failed: entry.error.is_some(),
        }
    }
}

/// The entries of a file, and where the last whole one ends.
fn read(file: &File, path: &Path) -> anyhow::Result<(u64, BTreeMap<usize, Place>)> {
    let (mut end, mut entries) = (0, BTreeMap::new());
    let mut reader = BufReader::new(file);
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        reader
            .read_until(b'\n', &mut bytes)
            .map_err(|error| Error::io(path, error))?;
        if !bytes.ends_with(b"\n") {
            break;
        }
        let entry: Entry = serde_json::from_slice(&bytes).map_err(|error| {
            anyhow!(
                "{}: line {number}: expected a result of this command, found {error}",
                path.display()
            )
        })?;
        let place = Place::of(&entry, end, bytes.len() as u64);
        if entries.insert(entry.line, place).is_some() {
            bail!(
                "{}: line {number}: expected one result for line {} of the input, found two",
                path.display(),
                entry.line
            );
        }
        end += bytes.len() as u64;
    }
    Ok((end, entries))
}

fn copy(mut from: &File, to: &mut File) -> std::io::Result<u64> {
    from.seek(SeekFrom::Start(0))?;
    to.seek(SeekFrom::Start(0))?;
    std::io::copy(&mut from, to)
}

/// The path with `end` behind its name.
pub(super) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

fn same(a: &Path, b: &Path) -> bool {
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}
