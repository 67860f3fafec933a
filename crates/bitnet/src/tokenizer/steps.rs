//! The steps of encoding that only some vocabularies have, behind traits: a program that opens no file which asks for one of them
//! does not contain it. In a browser, where only GGUF files are opened, that is most of the `tokenizers` crate and both engines of
//! regular expressions.

use super::rules::Rules;
use crate::Result;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokenizers::{NormalizedString, Normalizer};

/// Why a step cannot be built or run.
pub(super) type StepError = Box<dyn std::error::Error + Send + Sync>;

/// More steps than this are refused; real files have up to ten.
const MOST_STEPS: usize = 64;

/// How long a text may become on its way through the steps.
#[derive(Debug)]
pub(super) struct Budget {
    text: usize,
    limit: usize,
}

impl Budget {
    /// The budget for a text: normal form KD makes 11 bytes of one, the alphabet of bytes two.
    pub(super) fn of(text: &str) -> Self {
        Self {
            text: text.len(),
            limit: text.len().saturating_mul(32).saturating_add(1 << 16),
        }
    }

    /// An error if a text of `length` bytes is over the budget.
    pub(super) fn check(&self, length: usize) -> Result<(), StepError> {
        if length <= self.limit {
            return Ok(());
        }
        let Self { text, limit } = self;
        Err(format!("the steps make more than {limit} bytes of {text} bytes of text").into())
    }
}

/// What `run`, which calls the `tokenizers` crate, returns, or an error if it panics. Parameters are checked so that it does not; this is
/// for those that were overlooked, and does nothing where panics abort.
pub(super) fn contained<T>(run: impl FnOnce() -> T) -> Result<T, StepError> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| "the tokenizers crate panicked".into())
}

/// A step, or the steps of a sequence, which may stand in one another. `list` names the field with the steps of a sequence.
pub(super) fn flatten<'v>(step: &'v Value, list: &str) -> Result<Vec<&'v Value>, StepError> {
    let mut steps = Vec::new();
    // The last of those that wait comes next.
    let mut waiting = vec![step];
    while let Some(step) = waiting.pop() {
        if text_field(step, "type")? == "Sequence" {
            let inner = step.get(list).and_then(Value::as_array);
            let inner = inner.ok_or_else(|| format!("a Sequence without {list}"))?;
            waiting.extend(inner.iter().rev());
        } else {
            steps.push(step);
        }
        if steps.len() + waiting.len() > MOST_STEPS {
            return Err(format!("more than {MOST_STEPS} steps").into());
        }
    }
    Ok(steps)
}

/// The text in the field `name` of a step.
pub(super) fn text_field<'v>(step: &'v Value, name: &str) -> Result<&'v str, StepError> {
    let value = step.get(name).and_then(Value::as_str);
    value.ok_or_else(|| format!("a step whose {name} is missing or no text").into())
}

/// The truth in the field `name` of a step.
pub(super) fn truth_field(step: &Value, name: &str) -> Result<bool, StepError> {
    let value = step.get(name).and_then(Value::as_bool);
    value.ok_or_else(|| format!("a step whose {name} is neither true nor false").into())
}

/// Rewrites text before it is cut.
pub(super) trait Normalize: Debug + Send + Sync {
    /// The text in its normal form.
    fn normalize(&self, text: &str) -> Result<String, StepError>;
    /// The step as `tokenizer.json` writes it.
    fn to_json(&self) -> Value;
}

impl Normalize for tokenizers::normalizers::NFC {
    fn normalize(&self, text: &str) -> Result<String, StepError> {
        let mut string = NormalizedString::from(text);
        Normalizer::normalize(self, &mut string)?;
        Ok(string.get().to_owned())
    }

    fn to_json(&self) -> Value {
        json!({"type": "NFC"})
    }
}

/// A function that gives Unicode's normal form C of a text, in hosts that have one.
pub type Nfc = fn(&str) -> String;

/// The normal form C of the host.
#[derive(Debug)]
struct HostNfc(Nfc);

impl Normalize for HostNfc {
    fn normalize(&self, text: &str) -> Result<String, StepError> {
        Ok((self.0)(text))
    }

    fn to_json(&self) -> Value {
        json!({"type": "NFC"})
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
    fn split(&self, text: &str, at_start: bool) -> Result<Vec<String>, StepError>;
    /// The JSON value they were read from.
    fn source(&self) -> &Value;
}

impl CutByRules for Rules {
    fn split(&self, text: &str, at_start: bool) -> Result<Vec<String>, StepError> {
        self.split(text, at_start)
    }

    fn source(&self) -> &Value {
        self.source()
    }
}
