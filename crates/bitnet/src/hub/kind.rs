//! What a file begins with, if it is what it was asked for as.
//!
//! A network that wants a login first answers every address with a page of its own, and with success. What is kept under a
//! model's name must be a model.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// How much of a file is looked at.
pub(super) const BEGINNING: usize = 64;
/// The longest header of safetensors that its readers accept.
const MOST_HEADER_BYTES: u64 = 100_000_000;

/// What a file is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gguf,
    SafeTensors,
    /// One of these two.
    Model,
    Json,
    /// Anything but a web page.
    Text,
}

impl Kind {
    /// The kind of a repository's file.
    pub(super) fn of(name: &str) -> Self {
        match name.rsplit_once('.') {
            Some((_, "gguf")) => Self::Gguf,
            Some((_, "safetensors")) => Self::SafeTensors,
            Some((_, "json")) => Self::Json,
            _ => Self::Text,
        }
    }

    /// The kind of a file that is asked for as a model, whatever its name.
    pub(super) fn of_model(name: &str) -> Self {
        match Self::of(name) {
            kind @ (Self::Gguf | Self::SafeTensors) => kind,
            _ => Self::Model,
        }
    }

    /// What is expected and what is found instead, where a file that begins so, its first [`BEGINNING`] bytes or all that it
    /// has, is not of this kind.
    pub(super) fn objection(self, beginning: &[u8]) -> Option<(&'static str, String)> {
        let is_gguf = beginning.starts_with(b"GGUF");
        let is_safetensors = || match beginning.split_first_chunk::<8>() {
            Some((length, [b'{', ..])) => u64::from_le_bytes(*length) <= MOST_HEADER_BYTES,
            _ => false,
        };
        let (right, expected) = match self {
            Self::Gguf => (is_gguf, "a GGUF file"),
            Self::SafeTensors => (is_safetensors(), "a safetensors file"),
            Self::Model => (is_gguf || is_safetensors(), "a GGUF or safetensors file"),
            Self::Json => (
                matches!(beginning.trim_ascii_start(), [b'{' | b'[', ..]),
                "JSON",
            ),
            Self::Text => (!is_page(beginning), "the file"),
        };
        if right {
            return None;
        }
        let found = if is_page(beginning) {
            "a web page; a network that wants a login first sends one for every address: open one in a browser, then try again"
                .to_owned()
        } else if beginning.starts_with(b"version https://git-lfs") {
            "a pointer of Git LFS to it; the address of the file itself has /resolve/ in place of /raw/"
                .to_owned()
        } else if beginning.is_empty() {
            "an empty file".to_owned()
        } else {
            let shown = &beginning[..beginning.len().min(16)];
            format!("one that begins with \"{}\"", shown.escape_ascii())
        };
        Some((expected, found))
    }

    /// Whether the file at `path` can be of this kind.
    pub(super) fn fits(self, path: &Path) -> bool {
        let mut beginning = Vec::with_capacity(BEGINNING);
        File::open(path).is_ok_and(|file| {
            let read = file.take(BEGINNING as u64).read_to_end(&mut beginning);
            read.is_ok() && self.objection(&beginning).is_none()
        })
    }
}

/// Whether it is HTML, as far as that can be told.
fn is_page(beginning: &[u8]) -> bool {
    let text = beginning
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(beginning)
        .trim_ascii_start()
        .to_ascii_lowercase();
    [&b"<!doctype"[..], b"<html", b"<head", b"<script", b"<?xml"]
        .iter()
        .any(|tag| text.starts_with(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_go_by_the_name() {
        assert_eq!(Kind::of("a/b.gguf"), Kind::Gguf);
        assert_eq!(Kind::of("model.safetensors.index.json"), Kind::Json);
        assert_eq!(Kind::of("chat_template.jinja"), Kind::Text);
        assert_eq!(Kind::of_model("download"), Kind::Model);
        assert_eq!(Kind::of_model("m.safetensors"), Kind::SafeTensors);
    }

    #[test]
    fn only_what_was_asked_for_is_let_through() {
        let header = b"\x40\0\0\0\0\0\0\0{\"a\":";
        assert_eq!(Kind::Gguf.objection(b"GGUF\x03\0\0\0"), None);
        assert_eq!(Kind::SafeTensors.objection(header), None);
        assert_eq!(Kind::Model.objection(header), None);
        assert_eq!(Kind::Json.objection(b"\n {}"), None);
        assert_eq!(Kind::Text.objection(b"{{ bos_token }}"), None);
        assert_eq!(Kind::Text.objection(b""), None);
        for kind in [
            Kind::Gguf,
            Kind::SafeTensors,
            Kind::Model,
            Kind::Json,
            Kind::Text,
        ] {
            for page in [&b"<html>log in</html>"[..], b"\r\n<!DOCTYPE html>"] {
                let (_, found) = kind.objection(page).unwrap();
                assert!(found.contains("a web page"), "{kind:?}: {found}");
            }
        }
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:";
        let found = |beginning: &[u8]| Kind::Gguf.objection(beginning).unwrap().1;
        assert!(found(pointer).contains("/resolve/"));
        assert!(Kind::Gguf.objection(header).is_some());
        assert!(Kind::SafeTensors.objection(&[0xff; 64]).is_some());
        assert!(found(b"\x1b[2JGG").contains("begins with \"\\x1b[2JGG\""));
    }
}
