//! Cutting text by the rules that a `tokenizer.json` writes out, where they are none of the well-known ones.
//!
//! The steps run one after the other on plain pieces of text. Those with parameters run here, within a budget; the others are those of the
//! `tokenizers` crate, each on a text of its own.

use std::ops::Range;

use serde_json::{Value, json};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::{
    OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior,
};

use super::byte_alphabet;
use super::regex::Regex;
use super::splitter::Splitter;
use super::steps::{Budget, StepError, contained, flatten, text_field, truth_field};

/// The steps.
#[derive(Debug)]
pub(super) struct Rules {
    source: Value,
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Split {
        regex: Regex,
        behavior: SplitDelimiterBehavior,
        invert: bool,
    },
    ByteLevel {
        prefix: bool,
        regex: bool,
    },
    Metaspace {
        replacement: char,
        prefix: Prefix,
        split: bool,
    },
    FixedLength(usize),
    Other(Box<PreTokenizerWrapper>),
}

/// Which pieces get a mark for a space in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prefix {
    Always,
    /// The one with which the text begins.
    First,
    Never,
}

/// A part of the text.
#[derive(Debug)]
struct Piece {
    text: String,
    /// Whether it stands where the text begins.
    first: bool,
}

impl Rules {
    /// The rules in the JSON value `pre_tokenizer`.
    ///
    /// # Errors
    /// If one of its steps is unknown or has parameters that it cannot have.
    pub(super) fn new(source: &Value) -> Result<Self, StepError> {
        let mut steps = Vec::new();
        for (index, step) in flatten(source, "pretokenizers")?.into_iter().enumerate() {
            let step = Step::new(step).map_err(|error| format!("step {}: {error}", index + 1))?;
            steps.push(step);
        }
        Ok(Self {
            source: source.clone(),
            steps,
        })
    }

    /// The JSON value they were read from.
    pub(super) fn source(&self) -> &Value {
        &self.source
    }

    /// The pieces of `text`, spelled in the vocabulary's alphabet. `at_start` says whether it begins the whole text.
    pub(super) fn split(&self, text: &str, at_start: bool) -> Result<Vec<String>, StepError> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let budget = Budget::of(text);
        let mut pieces = vec![Piece {
            text: text.to_owned(),
            first: at_start,
        }];
        for step in &self.steps {
            let mut next = Vec::with_capacity(pieces.len());
            let mut length = 0;
            for piece in pieces {
                let from = next.len();
                step.run(piece, &mut next)?;
                length += next[from..]
                    .iter()
                    .map(|piece| piece.text.len())
                    .sum::<usize>();
                budget.check(length)?;
            }
            next.retain(|piece| !piece.text.is_empty());
            pieces = next;
        }
        Ok(pieces.into_iter().map(|piece| piece.text).collect())
    }
}

impl Step {
    fn new(step: &Value) -> Result<Self, StepError> {
        let truth = |name: &str, default: bool| match step.get(name) {
            None | Some(Value::Null) => Ok(default),
            Some(_) => truth_field(step, name),
        };
        Ok(match text_field(step, "type")? {
            "Split" => {
                let pattern = step.get("pattern").unwrap_or(&Value::Null);
                Self::Split {
                    regex: match (pattern.get("String"), pattern.get("Regex")) {
                        (Some(Value::String(text)), _) => Regex::literal(text)?,
                        (_, Some(Value::String(regex))) => Regex::new(regex)?,
                        _ => return Err("pattern of Split is neither a String nor a Regex".into()),
                    },
                    behavior: serde_json::from_value(
                        step.get("behavior").cloned().unwrap_or_default(),
                    )?,
                    invert: truth("invert", false)?,
                }
            }
            "ByteLevel" => Self::ByteLevel {
                prefix: truth_field(step, "add_prefix_space")?,
                regex: truth("use_regex", true)?,
            },
            "Metaspace" => {
                let replacement = text_field(step, "replacement")?;
                let mut chars = replacement.chars();
                let (Some(replacement), None) = (chars.next(), chars.next()) else {
                    return Err(format!(
                        "the replacement {replacement:?} of Metaspace, which must be one character"
                    )
                    .into());
                };
                let scheme = match step.get("prepend_scheme") {
                    None => None,
                    Some(_) => Some(text_field(step, "prepend_scheme")?),
                };
                let prefix = match (scheme, truth("add_prefix_space", true)?) {
                    (Some("never"), _) => Prefix::Never,
                    (None | Some("always"), true) => Prefix::Always,
                    (Some("first"), true) => Prefix::First,
                    (None, false) => Prefix::Never,
                    (Some(scheme), _) => {
                        return Err(format!(
                            "prepend_scheme {scheme:?} of Metaspace, which must be always, first or never, and never where \
                             add_prefix_space is false"
                        )
                        .into());
                    }
                };
                Self::Metaspace {
                    replacement,
                    prefix,
                    split: truth("split", true)?,
                }
            }
            "FixedLength" => match step.get("length").map_or(Some(5), Value::as_u64) {
                Some(length) if length > 0 => {
                    Self::FixedLength(usize::try_from(length).unwrap_or(usize::MAX))
                }
                _ => return Err("the length of FixedLength, which must be a number above 0".into()),
            },
            kind @ ("BertPreTokenizer" | "Whitespace" | "WhitespaceSplit" | "UnicodeScripts") => {
                Self::Other(Box::new(serde_json::from_value(json!({"type": kind}))?))
            }
            "CharDelimiterSplit" | "Punctuation" | "Digits" => {
                Self::Other(Box::new(contained(|| {
                    serde_json::from_value(step.clone())
                })??))
            }
            other => return Err(format!("the pre-tokenizer {other:?} is not known").into()),
        })
    }

