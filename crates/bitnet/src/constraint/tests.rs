use super::*;
use crate::tokenizer::EncodeOptions;
use crate::{Engine, EngineOptions, GenerateOptions, Request, SamplingOptions};

#[test]
fn words_that_went_through_bytes_allow_the_same() {
    let model = Model::demo().expect("the demo model");
    let words = TokenWords::of(model.tokenizer(), model.vocabulary());
    let words = TokenWords::from_bytes(&words.to_bytes()).expect("its words");
    let grammar = Grammar::Regex("[a-z]+ [0-9]{3}".into());
    let masks = |grammars: Grammars| {
        let mut constraint = grammars.constraint(&grammar).expect("a grammar");
        let prompt = [1, 2, 3];
        let mut text = prompt.to_vec();
        let mut masks = vec![constraint.allowed(&text).expect("a mask").cloned()];
        text.extend(
            model
                .tokenizer()
                .encode("abc 1", EncodeOptions::default())
                .expect("ids"),
        );
        masks.push(constraint.allowed(&text).expect("a mask").cloned());
        masks
    };
    let own = masks(Grammars::new(&model).expect("its tokens"));
    assert!(own.iter().all(|mask| mask.is_some()) && own[0] != own[1]);
    assert_eq!(own, masks(Grammars::of_words(&words).expect("its words")));
}

fn write(grammar: &Grammar, seed: u64) -> String {
    let model = Model::demo().expect("the demo model");
    let grammars = Grammars::new(&model).expect("its tokens");
    let engine = Engine::new(&model, EngineOptions::default()).expect("an engine");
    let constraint = grammars.constraint(grammar).expect("a grammar");
    let options = GenerateOptions {
        max_tokens: 200,
        sampling: SamplingOptions {
            seed,
            temperature: 1.0,
            ..SamplingOptions::default()
        },
        ..GenerateOptions::default()
    };
    let request = Request {
        hook: Some(Box::new(constraint)),
        ..Request::new("Once upon a time", &options)
    };
    let stream = engine.submit(request).expect("a stream");
    stream.text().expect("a text").0
}

#[test]
fn texts_keep_their_form() {
    for seed in 0..4 {
        let text = write(
            &Grammar::Choice(vec!["a dog".into(), "a \"cat\"".into()]),
            seed,
        );
        assert!(text == "a dog" || text == "a \"cat\"", "{text:?}");
        let text = write(&Grammar::Regex("[0-9]{2}-[a-f]{3}".into()), seed);
        assert_eq!(text.len(), 6, "{text:?}");
        assert!(
            text[..2].parse::<u8>().is_ok() && text[2..].starts_with('-'),
            "{text:?}"
        );
        let schema = json!({
            "type": "object", "additionalProperties": false, "required": ["name", "age"],
            "properties": {"name": {"enum": ["Tom", "Mia"]}, "age": {"type": "integer", "minimum": 1, "maximum": 9}},
        });
        let text = write(&Grammar::JsonSchema(schema), seed);
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert!(["Tom", "Mia"].contains(&value["name"].as_str().expect("a name")));
        assert!((1..=9).contains(&value["age"].as_i64().expect("an age")));
        let text = write(&Grammar::Lark("start: \"x\" | \"y\" start".into()), seed);
        assert!(text.trim_start_matches('y') == "x", "{text:?}");
        let gbnf = "root ::= \"(\" root? \")\" | [0-9]{2} ( \"-\" | ) [^a-z]";
        let text = write(&Grammar::from_text(gbnf), seed);
        let inner = text.trim_start_matches('(').trim_end_matches(')');
        let digits = inner.chars().take_while(char::is_ascii_digit).count();
        assert!(inner.is_empty() || digits >= 2, "{text:?}");
        let text = write(
            &Grammar::from_text(
                "root ::= ws \"ab\" [\\u0041-\\x43]+ \".\"\nws ::= | \" \" ws2\nws2 ::= [\\t ]{0,2}",
            ),
            seed,
        );
        let rest = text.trim_start_matches([' ', '\t']).strip_prefix("ab");
        let rest = rest.and_then(|rest| rest.strip_suffix('.'));
        let rest = rest.unwrap_or_else(|| panic!("{text:?}"));
        assert!(
            !rest.is_empty() && rest.chars().all(|it| ('A'..='C').contains(&it)),
            "{text:?}"
        );
    }
}

