//! Rewriting text before it is cut, as a `tokenizer.json` says.
//!
//! The steps of its normalizer run one after the other on plain text. Those whose parameters decide how much text comes out run here, within
//! a budget; the others are those of the `tokenizers` crate, each on a text of its own.

use serde_json::{Value, json};
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::{NormalizedString, Normalizer};

use super::byte_alphabet;
use super::charsmap::Charsmap;
use super::regex::Regex;
use super::steps::{Budget, Normalize, StepError, contained, flatten, text_field, truth_field};

/// The steps.
#[derive(Debug)]
pub(super) struct Steps {
    source: Value,
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Replace { regex: Regex, content: String },
    Prepend(String),
    Strip { left: bool, right: bool },
    ByteLevel,
    Charsmap(Charsmap),
    Other(Box<NormalizerWrapper>),
}

impl Steps {
    /// The steps of the JSON value `normalizer`.
    ///
    /// # Errors
    /// If one of them is unknown or has parameters that it cannot have.
    pub(super) fn new(source: Value) -> Result<Self, StepError> {
        let mut steps = Vec::new();
        for (index, step) in flatten(&source, "normalizers")?.into_iter().enumerate() {
            Step::read(step, &mut steps).map_err(|error| format!("step {}: {error}", index + 1))?;
        }
        Ok(Self { source, steps })
    }
}

impl Normalize for Steps {
    fn normalize(&self, text: &str) -> Result<String, StepError> {
        let budget = Budget::of(text);
        let mut text = text.to_owned();
        for step in &self.steps {
            text = step.run(text, &budget)?;
        }
        Ok(text)
    }

    fn to_json(&self) -> Value {
        self.source.clone()
    }
}

impl Step {
    /// Appends what `step` does to `steps`.
    fn read(step: &Value, steps: &mut Vec<Self>) -> Result<(), StepError> {
        let kind = text_field(step, "type")?;
        steps.push(match kind {
            "Replace" => {
                let pattern = step.get("pattern").unwrap_or(&Value::Null);
                Self::Replace {
                    regex: match (pattern.get("String"), pattern.get("Regex")) {
                        (Some(Value::String(text)), _) => Regex::literal(text)?,
                        (_, Some(Value::String(regex))) => Regex::new(regex)?,
                        _ => return Err("pattern of Replace is neither a String nor a Regex".into()),
                    },
                    content: text_field(step, "content")?.to_owned(),
                }
            }
            "Prepend" => Self::Prepend(text_field(step, "prepend")?.to_owned()),
            "Strip" => Self::Strip {
                left: truth_field(step, "strip_left")?,
                right: truth_field(step, "strip_right")?,
            },
            "ByteLevel" => Self::ByteLevel,
            "Precompiled" => Self::Charsmap(Charsmap::new(step)?),
            "BertNormalizer" => {
                // One thing at a time, in the order of the crate.
                let on = |name: &str| truth_field(step, name);
                let lowercase = on("lowercase")?;
                let strip = match step.get("strip_accents") {
                    None | Some(Value::Null) => lowercase,
                    Some(_) => on("strip_accents")?,
                };
                let parts = [
                    ("clean_text", on("clean_text")?),
                    ("handle_chinese_chars", on("handle_chinese_chars")?),
                    ("strip_accents", strip),
                    ("lowercase", lowercase),
                ];
                for (name, _) in parts.into_iter().filter(|(_, on)| *on) {
                    let mut one = json!({
                        "type": kind, "clean_text": false, "handle_chinese_chars": false, "strip_accents": false, "lowercase": false,
                    });
                    one[name] = true.into();
                    steps.push(Self::Other(Box::new(serde_json::from_value(one)?)));
                }
                return Ok(());
            }
            "NFC" | "NFD" | "NFKC" | "NFKD" | "Lowercase" | "Nmt" | "StripAccents" => {
                Self::Other(Box::new(serde_json::from_value(json!({"type": kind}))?))
            }
            other => return Err(format!("the normalizer {other:?} is not known").into()),
        });
        Ok(())
    }

