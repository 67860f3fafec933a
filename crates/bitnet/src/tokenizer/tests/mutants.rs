//! Hostile `tokenizer.json` files: seeded mutants that know the structure of the file. Each is opened and used; whatever it holds, the
//! library returns, in bounded time, and never panics, not even within the `tokenizers` crate.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::*;
use crate::tokenizer::charsmap::tests::table;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Numbers from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides.max(1) as u64) as usize
    }

    fn pick<'t, T>(&mut self, list: &'t [T]) -> &'t T {
        &list[self.roll(list.len())]
    }
}

const REGEXES: [&str; 22] = [
    ".",
    "",
    "a*",
    r"\s+(?!\S)|\s+",
    r"(?=a\K)",
    r"(?<=a)",
    "(a|aa)+$",
    "(?:(?=a)a{1000}){1000}",
    r"\p{L}{5000}",
    "(",
    "[",
    r"\p{Foo}",
    r"(a)\1",
    "(?:a|b|ab)*(?!.?)",
    r"(?(?=a)b|c)",
    r"\G.",
    r"\b",
    "(?i)[a-z]+",
    r"(?<n>a)\k<n>",
    r"\g<0>",
    "(?:)*",
    r"^$|\z",
];

/// Parts that may stand where steps do.
fn steps() -> Vec<Value> {
    let mut steps = vec![
        json!({"type": "Precompiled", "precompiled_charsmap": STANDARD.encode(table(b'a', "xy"))}),
        json!({"type": "Precompiled", "precompiled_charsmap": "/////w=="}),
        json!({"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="}),
        json!({"type": "Prepend", "prepend": "\u{2581}"}),
        json!({"type": "Prepend", "prepend": "long".repeat(5000)}),
        json!({"type": "Strip", "strip_left": true, "strip_right": true}),
        json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}),
        json!({"type": "Strip", "content": "a", "start": 99, "stop": 99}),
        json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true}),
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "first", "split": true}),
        json!({"type": "FixedLength", "length": 0}),
        json!({"type": "FixedLength", "length": 2}),
        json!({"type": "CharDelimiterSplit", "delimiter": " "}),
        json!({"type": "Punctuation", "behavior": "Contiguous"}),
        json!({"type": "Digits", "individual_digits": true}),
        json!({"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]}),
        json!({"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, {"type": "BertPreTokenizer"}]}),
        json!({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}),
        json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}], "special_tokens": {}}),
        json!({"type": "RobertaProcessing", "cls": ["<s>", 1], "sep": ["</s>", 2]}),
    ];
    for kind in [
        "NFC",
        "NFD",
        "NFKC",
        "NFKD",
        "Nmt",
        "Lowercase",
        "StripAccents",
        "Whitespace",
        "WhitespaceSplit",
        "BertPreTokenizer",
        "UnicodeScripts",
        "ByteLevel",
        "Metaspace",
        "Replace",
        "Sequence",
        "Unknown",
        "Fuse",
    ] {
        steps.push(json!({"type": kind}));
    }
    for regex in REGEXES {
        steps
            .push(json!({"type": "Replace", "pattern": {"Regex": regex}, "content": "aaaaaaaaaa"}));
        steps.push(json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "MergedWithNext", "invert": true}));
    }
    steps
}

const NORMALIZERS: [&str; 13] = [
    "Precompiled",
    "Prepend",
    "Strip",
    "BertNormalizer",
    "ByteLevel",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Nmt",
    "Lowercase",
    "StripAccents",
    "Replace",
];
const PRE_TOKENIZERS: [&str; 11] = [
    "ByteLevel",
    "Metaspace",
    "FixedLength",
    "CharDelimiterSplit",
    "Punctuation",
    "Digits",
    "Whitespace",
    "WhitespaceSplit",
    "BertPreTokenizer",
    "UnicodeScripts",
    "Split",
];

/// Some of the steps whose types are among `kinds`, one after the other.
fn sequence(kinds: &[&str], list: &str, dice: &mut Dice, steps: &[Value]) -> Value {
    let fitting: Vec<&Value> = steps
        .iter()
        .filter(|step| {
            step["type"]
                .as_str()
                .is_some_and(|kind| kinds.contains(&kind))
        })
        .collect();
    let chosen: Vec<Value> = (0..=dice.roll(4))
        .map(|_| (*dice.pick(&fitting)).clone())
        .collect();
    json!({"type": "Sequence", list: chosen})
}

