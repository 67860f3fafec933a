//! Tokenizers from `tokenizer.json`, and written as one.

use super::*;
use serde_json::json;

#[test]
fn json_and_gguf_forms_come_back_the_same() {
    let sample = Sample::new();
    let storage = score_storage();
    let texts = [
        "in the  1234 <|eot_id|> caper</s>the  \n\n x",
        "",
        " \u{e9}\u{1f600}",
    ];
    for spec in [sample.spec(), score_spec(&storage)] {
        let config = json!({
            "bos_token": {"content": std::str::from_utf8(spec.tokens[spec.bos.unwrap() as usize]).unwrap()},
            "eos_token": std::str::from_utf8(spec.tokens[spec.eos.unwrap() as usize]).unwrap(),
        });
        let tokenizer = Tokenizer::from_spec(spec).unwrap();
        let json = tokenizer.to_json().unwrap();
        let again = Tokenizer::from_json("tokenizer.json", json.as_bytes(), Some(&config)).unwrap();
        let gguf = again.to_gguf().unwrap();
        let third = Tokenizer::from_spec(super::ends::spec_of(&gguf)).unwrap();
        for other in [&again, &third] {
            assert_eq!(other.vocab_size(), tokenizer.vocab_size());
            assert_eq!(other.stops(), tokenizer.stops());
            assert_eq!(other.bos(), tokenizer.bos());
            assert_eq!(other.add_bos(), tokenizer.add_bos());
            for text in texts {
                for options in [PLAIN, SPECIAL] {
                    let ids = tokenizer.encode(text, options).unwrap();
                    assert_eq!(other.encode(text, options).unwrap(), ids, "{text:?}");
                    assert_eq!(other.decode(&ids), tokenizer.decode(&ids));
                }
            }
        }
        // The `tokenizers` crate reads the same file and agrees.
        let reference = tokenizers::Tokenizer::from_bytes(json.as_bytes()).unwrap();
        for text in texts.into_iter().filter(|text| !text.is_empty()) {
            let ids = reference.encode(text, true).unwrap();
            assert_eq!(ids.get_ids(), tokenizer.encode(text, SPECIAL).unwrap());
        }
    }
}

#[test]
fn json_with_rules_of_its_own_runs_them() {
    let mut document: serde_json::Value =
        serde_json::from_str(&sample().to_json().unwrap()).unwrap();
    document["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "\\p{L}+|\\s+|[^\\p{L}\\s]"}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
    ]});
    let tokenizer = Tokenizer::from_json("own", document.to_string().as_bytes(), None).unwrap();
    assert_eq!(
        pieces(&tokenizer, "in the 12", PLAIN),
        ["in", "Ġ", "t", "he", "Ġ", "1", "2"]
    );
    assert!(tokenizer.to_gguf().is_err());
    let long = " ".repeat(1 << 20);
    match tokenizer.encode(&long, PLAIN) {
        Ok(ids) => assert_eq!(tokenizer.decode(&ids), long),
        Err(error) => assert!(error.to_string().contains("own")),
    }
}

#[test]
fn an_expression_that_gives_up_is_an_error() {
    let mut document: serde_json::Value =
        serde_json::from_str(&sample().to_json().unwrap()).unwrap();
    document["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(?:a|b|ab)*(?!.?)".into();
    let tokenizer = Tokenizer::from_json("own", document.to_string().as_bytes(), None).unwrap();
    assert!(tokenizer.encode("abc", PLAIN).is_ok());
    assert!(tokenizer.encode(&"ab".repeat(40), PLAIN).is_err());
}

#[test]
fn a_space_in_front_of_the_first_stretch_only() {
    let mut document: serde_json::Value = serde_json::from_str(
        &Tokenizer::from_spec(score_spec(&score_storage()))
            .unwrap()
            .to_json()
            .unwrap(),
    )
    .unwrap();
    document["normalizer"] = serde_json::Value::Null;
    document["pre_tokenizer"] =
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false});
    let tokenizer = Tokenizer::from_json("first", document.to_string().as_bytes(), None).unwrap();
    assert_eq!(
        pieces(&tokenizer, "the</s>the the", SPECIAL),
        ["<s>", "▁the", "</s>", "t", "he", "▁the"]
    );
}

#[test]
fn wrong_json_gives_errors() {
    let good: serde_json::Value = serde_json::from_str(&sample().to_json().unwrap()).unwrap();
    let changes: [fn(&mut serde_json::Value); 8] = [
        |json| json["model"]["type"] = "Unigram".into(),
        |json| json["model"]["vocab"] = json!({}),
        |json| json["model"]["vocab"]["far"] = json!(4_000_000_000u32),
        |json| json["model"]["vocab"]["twice"] = json!(0),
        |json| json["model"]["end_of_word_suffix"] = "</w>".into(),
        |json| json["model"]["dropout"] = json!(0.5),
        |json| json["decoder"] = json!({"type": "WordPiece"}),
        |json| json["pre_tokenizer"] = json!({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false}),
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut wrong = good.clone();
        change(&mut wrong);
        if index == 1 {
            wrong["added_tokens"] = json!([]);
        }
        let result = Tokenizer::from_json("wrong.json", wrong.to_string().as_bytes(), None);
        assert!(result.is_err(), "change {index}");
    }
    assert!(Tokenizer::from_json("wrong.json", b"{", None).is_err());
    // Merges of tokens that are not there are refused, as the `tokenizers` crate does, which would panic on some.
    for merges in [
        json!([
            ["i", "n"],
            ["in", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"]
        ]),
        json!([["i", "n"], ["n", "i"]]),
        json!(["i n", "in"]),
        json!(["i n", "i n n"]),
        json!([]),
        json!(null),
    ] {
        let mut odd = good.clone();
        odd["model"]["merges"] = merges.clone();
        odd["model"]["ignore_merges"] = false.into();
        let error = Tokenizer::from_json("odd.json", odd.to_string().as_bytes(), None).unwrap_err();
        assert!(
            error.to_string().contains("model.merges"),
            "{merges}: {error}"
        );
    }
}
