//! Added tokens of a `tokenizer.json`: found where the `tokenizers` crate finds them.

use super::*;
use serde_json::{Value, json};

/// A byte-level vocabulary with `added` tokens, as (text, control, normalized, lstrip, rstrip, single_word).
fn document(normalizer: &Value, added: &[(&str, [bool; 5])]) -> Value {
    let mut document: Value = serde_json::from_str(&sample().to_json().unwrap()).unwrap();
    document["normalizer"] = normalizer.clone();
    document["post_processor"] = Value::Null;
    let vocab = document["model"]["vocab"].as_object_mut().unwrap();
    vocab.retain(|text, _| !text.starts_with('<') || text.len() == 1);
    // Numbered without gaps, as the crate numbers them.
    let mut texts: Vec<(String, u64)> = vocab
        .iter()
        .map(|(text, id)| (text.clone(), id.as_u64().unwrap()))
        .collect();
    texts.sort_by_key(|(_, id)| *id);
    for (id, (text, _)) in texts.iter().enumerate() {
        vocab[text] = id.into();
    }
    let first = texts.len();
    document["added_tokens"] = added
        .iter()
        .enumerate()
        .map(|(index, (content, [special, normalized, lstrip, rstrip, single_word]))| {
            json!({
                "id": first + index, "content": content, "special": special, "normalized": normalized,
                "lstrip": lstrip, "rstrip": rstrip, "single_word": single_word,
            })
        })
        .collect();
    document
}

fn normalizers() -> Vec<Value> {
    let prepend = json!({"type": "Prepend", "prepend": "_"});
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "_"});
    vec![
        Value::Null,
        json!({"type": "NFC"}),
        json!({"type": "Lowercase"}),
        json!({"type": "Sequence", "normalizers": [prepend, replace]}),
        json!({"type": "Strip", "strip_left": true, "strip_right": true}),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, ..ProptestConfig::with_cases(200) })]
    #[test]
    fn they_are_found_where_the_tokenizers_crate_finds_them(
        flags in proptest::collection::vec(any::<[bool; 5]>(), 7),
        text in "( |  |\t|a|the|Word|word|WORD|<A>|<a>|\u{c9}\u{e9}|\u{e9}|e\u{301}|_|\u{301}|\u{b2}|<A><b>|\n){0,12}",
        which in 0usize..5,
    ) {
        let texts = ["Word", "<A>", "<A><b>", "e\u{301}x", "\u{c9}\u{e9}", "  ", "_the"];
        let added: Vec<(&str, [bool; 5])> = texts.into_iter().zip(flags).collect();
        let normalizer = normalizers().swap_remove(which);
        let json = document(&normalizer, &added).to_string();
        // Of spaces, stripping leaves nothing, which the crate finds everywhere.
        prop_assume!(which != 4 || !added[5].1[1]);
        // It refuses two tokens that have the same normal form.
        let Ok(reference) = tokenizers::Tokenizer::from_bytes(json.as_bytes()) else {
            return Ok(());
        };
        let tokenizer = Tokenizer::from_json("added", json.as_bytes(), None).unwrap();
        let options = EncodeOptions { add_bos: false, parse_special: true };
        let found = tokenizer.encode(&text, options).unwrap();
        // It panics where a token lies in whitespace that the one before swallowed, and swallows whitespace itself.
        let expected = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| reference.encode(text.as_str(), false)));
        if let Ok(expected) = expected {
            let expected = expected.unwrap();
            prop_assert_eq!(found, expected.get_ids(), "{}", json);
        }
    }
}

#[test]
fn normalized_tokens_are_found_in_normalized_text() {
    let lower = json!({"type": "Lowercase"});
    let added = [
        ("Yesterday", [false, true, false, false, false]),
        ("[DAY]", [false, false, false, false, false]),
        ("<Mark>", [true, true, false, false, false]),
    ];
    let json = document(&lower, &added).to_string();
    let tokenizer = Tokenizer::from_json("added", json.as_bytes(), None).unwrap();
    assert_eq!(
        pieces(&tokenizer, "YESTERDAY[DAY][day]", PLAIN),
        ["Yesterday", "[DAY]", "[", "d", "a", "y", "]"]
    );
    assert_eq!(pieces(&tokenizer, "<mark>", SPECIAL), ["<Mark>"]);
    assert_eq!(pieces(&tokenizer, "<mark>", PLAIN).len(), 6);
    // Text of a user between marks of a template does not become a mark, in whatever case.
    let ids = tokenizer.encode_guarded(
        "<Mark>\u{1}",
        |text| text.replace('\u{1}', "<mark><MARK>"),
        false,
    );
    let texts = texts(&tokenizer, &ids.unwrap());
    assert_eq!(texts.iter().filter(|text| *text == "<Mark>").count(), 1);
    // It is written as it was read.
    let again: Value = serde_json::from_str(&tokenizer.to_json().unwrap()).unwrap();
    let flags: Vec<bool> = again["added_tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| token["normalized"].as_bool().unwrap())
        .collect();
    assert_eq!(flags, [true, false, true]);
}
