//! What a model's name means: a path, an address, or a place in a repository on the Hugging Face hub.

use super::transfer::Expected;
use super::{HubOptions, KNOWN_MODELS, refused};
use crate::{DownloadFault, Result};
use std::path::{Path, PathBuf};

/// Where a model comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A file or folder that exists.
    Path(PathBuf),
    /// A file behind an address.
    Address(String),
    /// A file of a repository, or the model that the repository is, and what the file with the weights is pinned to.
    Repository {
        place: Place,
        pin: Expected<'static>,
    },
}

/// A place on the hub. Every part is checked: none can leave the folder that it names in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// `owner/repo`.
    pub(super) repository: String,
    /// A path inside the repository; none means "the model in it".
    pub(super) file: Option<String>,
    /// A branch, tag or commit.
    pub(super) revision: String,
}

impl Source {
    pub(super) fn parse(model: &str, options: &HubOptions) -> Result<Self> {
        let pin = Expected::default();
        if let Some(rest) = model.strip_prefix("hf:") {
            let place = Place::parse(model, rest)?;
            return Ok(Self::Repository { place, pin });
        }
        if model.starts_with("http://") || model.starts_with("https://") {
            return Ok(match page_on_hub(model, &options.endpoint) {
                Some(place) => Self::Repository { place, pin },
                None => Self::Address(model.to_owned()),
            });
        }
        if Path::new(model).exists() {
            return Ok(Self::Path(PathBuf::from(model)));
        }
        if let Some(known) = KNOWN_MODELS.iter().find(|known| known.name == model) {
            let rest = known.source.strip_prefix("hf:").unwrap_or(known.source);
            let place = Place::parse(model, rest)?;
            let pin = Expected {
                size: known.bytes,
                sha256: known.sha256,
            };
            return Ok(Self::Repository { place, pin });
        }
        Err(unknown(model))
    }
}

impl Place {
    /// Parses `owner/repo[/path/file][@revision]`.
    fn parse(model: &str, text: &str) -> Result<Self> {
        let (path, revision) = text.split_once('@').unwrap_or((text, "main"));
        let mut parts = path.splitn(3, '/');
        let form = || {
            let why = "expected hf:owner/repo, hf:owner/repo/file or either with @revision";
            refused(model, DownloadFault::Name { why: why.into() })
        };
        let (Some(owner), Some(name)) = (parts.next(), parts.next()) else {
            return Err(form());
        };
        let file = parts.next();
        let sound = is_plain_name(owner)
            && is_plain_name(name)
            && revision.split('/').all(is_plain_name)
            && file.is_none_or(is_safe_path);
        if !sound {
            return Err(form());
        }
        Ok(Self {
            repository: format!("{owner}/{name}"),
            file: file.map(str::to_owned),
            revision: revision.to_owned(),
        })
    }
}

/// `https://huggingface.co/owner/repo/(blob|resolve)/revision/file`, the addresses that people copy from a browser.
fn page_on_hub(address: &str, endpoint: &str) -> Option<Place> {
    let rest = [endpoint, "https://huggingface.co"]
        .iter()
        .find_map(|hub| address.strip_prefix(hub)?.strip_prefix('/'))?;
    let rest = rest.split(['?', '#']).next()?;
    let mut parts = rest.splitn(5, '/');
    let (owner, name, kind, revision, file) = (
        parts.next()?,
        parts.next()?,
        parts.next()?,
        parts.next()?,
        parts.next()?,
    );
    let sound = is_plain_name(owner)
        && is_plain_name(name)
        && matches!(kind, "blob" | "resolve")
        && is_plain_name(revision)
        && is_safe_path(file)
        && !file.contains('%');
    sound.then(|| Place {
        repository: format!("{owner}/{name}"),
        file: Some(file.to_owned()),
        revision: revision.to_owned(),
    })
}

/// Whether `name` can be a folder's name: the characters that the hub allows, and no way up.
pub(super) fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Whether `path` is relative, has no way up, and means the same on every system.
pub(super) fn is_safe_path(path: &str) -> bool {
    path.len() <= 1024
        && path.split('/').all(|part| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && !part
                    .chars()
                    .any(|letter| letter.is_control() || matches!(letter, '\\' | ':'))
        })
}

/// The last part of the address, with only the characters that no file system minds.
pub(super) fn file_name(address: &str) -> String {
    let path = address.split(['?', '#']).next().unwrap_or_default();
    let after_scheme = path.split_once("://").map_or(path, |(_, rest)| rest);
    let last = match after_scheme.rsplit_once('/') {
        Some((_, last)) => last,
        None => "",
    };
    let name: String = last
        .chars()
        .map(|letter| match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => letter,
            _ => '_',
        })
        .take(120)
        .collect();
    let name = name.trim_matches('.');
    if name.is_empty() {
        "model".to_owned()
    } else {
        name.to_owned()
    }
}

