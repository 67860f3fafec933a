//! The known ways to cut text: how GGUF names them, and the rules that `tokenizer.json` writes out for them.
//!
//! Names and regular expressions are those of llama.cpp (`src/llama-vocab.cpp`), where it gives the original of a `tokenizer.json` beside
//! its own spelling the original. Normal form C is what the `tokenizer.json` of those vocabularies asks for.

use serde_json::{Value, json};

use super::splitter::Splitter;

const LLAMA3_REGEX: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2_REGEX: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35_REGEX: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT2_REGEX: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const GPT4O_REGEX: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN_REGEX: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What a value of `tokenizer.ggml.pre` stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pattern {
    /// The values that stand for it; the first is the one to write.
    names: &'static [&'static str],
    pub(super) splitter: Splitter,
    /// Whether a piece that is a token as a whole goes before merges.
    pub(super) ignore_merges: bool,
    /// Whether texts begin with the beginning-of-text token where the file does not say.
    pub(super) add_bos: bool,
    /// Whether text is brought into normal form C.
    pub(super) nfc: bool,
}

const fn plain(names: &'static [&'static str], splitter: Splitter) -> Pattern {
    Pattern {
        names,
        splitter,
        ignore_merges: false,
        add_bos: false,
        nfc: false,
    }
}

/// As the models of the Llama 3 family cut text.
pub(super) const LLAMA3: Pattern = Pattern {
    ignore_merges: true,
    add_bos: true,
    ..plain(
        &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "falcon_e",
            "falcon-e",
            "pixtral",
            "midm-2.0",
            "lfm2",
        ],
        Splitter::LLAMA3,
    )
};

/// As GPT-2 cuts text.
pub(super) const GPT2: Pattern = plain(
    &[
        "gpt-2", "gpt2", "phi-2", "olmo", "mpt", "jais", "trillion", "exaone4", "gigachat",
    ],
    Splitter::Gpt2,
);

const PATTERNS: [Pattern; 8] = [
    LLAMA3,
    plain(&["smaug-bpe", "dbrx"], Splitter::LLAMA3),
    Pattern {
        nfc: true,
        ..plain(&["qwen2", "deepseek-r1-qwen", "megrez"], Splitter::QWEN2)
    },
    Pattern {
        nfc: true,
        ..plain(&["qwen35"], Splitter::QWEN35)
    },
    GPT2,
    plain(&["gpt-4o", "llama4", "kanana2"], Splitter::GPT4O),
    Pattern {
        ignore_merges: true,
        add_bos: true,
        ..plain(&["tekken"], Splitter::TEKKEN)
    },
    plain(&["default"], Splitter::Default),
];

impl Pattern {
    /// The pattern of a value of `tokenizer.ggml.pre`.
    pub(super) fn named(name: &str) -> Option<Self> {
        PATTERNS
            .into_iter()
            .find(|pattern| pattern.names.contains(&name))
    }

    /// All values of `tokenizer.ggml.pre` that are known.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        PATTERNS
            .into_iter()
            .flat_map(|pattern| pattern.names.iter().copied())
    }

    /// The value to write as `tokenizer.ggml.pre`.
    pub(super) fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }

    /// The patterns that cut text as `splitter` does.
    pub(super) fn with(splitter: Splitter) -> impl Iterator<Item = Self> {
        PATTERNS
            .into_iter()
            .filter(move |pattern| pattern.splitter == splitter)
    }
}

/// The regular expressions of a splitter, one after the other.
pub(super) fn regexes(splitter: Splitter) -> &'static [&'static str] {
    match splitter {
        Splitter::LLAMA3 => &[LLAMA3_REGEX],
        Splitter::QWEN2 => &[QWEN2_REGEX],
        Splitter::QWEN35 => &[QWEN35_REGEX],
        Splitter::GPT4O => &[GPT4O_REGEX],
        Splitter::TEKKEN => &[TEKKEN_REGEX],
        Splitter::Gpt2 => &[GPT2_REGEX],
        Splitter::Default => &[
            r"[\p{P}\$\+<=>\^~\|]+",
            GPT2_REGEX,
            r"\p{N}+",
            "[0-9][0-9][0-9]",
        ],
        // No pattern has another number of digits.
        Splitter::Words { .. } | Splitter::Cased { .. } => &[],
    }
}

