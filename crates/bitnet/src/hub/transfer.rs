//! One file over HTTP, into a partial file that survives broken connections and ended programs.
//!
//! Every attempt asks for the bytes from the end of the partial file on (`Range`), on condition that the file is still the
//! same (`If-Range` with the validator of the first answer). The digest is computed along the way, over what an earlier
//! attempt left too.

use super::http::{Failure, Target, persist, text_header};
use super::kind::{BEGINNING, Kind};
use super::{HubOptions, Progress};
use crate::{DownloadFault, Error, Result};
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use ureq::Agent;
use ureq::http::{HeaderMap, StatusCode};

/// What is known of a file before it is here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Expected<'a> {
    /// Size in bytes.
    pub(super) size: Option<u64>,
    /// SHA-256, 64 lower-case hex digits.
    pub(super) sha256: Option<&'a str>,
}

/// A file to fetch.
pub(super) struct Transfer<'a> {
    /// Where it is, and for whom it is asked for.
    pub(super) target: Target<'a>,
    /// The file's name, for progress.
    pub(super) name: &'a str,
    /// What it must begin as.
    pub(super) kind: Kind,
    /// Where the bytes go.
    pub(super) partial: &'a Path,
    /// Where the validator is kept for the next program. `None`: the partial file's name already stands for its content.
    pub(super) validator: Option<&'a Path>,
    /// What the content must be.
    pub(super) expected: Expected<'a>,
}

/// The SHA-256 of `bytes` in hex.
pub(super) fn sha256_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The partial file, its length, its beginning and the digest of its content so far.
struct Partial<'a> {
    path: &'a Path,
    file: File,
    length: u64,
    beginning: Vec<u8>,
    digest: Sha256,
}

impl<'a> Partial<'a> {
    /// Opens what an earlier attempt left, or an empty file.
    fn open(path: &'a Path, options: &HubOptions) -> Result<Self> {
        let at = |error| Error::io(path, error);
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(at)?;
        let mut partial = Self {
            path,
            file,
            length: 0,
            beginning: Vec::new(),
            digest: Sha256::new(),
        };
        let mut buffer = vec![0; BUFFER];
        loop {
            options.cancel.check()?;
            match partial.file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => partial.took(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(at(error)),
            }
        }
        Ok(partial)
    }

    /// Counts `bytes`, which follow in the file.
    fn took(&mut self, bytes: &[u8]) {
        let room = BEGINNING.saturating_sub(self.beginning.len());
        self.beginning
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.digest.update(bytes);
        self.length += bytes.len() as u64;
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|error| Error::io(self.path, error))?;
        self.took(bytes);
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(|error| Error::io(self.path, error))?;
        self.digest = Sha256::new();
        self.beginning.clear();
        self.length = 0;
        Ok(())
    }
}

const BUFFER: usize = 128 << 10;

/// What the answers so far have said about the file.
#[derive(Default)]
struct Known {
    /// The value for `If-Range`: a strong entity tag or a date.
    validator: Option<String>,
    /// Size in bytes.
    total: Option<u64>,
    /// Whether progress has begun.
    started: bool,
}

