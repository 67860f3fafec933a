//! The steps of encoding that only some vocabularies have, behind traits: a program that opens no file which asks for one of them
//! does not contain it. In a browser, where only GGUF files are opened, that is most of the `tokenizers` crate and both engines of
//! regular expressions.

use super::rules::Rules;
use crate::Result;
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt::Debug;
use tokenizers::{NormalizedString, Normalizer};

/// Rewrites text before it is cut.
pub(super) trait Normalize: Debug + Send + Sync {
    /// The text in its normal form.
    fn normalize(&self, text: &str) -> Result<String, tokenizers::Error>;
    /// The step as `tokenizer.json` writes it.
    fn to_json(&self) -> Result<Value, serde_json::Error>;
}

impl<N: Normalizer + Serialize + Debug + Send + Sync> Normalize for N {
    fn normalize(&self, text: &str) -> Result<String, tokenizers::Error> {
        let mut string = NormalizedString::from(text);
        Normalizer::normalize(self, &mut string)?;
        Ok(string.get().to_owned())
    }

    fn to_json(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(self)
    }
}

/// A function that gives Unicode's normal form C of a text, in hosts that have one.
pub type Nfc = fn(&str) -> String;

/// The normal form C of the host.
#[derive(Debug)]
struct HostNfc(Nfc);

impl Normalize for HostNfc {
    fn normalize(&self, text: &str) -> Result<String, tokenizers::Error> {
        Ok((self.0)(text))
    }

    fn to_json(&self) -> Result<Value, serde_json::Error> {
        Ok(json!({"type": "NFC"}))
    }
}

/// Normal form C: the host's where there is one, or else by this library's tables. `file` is what errors call the model.
pub(super) fn nfc(file: &str, host: Option<Nfc>) -> Result<Box<dyn Normalize>> {
    if let Some(host) = host {
        return Ok(Box::new(HostNfc(host)));
    }
    own_nfc(file)
}

#[cfg(feature = "nfc")]
fn own_nfc(_: &str) -> Result<Box<dyn Normalize>> {
    Ok(Box::new(tokenizers::normalizers::NFC))
}

#[cfg(not(feature = "nfc"))]
fn own_nfc(file: &str) -> Result<Box<dyn Normalize>> {
    Err(crate::Error::Unsupported {
        file: file.into(),
        what: "a vocabulary of text in normal form C".into(),
        advice: "build this library with the feature nfc, or give ModelOptions a function for it"
            .into(),
    })
}

/// Cuts text as a `tokenizer.json` says.
pub(super) trait CutByRules: Debug + Send + Sync {
    /// The pieces of `text`, spelled in the vocabulary's alphabet.
    fn split(&self, text: &str, at_start: bool) -> Result<Vec<String>, tokenizers::Error>;
    /// The JSON value they were read from.
    fn source(&self) -> &Value;
}

impl CutByRules for Rules {
    fn split(&self, text: &str, at_start: bool) -> Result<Vec<String>, tokenizers::Error> {
        self.split(text, at_start)
    }

    fn source(&self) -> &Value {
        self.source()
    }
}