fn odd_value(dice: &mut Dice, steps: &[Value]) -> Value {
    match dice.roll(20) {
        0 => Value::Null,
        1 => true.into(),
        2 => false.into(),
        3 => 0.into(),
        4 => 1.into(),
        5 => (-1).into(),
        6 => u64::MAX.into(),
        7 => u32::MAX.into(),
        8 => 1.5.into(),
        9 => "".into(),
        10 => "a".into(),
        11 => "\u{0}".into(),
        12 => "\u{2581}".into(),
        13 => "\u{1f600}\u{301}".repeat(200).into(),
        14 => json!([]),
        15 => json!({}),
        16 => (*dice.pick(&REGEXES)).into(),
        17 => dice.roll(300).into(),
        _ => dice.pick(steps).clone(),
    }
}

fn odd_text(text: &str, dice: &mut Dice) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..=dice.roll(3) {
        let at = dice.roll(chars.len() + 1);
        match dice.roll(4) {
            0 if at < chars.len() => drop(chars.remove(at)),
            1 => chars.insert(
                at,
                *dice.pick(&[
                    'a', ' ', '\u{301}', '(', '{', '\\', '*', '\u{2581}', '\0', 'A', '/',
                ]),
            ),
            2 if at < chars.len() => {
                chars[at] = *dice.pick(&['A', '/', '+', ')', ']', '9', '?', '\u{fdfa}'])
            }
            _ => chars.truncate(at.max(1)),
        }
    }
    chars.into_iter().collect()
}

/// Changes something at a place that the dice choose.
fn mutate(value: &mut Value, dice: &mut Dice, steps: &[Value]) {
    match value {
        Value::Object(map) if !map.is_empty() && dice.roll(8) > 0 => {
            let key = map.keys().nth(dice.roll(map.len())).unwrap().clone();
            match dice.roll(24) {
                0 => drop(map.remove(&key)),
                1 => {
                    let other = odd_value(dice, steps);
                    map.insert(odd_text(&key, dice), other);
                }
                _ => mutate(&mut map[&key], dice, steps),
            }
        }
        Value::Array(list) if !list.is_empty() && dice.roll(8) > 0 => {
            let at = dice.roll(list.len());
            match dice.roll(12) {
                0 => drop(list.remove(at)),
                1 => {
                    let copy = list[at].clone();
                    let times = *dice.pick(&[1, 2, 9, 70]);
                    list.splice(at..at, vec![copy; times]);
                }
                2 => list.insert(at, odd_value(dice, steps)),
                3 => {
                    let other = dice.roll(list.len());
                    list.swap(at, other);
                }
                _ => mutate(&mut list[at], dice, steps),
            }
        }
        Value::String(text) if dice.roll(3) > 0 => *text = odd_text(text, dice),
        Value::Number(number) if dice.roll(3) > 0 => {
            let number = number.as_i64().unwrap_or(0);
            *value = (*dice.pick(&[number - 1, number + 1, -number, number * 1000, 0])).into();
        }
        Value::Object(_) if dice.roll(3) == 0 => {
            // Deep nesting.
            let list = *dice.pick(&["normalizers", "pretokenizers", "decoders"]);
            for _ in 0..*dice.pick(&[1, 3, 60]) {
                let inner = value.take();
                *value = json!({"type": "Sequence", list: [inner]});
            }
        }
        other => *other = odd_value(dice, steps),
    }
}

/// Files to begin with: as this library writes them, and with steps of every kind.
fn originals() -> Vec<Value> {
    let read = |tokenizer: Tokenizer| {
        serde_json::from_str::<Value>(&tokenizer.to_json().unwrap()).unwrap()
    };
    let bytes = read(sample());
    let scores = read(Tokenizer::from_spec(score_spec(&score_storage())).unwrap());
    let mut rich = bytes.clone();
    rich["normalizer"] = json!({"type": "Sequence", "normalizers": [
        {"type": "Precompiled", "precompiled_charsmap": STANDARD.encode(table(b'a', "xy"))},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
        {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": true, "lowercase": false},
        {"type": "NFKC"},
        {"type": "Strip", "strip_left": true, "strip_right": false},
    ]});
    rich["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": r"\p{L}+|\s+|[^\p{L}\s]"}, "behavior": "Isolated", "invert": false},
        {"type": "Digits", "individual_digits": true},
        {"type": "FixedLength", "length": 7},
        {"type": "Punctuation", "behavior": "MergedWithPrevious"},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
    ]});
    for token in rich["added_tokens"].as_array_mut().unwrap() {
        token["normalized"] = true.into();
        token["lstrip"] = true.into();
    }
    let mut spaces = scores.clone();
    spaces["normalizer"] = Value::Null;
    spaces["pre_tokenizer"] = json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "first", "split": true});
    vec![bytes, scores, rich.clone(), rich, spaces]
}