/// The value of `pre_tokenizer` for a splitter.
pub(super) fn pre_tokenizer(splitter: Splitter) -> Value {
    let mut steps: Vec<Value> = regexes(splitter)
        .iter()
        .map(|regex| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false}))
        .collect();
    steps.push(json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false,
    }));
    json!({"type": "Sequence", "pretokenizers": steps})
}

/// The splitter that cuts as the `steps` of a `pre_tokenizer` do.
pub(super) fn recognise(steps: &[&Value]) -> Option<Splitter> {
    let (bytes, splits) = steps.split_last()?;
    let flag = |name: &str| bytes.get(name).and_then(Value::as_bool).unwrap_or(true);
    if bytes.get("type")?.as_str()? != "ByteLevel" || flag("add_prefix_space") {
        return None;
    }
    let mut found: Vec<&str> = splits
        .iter()
        .map(|split| regex_of(split))
        .collect::<Option<_>>()?;
    if flag("use_regex") {
        found.push(GPT2_REGEX);
    }
    let mut splitters = PATTERNS.iter().map(|pattern| pattern.splitter);
    splitters.find(|splitter| regexes(*splitter) == found)
}

/// The regular expression of a step whose every match is a piece. What no match covers is a piece too where matches are isolated; where
/// everything else is removed, the expression must cover all text, which those of one step do.
fn regex_of(step: &Value) -> Option<&str> {
    let text = |name: &str| step.get(name).and_then(Value::as_str);
    let inverted = step.get("invert").and_then(Value::as_bool).unwrap_or(false);
    let isolated = match (text("behavior")?, inverted) {
        ("Isolated", _) => true,
        ("Removed", true) => false,
        _ => return None,
    };
    let regex = step.get("pattern")?.get("Regex")?.as_str()?;
    let covers = regex.ends_with(r"|\s+(?!\S)|\s+");
    (text("type")? == "Split" && (isolated || covers)).then_some(regex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_recognised_in_what_is_written_for_it() {
        for pattern in PATTERNS {
            let written = pre_tokenizer(pattern.splitter);
            let steps: Vec<&Value> = written["pretokenizers"]
                .as_array()
                .unwrap()
                .iter()
                .collect();
            assert!(steps.len() > 1, "{pattern:?} has an expression");
            assert_eq!(recognise(&steps), Some(pattern.splitter));
            for name in pattern.names {
                assert_eq!(Pattern::named(name).unwrap().name(), pattern.name());
            }
        }
    }

    #[test]
    fn other_ways_to_write_the_same_are_recognised_and_other_rules_are_not() {
        let bytes = |regex: bool, space: bool| json!({"type": "ByteLevel", "add_prefix_space": space, "use_regex": regex});
        let split = |regex: &str, behavior: &str, invert: bool| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert});
        let of = |steps: &[Value]| recognise(&steps.iter().collect::<Vec<_>>());
        assert_eq!(of(&[bytes(true, false)]), Some(Splitter::Gpt2));
        assert_eq!(of(&[bytes(true, true)]), None);
        assert_eq!(of(&[bytes(false, false)]), None);
        assert_eq!(
            of(&[split(GPT4O_REGEX, "Removed", true), bytes(false, false)]),
            Some(Splitter::GPT4O)
        );
        assert_eq!(
            of(&[split(LLAMA3_REGEX, "Removed", false), bytes(false, false)]),
            None
        );
        assert_eq!(
            of(&[split(LLAMA3_REGEX, "Isolated", false), bytes(true, false)]),
            None
        );
        assert_eq!(
            of(&[
                split(r"\p{N}", "Isolated", false),
                split(GPT2_REGEX, "Isolated", false),
                bytes(false, false)
            ]),
            None
        );
    }
}