impl Transfer<'_> {
    /// Fetches what is missing and verifies the whole; the content is then in the partial file. Returns its size.
    pub(super) fn run(
        &self,
        agent: &Agent,
        options: &HubOptions,
        progress: &dyn Progress,
    ) -> Result<u64> {
        let mut partial = Partial::open(self.partial, options)?;
        let mut known = Known {
            total: self.expected.size,
            ..Known::default()
        };
        if let Some(path) = self.validator {
            known.validator = fs::read_to_string(path)
                .ok()
                .filter(|text| !text.is_empty());
            if known.validator.is_none() {
                // Nothing tells which file these bytes are from.
                partial.clear()?;
            }
        }
        if partial.length > 0 && self.kind.objection(&partial.beginning).is_some() {
            partial.clear()?;
        }
        let mut inherited = partial.length > 0;
        loop {
            persist(options, || {
                let outcome = self.attempt(agent, options, progress, &mut partial, &mut known);
                (partial.length, outcome)
            })
            .map_err(|failure| failure.into_error(self.target.model, partial.length))?;
            let found = hex(&partial.digest.clone().finalize());
            match self.expected.sha256 {
                Some(expected) if !expected.eq_ignore_ascii_case(&found) => {
                    let length = partial.length;
                    partial.clear()?;
                    known.started = false;
                    if !inherited {
                        let expected = format!("SHA-256 {expected}");
                        let found = format!("{found} in {length} bytes");
                        return Err(self.wrong(expected, found));
                    }
                    // The fault may be in what an earlier program left: once more, from the start.
                    inherited = false;
                }
                _ => break,
            }
        }
        partial
            .file
            .sync_data()
            .map_err(|error| Error::io(self.partial, error))?;
        progress.finish();
        Ok(partial.length)
    }

    fn attempt(
        &self,
        agent: &Agent,
        options: &HubOptions,
        progress: &dyn Progress,
        partial: &mut Partial<'_>,
        known: &mut Known,
    ) -> Result<(), Failure> {
        if known.total.is_some_and(|total| partial.length > total) {
            partial.clear()?;
        }
        if partial.length > 0 && known.total == Some(partial.length) {
            self.begin(progress, known, partial.length);
            return Ok(());
        }

        let range = format!("bytes={}-", partial.length);
        let mut extra = Vec::new();
        if partial.length > 0 {
            extra.push(("range", range.as_str()));
            if let Some(validator) = &known.validator {
                extra.push(("if-range", validator.as_str()));
            }
        }
        let response = self.target.get(agent, &extra)?;
        let status = response.status();
        let headers = response.headers();
        let range = text_header(headers, "content-range");
        let validator = validator_of(headers);

        if status == StatusCode::RANGE_NOT_SATISFIABLE && partial.length > 0 {
            // `bytes */N`: nothing lies behind N. Complete if that is what we have, else not the file we began.
            let end = range
                .as_deref()
                .and_then(|text| text.strip_prefix("bytes */"));
            if end.and_then(|end| end.parse().ok()) == Some(partial.length)
                && self.expected.size.is_none_or(|size| size == partial.length)
            {
                self.begin(progress, known, partial.length);
                return Ok(());
            }
            self.begin_over(partial, known)?;
            return Err(self.broken("the partial file was not a beginning of this one"));
        }
        self.target.check_status(&response)?;

        let total = if status == StatusCode::PARTIAL_CONTENT {
            let (from, total) =
                range
                    .as_deref()
                    .and_then(parse_content_range)
                    .ok_or_else(|| {
                        Failure::Final(self.target.not_followed(format_args!(
                            "the server sent a part without saying which (Content-Range: {})",
                            range.as_deref().unwrap_or("none")
                        )))
                    })?;
            let changed =
                validator.is_some() && known.validator.is_some() && validator != known.validator
                    || total.is_some() && known.total.is_some() && total != known.total;
            if from != partial.length || changed {
                self.begin_over(partial, known)?;
                return Err(self.broken("the file changed on the server"));
            }
            total
        } else {
            text_header(headers, "content-length").and_then(|length| length.parse().ok())
        };
        let mut body = response.into_body().into_reader();
        let mut beginning = Vec::new();
        if status != StatusCode::PARTIAL_CONTENT {
            // The whole file. What it is shows before what has arrived is forgotten for it: it may be a page that asks for a
            // login.
            body.by_ref()
                .take(BEGINNING as u64)
                .read_to_end(&mut beginning)
                .map_err(|error| self.broken(format_args!("the connection broke: {error}")))?;
            let short = (beginning.len() as u64) < total.unwrap_or_default().min(BEGINNING as u64);
            if short {
                return Err(self.broken("the connection ended at the beginning of the file"));
            }
            if let Some((expected, found)) = self.kind.objection(&beginning) {
                return Err(Failure::Final(self.wrong(expected, found)));
            }
        }
        if let (Some(expected), Some(total)) = (self.expected.size, total)
            && expected != total
        {
            let expected = format!("{expected} bytes");
            return Err(Failure::Final(self.wrong(expected, total)));
        }
        if status != StatusCode::PARTIAL_CONTENT && partial.length > 0 {
            // It has changed, or the server knows no ranges.
            self.begin_over(partial, known)?;
        }
        known.total = self.expected.size.or(total).or(known.total);
        if validator.is_some() && validator != known.validator {
            if let Some(path) = self.validator {
                let text = validator.as_deref().unwrap_or_default();
                fs::write(path, text).map_err(|error| Error::io(path, error))?;
            }
            known.validator = validator;
        }

        self.begin(progress, known, partial.length);
        partial.append(&beginning)?;
        progress.advance(beginning.len() as u64);
        let mut buffer = vec![0; BUFFER];
        loop {
            options.cancel.check()?;
            match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    partial.append(&buffer[..count])?;
                    progress.advance(count as u64);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(self.broken(format_args!("the connection broke: {error}")));
                }
            }
            if let Some(total) = known.total
                && partial.length > total
            {
                let length = partial.length;
                partial.clear()?;
                let expected = format!("{total} bytes");
                let found = format!("{length} and more");
                return Err(Failure::Final(self.wrong(expected, found)));
            }
        }
        match known.total {
            Some(total) if partial.length < total => Err(self.broken(format_args!(
                "the connection ended after {} of {total} bytes",
                partial.length
            ))),
            _ => Ok(()),
        }
    }

    /// Tells progress, once per beginning.
    fn begin(&self, progress: &dyn Progress, known: &mut Known, resumed: u64) {
        if !known.started {
            known.started = true;
            progress.start(self.name, known.total, resumed);
        }
    }

    /// Forgets what has arrived: it is from another file than the server has now.
    fn begin_over(&self, partial: &mut Partial<'_>, known: &mut Known) -> Result<()> {
        partial.clear()?;
        if let Some(path) = self.validator
            && let Err(error) = fs::remove_file(path)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(Error::io(path, error));
        }
        *known = Known {
            total: self.expected.size,
            ..Known::default()
        };
        Ok(())
    }

    /// An error about content that is not what it must be.
    fn wrong(&self, expected: impl fmt::Display, found: impl fmt::Display) -> Error {
        self.target.refused(DownloadFault::Content {
            expected: expected.to_string(),
            found: found.to_string(),
            advice: "nothing of it was kept; try again, or get the file from elsewhere".into(),
        })
    }

    fn broken(&self, what: impl fmt::Display) -> Failure {
        Failure::Broken(self.target.trouble(what))
    }
}

/// What `If-Range` may carry: a strong entity tag, else a date.
fn validator_of(headers: &HeaderMap) -> Option<String> {
    text_header(headers, "etag")
        .filter(|tag| tag.starts_with('"'))
        .or_else(|| text_header(headers, "last-modified"))
        .filter(|text| !text.is_empty())
}

/// `bytes 5-9/10` as (5, 10); a total of `*` is none.
fn parse_content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, to) = range.split_once('-')?;
    let (from, to): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
    let total = match total {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    (from <= to && total.is_none_or(|total| to < total)).then_some((from, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        assert_eq!(parse_content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse_content_range("bytes 5-9/*"), Some((5, None)));
        for wrong in [
            "bytes 9-5/10",
            "bytes 5-10/10",
            "bytes */10",
            "5-9/10",
            "bytes 5-9",
        ] {
            assert_eq!(parse_content_range(wrong), None, "{wrong}");
        }
    }
}