const TEXTS: [&str; 6] = [
    "",
    "Hello",
    " in the  1234 <|eot_id|> ca\u{301}per\n\n",
    "\u{4e2d}\u{fdfa}\u{1f600}\u{200d}\u{1f600} \u{fb01}\0",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "<tool></s> <s>",
];

/// Opens a mutant and uses it; `opened` counts those that can be opened.
fn use_it(json: &str, opened: &mut usize) -> Result<()> {
    let config = json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}});
    let tokenizer = Tokenizer::from_json("mutant", json.as_bytes(), Some(&config))?;
    *opened += 1;
    let mut first = Ok(());
    for text in TEXTS {
        for options in [PLAIN, SPECIAL] {
            match tokenizer.encode(text, options) {
                Ok(ids) => {
                    assert!(
                        ids.len() <= (1 << 16) + 32 * text.len() + 1,
                        "{} ids",
                        ids.len()
                    );
                    tokenizer.decode(&ids);
                }
                Err(error) if first.is_ok() => first = Err(error),
                Err(_) => {}
            }
        }
    }
    tokenizer.stops();
    tokenizer.to_json()?;
    tokenizer.to_gguf()?;
    first
}

fn run_mutants(seeds: std::ops::Range<u64>) {
    let (originals, steps) = (originals(), steps());
    let started = Instant::now();
    let (mut opened, mut whole) = (0, 0);
    for seed in seeds {
        let mut dice = Dice(seed);
        let mut document = dice.pick(&originals).clone();
        let changes = *dice.pick(&[1, 1, 1, 2, 4]);
        for _ in 0..changes {
            // Most often in one of the parts that hold steps.
            let part = *dice.pick(&[
                "",
                "normalizer",
                "normalizer",
                "pre_tokenizer",
                "pre_tokenizer",
                "decoder",
                "added_tokens",
                "model",
            ]);
            if part.is_empty() || !document.is_object() {
                mutate(&mut document, &mut dice, &steps);
                continue;
            }
            match (dice.roll(3), part) {
                (0, "normalizer") => {
                    document[part] = sequence(&NORMALIZERS, "normalizers", &mut dice, &steps)
                }
                (0, "pre_tokenizer") => {
                    document[part] = sequence(&PRE_TOKENIZERS, "pretokenizers", &mut dice, &steps);
                }
                _ => mutate(&mut document[part], &mut dice, &steps),
            }
        }
        let json = document.to_string();
        let before = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| use_it(&json, &mut opened)));
        let parts = || {
            let part = |name: &str| {
                document[name]
                    .to_string()
                    .chars()
                    .take(2000)
                    .collect::<String>()
            };
            format!(
                "seed {seed}: normalizer {}, pre_tokenizer {}",
                part("normalizer"),
                part("pre_tokenizer")
            )
        };
        match result {
            Err(_) => panic!("a panic: {}", parts()),
            Ok(Err(error)) => assert!(
                !error.to_string().contains("panicked"),
                "{error}: {}",
                parts()
            ),
            Ok(Ok(())) => whole += 1,
        }
        let took = before.elapsed();
        assert!(took < Duration::from_secs(30), "{took:?}: {}", parts());
    }
    let took = started.elapsed();
    println!("{opened} mutants could be opened, {whole} used for everything; {took:?}");
    assert!(opened > 0 && whole > 0, "{opened} opened, {whole} whole");
}

#[test]
fn mutants_give_errors_or_tokenizers() {
    run_mutants(0..4000);
}

/// For longer looks: as many as were tried when the checks were written.
#[test]
#[ignore = "takes minutes"]
fn many_mutants_give_errors_or_tokenizers() {
    run_mutants(1_000_000..1_060_000);
}
