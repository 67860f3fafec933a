//! `tokenizer.json`: opened and used.

use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use bitnet::tokenizer::{EncodeOptions, Tokenizer};
use serde_json::{Value, json};

use crate::edit;
use crate::seeds;

const TEXTS: [&str; 4] = [
    "",
    " in the  1234 <|eot_id|> ca\u{301}per\n\n",
    "\u{4e2d}\u{fdfa}\u{1f600}\u{200d}\u{1f600} \u{fb01}\0",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

/// Regular expressions with constructs of every kind.
const REGEXES: [&str; 14] = [
    ".",
    "a*",
    r"\s+(?!\S)|\s+",
    r"(?<=a)",
    "(a|aa)+$",
    r"\p{L}+|\p{N}{1,3}|[^\s\p{L}]+",
    r"(a)\1",
    "(?:a|b|ab)*(?!.?)",
    r"\b",
    "(?i)[a-z]+",
    "(?:)*",
    r"^$|\z",
    "(?:(?=a)a{1000}){1000}",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+",
];

/// Steps that may stand anywhere.
fn steps() -> Vec<Value> {
    let mut steps = vec![
        json!({"type": "Prepend", "prepend": "\u{2581}"}),
        json!({"type": "Strip", "strip_left": true, "strip_right": true}),
        json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}),
        json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true}),
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "first", "split": true}),
        json!({"type": "FixedLength", "length": 2}),
        json!({"type": "CharDelimiterSplit", "delimiter": " "}),
        json!({"type": "Punctuation", "behavior": "Contiguous"}),
        json!({"type": "Digits", "individual_digits": true}),
        json!({"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="}),
        json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}),
        json!({"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]}),
        json!({"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, {"type": "BertPreTokenizer"}]}),
        json!({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}),
        json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}], "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}),
        json!({"id": 511, "content": "<x>", "single_word": true, "lstrip": true, "rstrip": true, "normalized": true, "special": false}),
    ];
    for kind in [
        "NFC",
        "NFD",
        "NFKC",
        "Nmt",
        "WhitespaceSplit",
        "UnicodeScripts",
        "Fuse",
    ] {
        steps.push(json!({"type": kind}));
    }
    for regex in REGEXES {
        steps.push(json!({"type": "Replace", "pattern": {"Regex": regex}, "content": "aa"}));
        steps.push(json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false}));
    }
    steps
}

struct Seeds {
    documents: Vec<Value>,
    steps: Vec<Value>,
}

pub(crate) fn run(u: &mut Unstructured<'_>) {
    // A script that ends early is no input.
    let _ = try_run(u);
}

fn try_run(u: &mut Unstructured<'_>) -> Result<()> {
    static SEEDS: OnceLock<Seeds> = OnceLock::new();
    let seeds = SEEDS.get_or_init(|| Seeds {
        documents: seeds::checkpoints()
            .into_iter()
            .map(|c| c.tokenizer)
            .collect(),
        steps: steps(),
    });
    let mut document = u.choose(&seeds.documents)?.clone();
    let parts = [
        "normalizer",
        "pre_tokenizer",
        "decoder",
        "post_processor",
        "added_tokens",
        "model",
    ];
    for _ in 0..u.int_in_range(1..=3)? {
        let part = u.choose(&parts)?;
        match document.get_mut(part) {
            Some(place) if u.ratio(1, 3)? => *place = u.choose(&seeds.steps)?.clone(),
            Some(place) => edit::json(place, &seeds.steps, u)?,
            None => edit::json(&mut document, &seeds.steps, u)?,
        }
    }
    let config = json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}});
    let bytes = document.to_string();
    match Tokenizer::from_json("fuzzed", bytes.as_bytes(), Some(&config)) {
        Ok(tokenizer) => look_at(&tokenizer),
        // Caught by the library, which a build that aborts cannot do.
        Err(error) => assert!(!error.to_string().contains("panicked"), "{error}"),
    }
    Ok(())
}

/// Encodes and decodes texts.
fn look_at(tokenizer: &Tokenizer) {
    for text in TEXTS {
        for parse_special in [false, true] {
            let options = EncodeOptions {
                add_bos: parse_special,
                parse_special,
            };
            match tokenizer.encode(text, options) {
                Ok(ids) => drop(tokenizer.decode(&ids)),
                Err(error) => assert!(!error.to_string().contains("panicked"), "{error}"),
            }
        }
    }
    let _ = (tokenizer.to_json(), tokenizer.stops());
}
