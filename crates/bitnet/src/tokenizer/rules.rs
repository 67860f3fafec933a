//! Cutting text by the rules that a `tokenizer.json` writes out, where they are none of the well-known ones.
//!
//! The steps run in the `tokenizers` crate, but for regular expressions: its own step stops without a word
//! when the expression's engine gives up, and the rest of the text would stay in one piece. Here that is an
//! error.

use fancy_regex::{Regex, RegexBuilder};
use serde_json::Value;
use tokenizers::pattern::Invert;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::{
    OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior,
};

/// How often the engine may go back within one match.
const BACKTRACKS: usize = 10_000_000;

/// The steps, for a stretch that begins the text and for the others: some steps put a space in front of the
/// first stretch only.
#[derive(Debug)]
pub(super) struct Rules {
    source: Value,
    first: Vec<Step>,
    later: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Split {
        regex: Box<Regex>,
        behavior: SplitDelimiterBehavior,
        invert: bool,
    },
    Other(Box<PreTokenizerWrapper>),
}

impl Rules {
    /// The rules in the JSON value `pre_tokenizer`.
    pub(super) fn new(source: &Value) -> Result<Self, tokenizers::Error> {
        let mut later = source.clone();
        for step in steps_mut(&mut later) {
            if let Some(scheme) = step.get_mut("prepend_scheme")
                && scheme.as_str() == Some("first")
            {
                *scheme = "never".into();
            }
        }
        let compile = |rules: &Value| {
            let steps = rules.get("pretokenizers").and_then(Value::as_array);
            match steps {
                Some(steps) => steps.iter().map(Step::new).collect(),
                None => Step::new(rules).map(|step| vec![step]),
            }
        };
        Ok(Self {
            source: source.clone(),
            first: compile(source)?,
            later: compile(&later)?,
        })
    }

    /// The JSON value they were read from.
    pub(super) fn source(&self) -> &Value {
        &self.source
    }

    /// The pieces of `text`, spelled in the vocabulary's alphabet.
    pub(super) fn split(
        &self,
        text: &str,
        at_start: bool,
    ) -> Result<Vec<String>, tokenizers::Error> {
        let mut pieces = PreTokenizedString::from(text);
        for step in if at_start { &self.first } else { &self.later } {
            step.run(&mut pieces)?;
        }
        Ok(pieces
            .get_splits(OffsetReferential::Normalized, OffsetType::Byte)
            .into_iter()
            .map(|(piece, _, _)| piece.to_owned())
            .collect())
    }
}

/// The steps of a sequence, or the only one.
fn steps_mut(rules: &mut Value) -> Vec<&mut Value> {
    if rules.get("pretokenizers").is_some_and(Value::is_array) {
        match rules.get_mut("pretokenizers") {
            Some(Value::Array(steps)) => steps.iter_mut().collect(),
            _ => Vec::new(),
        }
    } else {
        vec![rules]
    }
}

impl Step {
    fn new(step: &Value) -> Result<Self, tokenizers::Error> {
        let pattern = step.get("pattern").and_then(|pattern| pattern.get("Regex"));
        if let (Some("Split"), Some(pattern)) = (
            step.get("type").and_then(Value::as_str),
            pattern.and_then(Value::as_str),
        ) {
            let behavior = step.get("behavior").cloned().unwrap_or_default();
            return Ok(Self::Split {
                regex: Box::new(
                    RegexBuilder::new(pattern)
                        .backtrack_limit(BACKTRACKS)
                        .build()?,
                ),
                behavior: serde_json::from_value(behavior)?,
                invert: step.get("invert") == Some(&Value::Bool(true)),
            });
        }
        Ok(Self::Other(Box::new(serde_json::from_value(step.clone())?)))
    }

    fn run(&self, pieces: &mut PreTokenizedString) -> Result<(), tokenizers::Error> {
        match self {
            Self::Other(step) => step.pre_tokenize(pieces),
            Self::Split {
                regex,
                behavior,
                invert,
            } => pieces.split(|_, piece| {
                let regex = &**regex;
                if *invert {
                    piece.split(Invert(regex), *behavior)
                } else {
                    piece.split(regex, *behavior)
                }
            }),
        }
    }
}
