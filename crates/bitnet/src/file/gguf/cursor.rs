//! Reading little-endian fields from a byte buffer, every length checked before it is used.

use std::fmt::Display;

use super::super::{Bytes, quoted};
use crate::{Error, Result};

/// A position in a file's bytes. Each read names the field it is for, so that an error can say it.
pub(super) struct Cursor<'a> {
    file: &'a str,
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(file: &'a str, bytes: &'a Bytes) -> Self {
        Self { file, bytes, at: 0 }
    }

    /// Bytes consumed so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Bytes not yet consumed.
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn malformed(
        &self,
        what: impl Display,
        expected: impl Display,
        found: impl Display,
    ) -> Error {
        Error::malformed(self.file, what, expected, found)
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: u64, what: impl Display) -> Result<&'a [u8]> {
        match usize::try_from(len) {
            Ok(len) if len <= self.remaining() => {
                let start = self.at;
                self.at += len;
                Ok(&self.bytes[start..self.at])
            }
            _ => Err(self.malformed(
                what,
                format_args!("at most the {} bytes that remain", self.remaining()),
                format_args!("{len} bytes"),
            )),
        }
    }

    /// The bytes from `start` up to here, sharing the file's memory.
    pub(super) fn since(&self, start: usize) -> Bytes {
        self.bytes.slice(start..self.at)
    }

    fn array<const N: usize>(&mut self, what: impl Display) -> Result<[u8; N]> {
        let mut field = [0; N];
        field.copy_from_slice(self.take(N as u64, what)?);
        Ok(field)
    }

    pub(super) fn u32(&mut self, what: impl Display) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: impl Display) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A string: its length as u64, then that many bytes.
    pub(super) fn string(&mut self, what: impl Display) -> Result<&'a [u8]> {
        let len = self.u64(&what)?;
        self.take(len, what)
    }

    /// A string of `1..=longest` bytes of UTF-8.
    pub(super) fn name(&mut self, longest: usize, what: impl Display) -> Result<&'a str> {
        let bytes = self.string(&what)?;
        if bytes.is_empty() || bytes.len() > longest {
            return Err(self.malformed(
                what,
                format_args!("1 to {longest} bytes"),
                format_args!("{} bytes", bytes.len()),
            ));
        }
        std::str::from_utf8(bytes)
            .map_err(|_| self.malformed(what, "UTF-8", format_args!("the bytes {}", quoted(bytes))))
    }

    /// A count of records of at least `record` bytes each, no more than `most`.
    pub(super) fn count(
        &self,
        value: u64,
        record: usize,
        most: usize,
        what: impl Display,
    ) -> Result<usize> {
        let fits = self.remaining() / record;
        match usize::try_from(value) {
            Ok(count) if count <= fits && count <= most => Ok(count),
            _ => Err(self.malformed(what, format_args!("at most {}", fits.min(most)), value)),
        }
    }
}
