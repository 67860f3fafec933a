//! Calls of tools that a constraint lets through, and the replies that they are read from.

use bitnet::Candidate;
use bitnet::chat::{CallFormat, ReplyOptions, ReplyParser, ReplyPart, Thinking, Tool, ToolCall};
use bitnet::constraint::{Calls, Grammar, Grammars, Otherwise};
use bitnet::hook::{HookScope, Hooks, LogitsHook};
use bitnet::tokenizer::{EncodeOptions, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::OnceLock;

const FORMATS: [CallFormat; 4] = [
    CallFormat::Hermes,
    CallFormat::Xml,
    CallFormat::Json,
    CallFormat::Pythonic,
];

/// A small vocabulary: that of the demo model, and with the marks of thinking and calls as tokens.
fn vocabularies() -> &'static [(Tokenizer, Grammars); 2] {
    static VOCABULARIES: OnceLock<[(Tokenizer, Grammars); 2]> = OnceLock::new();
    VOCABULARIES.get_or_init(|| {
        let json = include_bytes!("../../bitnet-demo/data/tokenizer.json");
        let mut json: Value = serde_json::from_slice(json).expect("JSON");
        [
            &[][..],
            &["<think>", "</think>", "<tool_call>", "</tool_call>"],
        ]
        .map(|marks| {
            let added = json["added_tokens"].as_array_mut().expect("a list");
            for mark in marks {
                let mut token = added[0].clone();
                token["id"] = (2045 + added.len()).into();
                token["content"] = (*mark).into();
                token["special"] = false.into();
                added.push(token);
            }
            let vocabulary = 2045 + added.len();
            let bytes = json.to_string();
            let tokenizer = Tokenizer::from_json("test", bytes.as_bytes(), None).expect("one");
            assert_eq!(tokenizer.vocab_size(), vocabulary);
            let grammars = Grammars::of_tokenizer(&tokenizer, vocabulary).expect("grammars");
            (tokenizer, grammars)
        })
    })
}