    /// Appends what becomes of `piece` to `out`.
    fn run(&self, piece: Piece, out: &mut Vec<Piece>) -> Result<(), StepError> {
        let Piece { text, first } = piece;
        let mut push = |text: &str, first: bool| {
            out.push(Piece {
                text: text.to_owned(),
                first,
            });
        };
        match self {
            Self::Split {
                regex,
                behavior,
                invert,
            } => {
                for range in cut(&text, regex.matches(&text)?, *behavior, *invert) {
                    push(&text[range.clone()], first && range.start == 0);
                }
            }
            Self::ByteLevel { prefix, regex } => {
                let text = prefixed(text, ' ', *prefix);
                let mut at = 0;
                let parts = if *regex {
                    Splitter::Gpt2.split(&text)
                } else {
                    vec![text.as_str()]
                };
                for part in parts {
                    let mut spelled = String::with_capacity(part.len());
                    byte_alphabet::push_mapped(part, &mut spelled);
                    push(&spelled, first && at == 0);
                    at += part.len();
                }
            }
            Self::Metaspace {
                replacement,
                prefix,
                split,
            } => {
                let text: String = text
                    .chars()
                    .map(|c| if c == ' ' { *replacement } else { c })
                    .collect();
                let wanted = *prefix == Prefix::Always || (*prefix == Prefix::First && first);
                let text = prefixed(text, *replacement, wanted);
                if *split {
                    let marks = text.match_indices(*replacement);
                    let marks = marks.map(|(at, mark)| at..at + mark.len()).collect();
                    let behavior = SplitDelimiterBehavior::MergedWithNext;
                    for range in cut(&text, marks, behavior, false) {
                        push(&text[range.clone()], first && range.start == 0);
                    }
                } else {
                    push(&text, first);
                }
            }
            Self::FixedLength(length) => {
                let mut rest = text.as_str();
                while !rest.is_empty() {
                    let end = rest
                        .char_indices()
                        .nth(*length)
                        .map_or(rest.len(), |(at, _)| at);
                    push(&rest[..end], first && rest.len() == text.len());
                    rest = &rest[end..];
                }
            }
            Self::Other(step) => {
                let mut pieces = PreTokenizedString::from(text);
                contained(|| step.pre_tokenize(&mut pieces))??;
                for (part, (start, _), _) in
                    pieces.get_splits(OffsetReferential::Original, OffsetType::Byte)
                {
                    push(part, first && start == 0);
                }
            }
        }
        Ok(())
    }
}

/// `text` with `mark` in front, if that is `wanted` and not there.
fn prefixed(text: String, mark: char, wanted: bool) -> String {
    if !wanted || text.starts_with(mark) {
        return text;
    }
    let mut longer = String::with_capacity(text.len() + mark.len_utf8());
    longer.push(mark);
    longer.push_str(&text);
    longer
}