/// `text` with everything percent-encoded that has a meaning in an address; slashes stay when `keep_slashes`.
pub(super) fn encode(text: &str, keep_slashes: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'~' => {
                encoded.push(char::from(byte));
            }
            b'/' if keep_slashes => encoded.push('/'),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// `text`, an address or not, as it may be shown: without the name and password that an address can have before its host.
pub(super) fn shown(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, behind) = rest.split_at(end);
    // A password with a slash that is not percent-encoded: what is before it would have to be a host and a port.
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    let torn = !authority.ends_with(']') && port.bytes().any(|byte| !byte.is_ascii_digit());
    let (secret, shown) = match authority.rsplit_once('@') {
        Some((_, host)) => (true, format!("{host}{behind}")),
        None if torn => match behind.rsplit_once('@') {
            Some((_, host)) => (true, host.to_owned()),
            None => (false, rest.to_owned()),
        },
        None => (false, rest.to_owned()),
    };
    let hidden = if secret { "(hidden)@" } else { "" };
    format!("{scheme}://{hidden}{shown}")
}

fn unknown(model: &str) -> crate::Error {
    let names: Vec<&str> = KNOWN_MODELS.iter().map(|known| known.name).collect();
    let looks_like_repository = model
        .split_once('/')
        .is_some_and(|(owner, name)| is_plain_name(owner) && is_plain_name(name));
    let hint = if looks_like_repository {
        format!(" (for the repository on Hugging Face, say hf:{model})")
    } else {
        String::new()
    };
    let why = format!(
        "no such file or folder{hint}; a model is a path, an http(s) address, hf:owner/repo[/file][@revision], or one of {}",
        names.join(", ")
    );
    refused(model, DownloadFault::Name { why })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(model: &str) -> Result<Source> {
        Source::parse(model, &HubOptions::default())
    }

    fn place(repository: &str, file: Option<&str>, revision: &str) -> Source {
        Source::Repository {
            place: Place {
                repository: repository.to_owned(),
                file: file.map(str::to_owned),
                revision: revision.to_owned(),
            },
            pin: Expected::default(),
        }
    }

    #[test]
    fn reads_every_form() {
        assert_eq!(parse("hf:a/b").unwrap(), place("a/b", None, "main"));
        assert_eq!(
            parse("hf:a/b/sub/c.gguf@refs/pr/1").unwrap(),
            place("a/b", Some("sub/c.gguf"), "refs/pr/1")
        );
        assert_eq!(
            parse("https://huggingface.co/a/b/blob/main/c.gguf?download=true").unwrap(),
            place("a/b", Some("c.gguf"), "main")
        );
        assert!(matches!(
            parse("https://example.org/c.gguf").unwrap(),
            Source::Address(_)
        ));
        for (name, pinned) in [("2b4t", true), ("2b4t-packed", false)] {
            let Source::Repository { pin, .. } = parse(name).unwrap() else {
                panic!("{name} is no repository");
            };
            assert_eq!(pin.sha256.is_some(), pinned, "{name}");
            assert!(pin.size.is_some(), "{name}");
        }
        assert!(matches!(parse("Cargo.toml").unwrap(), Source::Path(_)));
    }

    #[test]
    fn refuses_names_that_leave_their_folder() {
        for name in [
            "hf:a",
            "hf:a/",
            "hf:/b",
            "hf:a/../c",
            "hf:../b",
            "hf:a/b/../../c",
            "hf:a/b//c",
            "hf:a/b/c\\d",
            "hf:a/b/C:x",
            "hf:a/b@",
            "hf:a/b@../x",
            "hf:a b/c",
        ] {
            let error = parse(name).unwrap_err().to_string();
            assert!(error.contains("expected hf:owner/repo"), "{name}: {error}");
        }
    }

    #[test]
    fn an_unknown_name_says_what_would_do() {
        let error = parse("someone/some-model").unwrap_err().to_string();
        assert!(
            error.contains("hf:someone/some-model") && error.contains("2b4t"),
            "{error}"
        );
    }

    #[test]
    fn file_names_are_tame() {
        assert_eq!(file_name("https://h.org/x/m.gguf?x=/y#z"), "m.gguf");
        assert_eq!(file_name("https://h.org/x/%2e%2e"), "_2e_2e");
        assert_eq!(file_name("https://h.org/.."), "model");
        assert_eq!(file_name("https://h.org"), "model");
        assert_eq!(encode("a b/ü", true), "a%20b/%C3%BC");
        assert_eq!(encode("refs/pr/1", false), "refs%2Fpr%2F1");
    }

    #[test]
    fn passwords_are_not_shown() {
        for (text, expected) in [
            ("https://h.org/m.gguf?x=a@b", "https://h.org/m.gguf?x=a@b"),
            ("http://h.org:80/a@b", "http://h.org:80/a@b"),
            ("http://[::1]/a@b", "http://[::1]/a@b"),
            ("hf:owner/repo@main", "hf:owner/repo@main"),
            ("https://me:word@h.org/m", "https://(hidden)@h.org/m"),
            ("HTTPS://me:w@rd@h.org:8/m", "HTTPS://(hidden)@h.org:8/m"),
            ("https://token@h.org", "https://(hidden)@h.org"),
            ("https://me:wo/rd@h.org/m", "https://(hidden)@h.org/m"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }
}