fn tools() -> Vec<Tool> {
    let parameters = json!({
        "type": "object",
        "properties": {
            "note": {"anyOf": [{"type": "string", "maxLength": 5}, {"type": "null"}]},
            "city": {"type": "string", "maxLength": 12},
            "days": {"type": "integer", "minimum": 0, "maximum": 14},
            "unit": {"type": "string", "enum": ["C", "\"F\""]},
            "zip": {"type": "string", "pattern": "^[0-9]{4}$"},
            "hourly": {"type": "boolean"},
            "tags": {"$ref": "#/$defs/tags"},
        },
        "required": ["city", "days", "zip"],
        "additionalProperties": false,
        "$defs": {"tags": {"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 2}},
    });
    let named = |name: &str, parameters| Tool {
        name: name.into(),
        parameters,
        strict: false,
    };
    vec![named("weather", Some(parameters)), named("time-now", None)]
}

fn calls(format: CallFormat, parallel: bool, otherwise: Otherwise) -> Grammar {
    Grammar::Calls(Box::new(Calls {
        format,
        tools: tools(),
        parallel,
        otherwise,
    }))
}

/// A text of tokens that `hook` lets through, drawn by chance.
fn walk(tokenizer: &Tokenizer, hook: &mut dyn LogitsHook, mut seed: u64) -> String {
    let prompt = [1, 2, 3];
    let mut tokens = prompt.to_vec();
    for _ in 0..1000 {
        hook.scope(&tokens).expect("a scope");
        let all = 0..tokenizer.vocab_size() as u32;
        let mut candidates: Vec<_> = all.map(|id| Candidate { id, logit: 0.0 }).collect();
        hook.apply(&tokens, &mut candidates).expect("candidates");
        assert!(!candidates.is_empty(), "{:?}", tokenizer.decode(&tokens));
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let next = candidates[(seed >> 33) as usize % candidates.len()].id;
        if tokenizer.stops().contains(&next) {
            return tokenizer.decode(&tokens[prompt.len()..]);
        }
        tokens.push(next);
    }
    panic!("no end: {:?}", tokenizer.decode(&tokens));
}

/// Thinking, text and calls of a reply.
fn parse(options: ReplyOptions, text: &str) -> (String, String, Vec<ToolCall>) {
    let mut parser = ReplyParser::new(options);
    let mut parts = parser.push(text);
    parts.extend(parser.finish());
    let (mut thinking, mut rest, mut calls) = (String::new(), String::new(), Vec::new());
    for part in parts {
        match part {
            ReplyPart::Thinking(text) => thinking += &text,
            ReplyPart::Text(text) => rest += &text,
            ReplyPart::Call(call) => calls.push(call),
        }
    }
    (thinking, rest, calls)
}

fn options(format: CallFormat) -> ReplyOptions {
    ReplyOptions {
        tools: Some((format, tools())),
        ..ReplyOptions::default()
    }
}

/// Asserts that a call is as its schema says.
fn check(call: &ToolCall, text: &str) {
    let arguments = &call.arguments;
    if call.name == "time-now" {
        assert!(arguments.is_empty(), "{text}");
        return;
    }
    let length = |value: &Value| value.as_str().map(|text| text.chars().count());
    assert!(
        ["city", "days", "zip"]
            .iter()
            .all(|name| arguments.contains_key(*name)),
        "{text}"
    );
    for (name, value) in arguments {
        let is_right = match name.as_str() {
            "note" => value.is_null() || length(value).is_some_and(|length| length <= 5),
            "city" => length(value).is_some_and(|length| length <= 12),
            "days" => value.as_i64().is_some_and(|days| (0..=14).contains(&days)),
            "unit" => ["C", "\"F\""].iter().any(|unit| value == unit),
            "zip" => value
                .as_str()
                .is_some_and(|zip| zip.len() == 4 && zip.bytes().all(|c| c.is_ascii_digit())),
            "hourly" => value.is_boolean(),
            "tags" => value.as_array().is_some_and(|tags| {
                tags.len() <= 2
                    && tags
                        .iter()
                        .all(|tag| length(tag).is_some_and(|length| length <= 4))
            }),
            _ => false,
        };
        assert!(is_right, "{name}: {value} in {text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the tokens, a demanded call is one, and its arguments are those of the schema.
    #[test]
    fn demanded_calls_are_calls(seed: u64, with_marks: bool, parallel: bool) {
        let (tokenizer, grammars) = &vocabularies()[usize::from(with_marks)];
        for format in FORMATS {
            let grammar = calls(format, parallel, Otherwise::Nothing);
            let mut constraint = grammars.constraint(&grammar).expect("a grammar");
            let text = walk(tokenizer, &mut constraint, seed);
            let (_, rest, calls) = parse(options(format), &text);
            prop_assert!(rest.trim().is_empty(), "{rest:?} of {text}");
            prop_assert!(calls.len() == 1 || parallel && calls.len() > 1, "{text}");
            calls.iter().for_each(|call| check(call, &text));
        }
    }

    /// The same behind thinking, however its marks are written in tokens.
    #[test]
    fn calls_follow_thinking(seed: u64, with_marks: bool, is_open: bool, budget in 0usize..20) {
        assert_calls_follow_thinking(seed, with_marks, is_open, budget);
    }
}

/// A call follows thinking that ends by itself or after `budget` tokens.
fn assert_calls_follow_thinking(seed: u64, with_marks: bool, is_open: bool, budget: usize) {
    let (tokenizer, grammars) = &vocabularies()[usize::from(with_marks)];
    for format in FORMATS {
        let grammar = calls(format, false, Otherwise::Nothing);
        let thinking = Thinking::new(tokenizer, is_open).expect("marks");
        let constraint = grammars
            .constraint_after(&grammar, &thinking)
            .expect("a grammar");
        let hooks: Vec<Box<dyn LogitsHook>> =
            vec![Box::new(thinking.budget(budget)), Box::new(constraint)];
        let mut hook = Hooks::of(hooks).expect("a hook");
        let text = walk(tokenizer, &mut *hook, seed);
        // Where thinking ends with a token, a model is left alone until then, and may end its text there.
        let thinks = is_open || text.starts_with("<think>");
        if with_marks && thinks && !text.contains("</think>") {
            continue;
        }
        let options = ReplyOptions {
            thinks: true,
            begins_thinking: is_open,
            ..options(format)
        };
        let (_, rest, calls) = parse(options, &text);
        assert!(rest.trim().is_empty(), "{rest:?} of {text}");
        assert_eq!(calls.len(), 1, "{text}");
        check(&calls[0], &text);
    }
}

#[test]
fn thinking_may_end_amid_a_character_or_with_the_text() {
    // The budget is used up within a character.
    assert_calls_follow_thinking(14_483_858_512_235_796_571, false, true, 16);
    // The text ends before the thinking.
    assert_calls_follow_thinking(12_307_694_416_705_338_133, true, true, 4);
}

/// Whether a grammar takes a text as a whole.
fn takes(grammar: &Grammar, text: &str) -> bool {
    let (tokenizer, grammars) = &vocabularies()[1];
    let mut constraint = grammars.constraint(grammar).expect("a grammar");
    let mut tokens = vec![1];
    let stop = tokenizer.stops()[0];
    let ids = tokenizer
        .encode(text, EncodeOptions::default())
        .expect("tokens");
    for id in ids.into_iter().chain([stop]) {
        assert_ne!(
            constraint.scope(&tokens).expect("a scope"),
            HookScope::Nothing
        );
        let mut candidates = vec![Candidate { id, logit: 0.0 }];
        constraint
            .apply(&tokens, &mut candidates)
            .expect("candidates");
        if candidates.is_empty() {
            return false;
        }
        tokens.push(id);
    }
    true
}

#[test]
fn texts_may_come_with_calls_or_in_their_place() {
    let hermes = "<tool_call>\n{\"name\": \"time-now\", \"arguments\": {}}\n</tool_call>";
    let xml = "<tool_call>\n<function=weather>\n<parameter=city>\nNew\nYork <b>\n</parameter>\n<parameter=days>\n3\n</parameter>\n\
               <parameter=zip>\n1234\n</parameter>\n</function>\n</tool_call>";
    let llama = "{\"name\": \"time-now\", \"parameters\": {}}";
    let python = "[weather(city=\"a\", days=14, zip=\"0000\", hourly=True), time-now()]";
    for (format, call) in [
        (CallFormat::Hermes, hermes),
        (CallFormat::Xml, xml),
        (CallFormat::Json, llama),
        (CallFormat::Pythonic, python),
    ] {
        let demanded = calls(format, true, Otherwise::Nothing);
        let free = calls(format, true, Otherwise::Text);
        let form = calls(
            format,
            true,
            Otherwise::Form(Grammar::Choice(vec!["yes".into()])),
        );
        for (grammar, text, expected) in [
            (&demanded, call, true),
            (&demanded, "Hello.", false),
            (&free, call, true),
            (&free, "Hello < there.\n", true),
            (&form, call, true),
            (&form, "yes", true),
            (&form, "no", false),
        ] {
            assert_eq!(takes(grammar, text), expected, "{format:?} {text}");
        }
        assert!(!parse(options(format), call).2.is_empty(), "{call}");
        let around = format!("So:\n{call} and {call}");
        assert!(takes(&free, &around), "{format:?}");
        let once = calls(format, false, Otherwise::Text);
        if format.has_marks() {
            assert!(!takes(&once, &around), "{format:?}");
        }
    }
    // A string that says too much is none.
    let long = xml.replace("New", "Newcastle");
    assert!(!takes(
        &calls(CallFormat::Xml, true, Otherwise::Nothing),
        &long
    ));
}

#[test]
fn tools_that_a_form_cannot_express_are_refused() {
    let (_, grammars) = &vocabularies()[0];
    let refused = |format, name: &str, parameters: Value| {
        let tool = Tool {
            name: name.into(),
            parameters: Some(parameters),
            strict: true,
        };
        let grammar = Grammar::Calls(Box::new(Calls {
            format,
            tools: vec![tool],
            parallel: false,
            otherwise: Otherwise::Nothing,
        }));
        let error = grammars.constraint(&grammar).err();
        error
            .unwrap_or_else(|| panic!("{name} was taken"))
            .to_string()
    };
    for format in FORMATS {
        assert!(refused(format, "list", json!({"type": "array"})).starts_with("tools: "));
    }
    for format in [CallFormat::Xml, CallFormat::Pythonic] {
        let either = json!({"anyOf": [{"required": ["a"]}, {"required": ["b"]}]});
        assert!(refused(format, "either", either).contains("anyOf"));
        let own = json!({"properties": {"a": {"$ref": "#/properties/b"}, "b": {}}});
        assert!(refused(format, "own", own).contains("#/properties/b"));
        assert!(refused(format, "a(b>", json!({})).contains("a(b>"));
    }
    let half = json!({"properties": {"a": {"type": "string", "pattern": "^a|b$"}}});
    assert!(refused(CallFormat::Xml, "half", half).contains("^a|b$"));
    assert!(
        grammars
            .constraint(&Grammar::Calls(Box::new(Calls {
                format: CallFormat::Json,
                tools: Vec::new(),
                parallel: true,
                otherwise: Otherwise::Nothing,
            })))
            .is_err()
    );
}

#[test]
fn thinking_ends_with_its_budget() {
    for (tokenizer, _) in vocabularies() {
        let encode = |text| {
            let options = EncodeOptions {
                add_bos: false,
                parse_special: true,
            };
            tokenizer.encode(text, options).expect("tokens")
        };
        let prompt = encode("Think.");
        let after = |hook: &mut dyn LogitsHook, text: &[u32]| {
            let tokens = [prompt.as_slice(), text].concat();
            match hook.scope(&tokens).expect("a scope") {
                HookScope::Tokens(tokens) => Some(tokens[0]),
                _ => None,
            }
        };
        let thinking = |is_open| Thinking::new(tokenizer, is_open).expect("marks");
        let (begin, end) = (encode("<think>"), encode("</think>"));
        let thought = &encode("one two three four")[..3];
        for is_open in [true, false] {
            let mut hook = thinking(is_open).budget(3);
            let mut text = Vec::new();
            let written = if is_open { &[] } else { begin.as_slice() };
            for id in [written, thought].concat() {
                assert_eq!(after(&mut hook, &text), None);
                text.push(id);
            }
            for id in &end {
                assert_eq!(after(&mut hook, &text), Some(*id));
                text.push(*id);
            }
            assert_eq!(after(&mut hook, &text), None);
            assert!(tokenizer.decode(&text).ends_with("</think>"));
        }
        // What ends by itself is left alone, and so is a reply without thinking.
        let short = encode("</think>So");
        let mut hook = thinking(true).budget(short.len());
        assert_eq!(after(&mut hook, &[]), None);
        assert_eq!(after(&mut hook, &short), None);
        let mut hook = thinking(false).budget(2);
        assert_eq!(after(&mut hook, &[]), None);
        assert_eq!(after(&mut hook, &thought[..2]), None);
    }
}