/// The parts of `text` that the `matches` in it make, in order. `invert` swaps what matches with what lies between.
fn cut(
    text: &str,
    matches: Vec<Range<usize>>,
    behavior: SplitDelimiterBehavior,
    invert: bool,
) -> Vec<Range<usize>> {
    let mut parts: Vec<(Range<usize>, bool)> = Vec::with_capacity(2 * matches.len() + 1);
    let mut done = 0;
    for found in matches {
        if done < found.start {
            parts.push((done..found.start, invert));
        }
        done = found.end;
        parts.push((found, !invert));
    }
    if done < text.len() {
        parts.push((done..text.len(), invert));
    }
    let mut kept: Vec<Range<usize>> = Vec::with_capacity(parts.len());
    let mut before = false;
    match behavior {
        SplitDelimiterBehavior::Isolated => kept.extend(parts.into_iter().map(|(part, _)| part)),
        SplitDelimiterBehavior::Removed => {
            kept.extend(
                parts
                    .into_iter()
                    .filter(|(_, is)| !is)
                    .map(|(part, _)| part),
            );
        }
        SplitDelimiterBehavior::Contiguous => {
            for (part, is) in parts {
                match kept.last_mut() {
                    Some(last) if is == before => last.end = part.end,
                    _ => kept.push(part),
                }
                before = is;
            }
        }
        SplitDelimiterBehavior::MergedWithPrevious => {
            for (part, is) in parts {
                match kept.last_mut() {
                    Some(last) if is && !before => last.end = part.end,
                    _ => kept.push(part),
                }
                before = is;
            }
        }
        SplitDelimiterBehavior::MergedWithNext => {
            for (part, is) in parts.into_iter().rev() {
                match kept.last_mut() {
                    Some(last) if is && !before => last.start = part.start,
                    _ => kept.push(part),
                }
                before = is;
            }
            kept.reverse();
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules() -> Vec<Value> {
        let mut all = Vec::new();
        for behavior in [
            "Isolated",
            "Removed",
            "Contiguous",
            "MergedWithPrevious",
            "MergedWithNext",
        ] {
            for invert in [false, true] {
                for pattern in [
                    json!({"Regex": r"\s|a"}),
                    json!({"String": " "}),
                    json!({"Regex": "b*"}),
                ] {
                    all.push(json!({"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}));
                }
            }
            all.push(json!({"type": "Punctuation", "behavior": behavior}));
        }
        for (prefix, regex) in [(false, false), (true, false), (false, true), (true, true)] {
            all.push(json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": regex}));
        }
        for scheme in ["always", "first", "never"] {
            for split in [false, true] {
                all.push(json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme, "split": split}));
            }
        }
        all.push(json!({"type": "Metaspace", "replacement": "_", "add_prefix_space": true}));
        all.push(json!({"type": "FixedLength", "length": 3}));
        all.push(json!({"type": "CharDelimiterSplit", "delimiter": "a"}));
        for kind in [
            "BertPreTokenizer",
            "Whitespace",
            "WhitespaceSplit",
            "UnicodeScripts",
        ] {
            all.push(json!({"type": kind}));
        }
        all.push(json!({"type": "Digits", "individual_digits": true}));
        all.push(json!({"type": "Digits", "individual_digits": false}));
        let sequences = [[0, 35], [40, 6], [51, 33], [36, 44]];
        for pair in sequences {
            let steps: Vec<Value> = pair.iter().map(|index| all[*index].clone()).collect();
            all.push(json!({"type": "Sequence", "pretokenizers": steps}));
        }
        all
    }

    proptest! {
        #[test]
        fn pieces_are_those_of_the_tokenizers_crate(
            text in "[ \t\n_abB1\u{bd}.,!'\u{301}\u{e9}\u{4e2d}\u{30fc}\u{2581}\u{1f600}]{0,14}"
        ) {
            for source in rules() {
                let reference: PreTokenizerWrapper = serde_json::from_value(source.clone()).unwrap();
                let mut pieces = PreTokenizedString::from(text.as_str());
                reference.pre_tokenize(&mut pieces).unwrap();
                let expected: Vec<String> = pieces
                    .get_splits(OffsetReferential::Normalized, OffsetType::Byte)
                    .into_iter()
                    .map(|(piece, _, _)| piece.to_owned())
                    .filter(|piece| !piece.is_empty())
                    .collect();
                let found = Rules::new(&source).unwrap().split(&text, true).unwrap();
                let found: Vec<String> = found.into_iter().filter(|piece| !piece.is_empty()).collect();
                prop_assert_eq!(found, expected, "{}", source);
            }
        }
    }

    #[test]
    fn growth_is_bounded() {
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": true, "use_regex": true});
        let rules =
            Rules::new(&json!({"type": "Sequence", "pretokenizers": vec![bytes; 40]})).unwrap();
        let error = rules.split("\u{4e2d}", true).unwrap_err().to_string();
        assert!(error.contains("bytes"), "{error}");
    }

    #[test]
    fn unknown_and_odd_steps_are_errors() {
        for wrong in [
            json!({"type": "Sideways"}),
            json!({"pretokenizers": []}),
            json!({"type": "FixedLength", "length": 0}),
            json!({"type": "FixedLength", "length": -1}),
            json!({"type": "Metaspace", "replacement": "ab"}),
            json!({"type": "Metaspace", "replacement": ""}),
            json!({"type": "Metaspace", "replacement": "_", "prepend_scheme": "sometimes"}),
            json!({"type": "Metaspace", "replacement": "_", "prepend_scheme": "first", "add_prefix_space": false}),
            json!({"type": "CharDelimiterSplit", "delimiter": "ab"}),
            json!({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false}),
            json!({"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Sideways", "invert": false}),
            json!({"type": "Digits"}),
            json!([]),
        ] {
            assert!(Rules::new(&wrong).is_err(), "{wrong}");
        }
    }
}