/// A grammar whose every rule needs the next one.
fn chain(rules: usize, is: &str, start: &str, word: &str) -> String {
    let one = |rule: usize| format!("{word}{rule}{is} (\"b\" {word}{})*\n", rule + 1);
    let all: String = (0..rules).map(one).collect();
    format!("{start}{is} {word}0\n{all}{word}{rules}{is} \"a\"\n")
}

/// A schema whose every part is the next one.
fn references(parts: usize) -> Value {
    let one = |part: usize| {
        let next = json!({"$ref": format!("#/$defs/{}", part + 1)});
        (part.to_string(), json!({"type": "array", "items": next}))
    };
    let mut parts_by_name: serde_json::Map<_, _> = (0..parts).map(one).collect();
    parts_by_name.insert(parts.to_string(), json!({"type": "string"}));
    json!({"$ref": "#/$defs/0", "$defs": parts_by_name})
}

#[test]
fn deep_grammars_are_followed_or_refused() {
    let model = Model::demo().expect("the demo model");
    let grammars = Grammars::new(&model).expect("its tokens");
    let of = |depth: usize| {
        [
            Grammar::Lark(chain(depth, ":", "start", "w")),
            Grammar::Lark(chain(depth, ":", "start", "W")),
            Grammar::Gbnf(chain(depth, " ::=", "root", "w")),
            Grammar::JsonSchema(references(depth)),
            Grammar::Lark(format!("start: %json {}", references(depth))),
        ]
    };
    for grammar in of(60_000).into_iter().chain(of(5_000)) {
        let error = grammars.constraint(&grammar).err().expect("too deep");
        assert!(
            error.to_string().contains("grammar: expected at most"),
            "{error}"
        );
    }
    for brackets in [100, 100_000] {
        let text = format!(
            "start: {}\"a\"{}",
            "(".repeat(brackets),
            ")".repeat(brackets)
        );
        let error = grammars.constraint(&Grammar::Lark(text)).err();
        assert!(error.expect("too deep").to_string().contains("nested"));
    }
    for grammar in of(90) {
        let mut constraint = grammars.constraint(&grammar).expect("it is not deep");
        constraint.scope(&[1]).expect("a mask");
    }
    for grammar in of(depth::MOST - 5) {
        // Some are more than is computed for a token; none may take the stack.
        if let Ok(mut constraint) = grammars.constraint(&grammar) {
            let _ = constraint.scope(&[1]);
        }
    }
}

#[test]
fn grammars_that_are_none_or_explode_are_refused() {
    let model = Model::demo().expect("the demo model");
    let grammars = Grammars::new(&model).expect("its tokens");
    let deep = (0..12).fold(
        json!({"type": "string"}),
        |inner, _| json!({"anyOf": [inner.clone(), {"type": "array", "items": inner}]}),
    );
    for grammar in [
        Grammar::Regex("(a".into()),
        Grammar::Lark("begin: \"x\"".into()),
        Grammar::Gbnf("root ::= other".into()),
        Grammar::JsonSchema(json!({"type": "colour"})),
        Grammar::JsonSchema(json!({"$ref": "https://example.com/schema"})),
        Grammar::JsonSchema(json!({"allOf": [deep, {"type": "colour"}]})),
        Grammar::Choice(vec![]),
        Grammar::Regex("a".repeat(LONGEST + 1)),
    ] {
        let error = match grammars.constraint(&grammar) {
            // What is only found out at a token is refused there.
            Ok(mut constraint) => constraint.scope(&[1]).err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        let error = error.unwrap_or_else(|| panic!("{grammar:?} was taken"));
        assert!(error.starts_with("grammar: expected"), "{error}");
    }
    // What is as long when it is written out may be taken, but takes no longer to follow.
    let long = grammars.constraint(&Grammar::Regex("(((a{1000}){1000}){1000}){1000}".into()));
    if let Ok(mut constraint) = long {
        let scope = constraint.scope(&[1]);
        assert!(matches!(scope, Ok(HookScope::Tokens(_)) | Err(_)));
    }
}
