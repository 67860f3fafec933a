//! The kinds of failed downloads.

use std::fmt;

/// Why a model cannot be had from where its name says: the `fault` of [`Error::Download`](super::Error::Download).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DownloadFault {
    /// The name stands for no model, or for several.
    Name {
        /// What is wrong with it, and which names there are.
        why: String,
    },
    /// There is no such file, repository or revision.
    NotFound {
        /// The server's answer, such as `404 Not Found`.
        found: String,
        /// What is missing and what to check.
        advice: String,
    },
    /// The server wants a login, a token, or that a licence is accepted.
    Forbidden {
        /// The server's answer, such as `403 Forbidden`.
        found: String,
        /// What to accept or set.
        advice: String,
    },
    /// The network or the server failed, and further attempts did not help. A later one may.
    Network {
        /// What failed.
        why: String,
        /// Bytes that have arrived and are kept: the next attempt goes on behind them.
        kept: u64,
    },
    /// What the server has is not what was asked for: it has another SHA-256 or size than announced or pinned, or does not
    /// begin as a model does.
    Content {
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
        /// What to do.
        advice: String,
    },
    /// The file is not in the cache, and nothing else may be asked; or there is no cache to keep it in.
    NotCached {
        /// Why it is not looked for elsewhere, and what to do.
        why: String,
    },
    /// An answer that this client does not follow.
    Answer {
        /// What was answered.
        why: String,
    },
}

impl fmt::Display for DownloadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { why } | Self::NotCached { why } | Self::Answer { why } => f.write_str(why),
            Self::NotFound { found, advice } | Self::Forbidden { found, advice } => {
                write!(f, "the server answered {found}: {advice}")
            }
            Self::Network { why, kept: 0 } => f.write_str(why),
            Self::Network { why, kept } => write!(
                f,
                "{why}; the {kept} bytes that have arrived are kept, and the same command goes on from there"
            ),
            Self::Content {
                expected,
                found,
                advice,
            } => write!(
                f,
                "wrong content: expected {expected}, found {found}; {advice}"
            ),
        }
    }
}

/// The place before a message: nothing where `model` has said it already.
pub(super) fn place(model: &str, address: &Option<String>) -> String {
    match address {
        Some(address) if address != model => format!("{address}: "),
        _ => String::new(),
    }
}