    fn run(&self, text: String, budget: &Budget) -> Result<String, StepError> {
        let mut out = String::with_capacity(text.len());
        match self {
            Self::Replace { regex, content } => {
                let mut done = 0;
                for found in regex.matches(&text)? {
                    out.push_str(&text[done..found.start]);
                    out.push_str(content);
                    done = found.end;
                    budget.check(out.len())?;
                }
                out.push_str(&text[done..]);
            }
            Self::Prepend(prefix) => {
                if !text.is_empty() {
                    out.push_str(prefix);
                }
                out.push_str(&text);
            }
            Self::Strip { left, right } => {
                let mut rest = text.as_str();
                if *left {
                    rest = rest.trim_start();
                }
                if *right {
                    rest = rest.trim_end();
                }
                out.push_str(rest);
            }
            Self::ByteLevel => byte_alphabet::push_mapped(&text, &mut out),
            Self::Charsmap(table) => table.replace(&text, &mut out, budget)?,
            Self::Other(step) => {
                let mut string = NormalizedString::from(text);
                contained(|| step.normalize(&mut string))??;
                out.push_str(string.get());
            }
        }
        budget.check(out.len())?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normalizers() -> Vec<Value> {
        let replace = |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
        let strip =
            |left, right| json!({"type": "Strip", "strip_left": left, "strip_right": right});
        let bert = |clean, chinese, accents: Option<bool>, lower| {
            json!({
                "type": "BertNormalizer", "clean_text": clean, "handle_chinese_chars": chinese, "strip_accents": accents, "lowercase": lower,
            })
        };
        let mut all = vec![
            replace(json!({"String": " "}), "\u{2581}"),
            replace(json!({"Regex": r"\s+"}), ""),
            replace(json!({"Regex": "a*"}), "<>"),
            replace(json!({"Regex": "(?=e)"}), "|"),
            replace(json!({"String": "aa"}), "b$0"),
            json!({"type": "Prepend", "prepend": "\u{2581}"}),
            json!({"type": "ByteLevel"}),
            strip(true, false),
            strip(false, true),
            strip(true, true),
            bert(true, true, None, true),
            bert(true, false, Some(true), false),
            bert(false, true, Some(false), true),
        ];
        for kind in [
            "NFC",
            "NFD",
            "NFKC",
            "NFKD",
            "Lowercase",
            "Nmt",
            "StripAccents",
        ] {
            all.push(json!({"type": kind}));
        }
        let some: Vec<Value> = [5, 0, 16, 11].map(|index| all[index].clone()).to_vec();
        all.push(json!({"type": "Sequence", "normalizers": some}));
        all.push(json!({"type": "Sequence", "normalizers": []}));
        all
    }

    proptest! {
        #[test]
        fn texts_become_what_the_tokenizers_crate_makes_of_them(
            text in "[ \taAeE\u{301}\u{e9}\u{c9}\u{fb01}\u{4e2d}\u{130}\u{fdfa}\u{2581}\u{200b}\u{1}\u{1f600}\r\n]{0,12}"
        ) {
            for source in normalizers() {
                let reference: NormalizerWrapper = serde_json::from_value(source.clone()).unwrap();
                let mut expected = NormalizedString::from(text.as_str());
                Normalizer::normalize(&reference, &mut expected).unwrap();
                let steps = Steps::new(source.clone()).unwrap();
                let found = Normalize::normalize(&steps, &text).unwrap();
                prop_assert_eq!(found.as_str(), expected.get(), "{}", source);
            }
        }
    }

    #[test]
    fn growth_is_bounded() {
        let ten = json!({"type": "Replace", "pattern": {"Regex": "."}, "content": "aaaaaaaaaa"});
        let steps = Steps::new(json!({"type": "Sequence", "normalizers": vec![ten; 9]})).unwrap();
        let error = Normalize::normalize(&steps, "H").unwrap_err().to_string();
        assert!(error.contains("bytes"), "{error}");
    }

    #[test]
    fn unknown_and_odd_steps_are_errors() {
        for wrong in [
            json!({"type": "Sideways"}),
            json!({"normalizers": [{"type": "NFC"}]}),
            json!({"type": "Sequence"}),
            json!({"type": "Sequence", "normalizers": vec![json!({"type": "NFC"}); 1000]}),
            json!({"type": "Replace", "pattern": {"Regex": "("}, "content": ""}),
            json!({"type": "Replace", "pattern": "a", "content": ""}),
            json!({"type": "Prepend"}),
            json!("NFC"),
            json!(3),
        ] {
            assert!(Steps::new(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
