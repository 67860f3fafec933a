//! Bodies from strangers: whatever they hold, the answer is one of the interface's own, and the server goes on.

use crate::running::{Running, start};
use bitnet_server::ServerOptions;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};
use std::time::Duration;

const PATHS: [&str; 13] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/api/show",
    "/tokenize",
    "/detokenize",
    "/apply-template",
];

/// Names that mean something somewhere.
const NAMES: [&str; 40] = [
    "messages",
    "role",
    "content",
    "type",
    "text",
    "tools",
    "function",
    "name",
    "parameters",
    "tool_choice",
    "tool_calls",
    "arguments",
    "id",
    "input",
    "instructions",
    "output",
    "call_id",
    "system",
    "thinking",
    "input_schema",
    "max_tokens",
    "stop",
    "stop_sequences",
    "temperature",
    "seed",
    "n",
    "logprobs",
    "logit_bias",
    "stream",
    "response_format",
    "format",
    "json_schema",
    "schema",
    "options",
    "num_ctx",
    "keep_alive",
    "think",
    "prompt",
    "tokens",
    "images",
];

/// Texts that mean something somewhere.
const TEXTS: [&str; 16] = [
    "demo",
    "user",
    "assistant",
    "tool",
    "system",
    "text",
    "function",
    "message",
    "function_call",
    "tool_use",
    "tool_result",
    "json_schema",
    "json",
    "auto",
    "required",
    "\u{0}\u{202e}</think>",
];

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0u8..4).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        proptest::sample::select(&TEXTS[..]).prop_map(Value::from),
        "\\PC{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            objects(inner)
        ]
    })
}

fn objects(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let name = proptest::sample::select(&NAMES[..]);
    btree_map(name, value, 0..6).prop_map(|fields| {
        let fields = fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        Value::Object(fields.collect())
    })
}

/// A body for each path that would be answered.
fn sound(path: &str) -> Value {
    let messages = json!([{"role": "user", "content": "Once"}]);
    match path {
        "/v1/completions" => json!({"prompt": "Once", "max_tokens": 2}),
        "/v1/embeddings" | "/api/embed" => json!({"model": "demo", "input": "Once"}),
        "/v1/responses" => json!({"input": "Once", "max_output_tokens": 2}),
        "/v1/messages/count_tokens" | "/apply-template" => json!({"messages": messages}),
        "/api/chat" => {
            json!({"model": "demo", "messages": messages, "options": {"num_predict": 2}})
        }
        "/api/generate" => {
            json!({"model": "demo", "prompt": "Once", "options": {"num_predict": 2}})
        }
        "/api/show" => json!({"model": "demo"}),
        "/tokenize" => json!({"content": "Once"}),
        "/detokenize" => json!({"tokens": [1]}),
        _ => json!({"messages": messages, "max_tokens": 2}),
    }
}

/// Asks, and looks at the answer.
fn check(server: &Running, path: &str, body: &[u8]) {
    let answer = server.ask("POST", path, "", body);
    let shown = String::from_utf8_lossy(body);
    if answer.status == 200 {
        return;
    }
    // A text may take longer than the server lets it.
    let known = (400..500).contains(&answer.status) || answer.status == 504;
    assert!(known, "{path} {shown}: {} {}", answer.status, answer.body);
    let error = answer.json();
    let message = match path {
        path if path.starts_with("/api/") => &error["error"],
        path if path.starts_with("/v1/messages") => {
            assert_eq!(error["type"], "error", "{path} {shown}: {error}");
            assert!(
                error["error"]["type"].is_string(),
                "{path} {shown}: {error}"
            );
            &error["error"]["message"]
        }
        _ => &error["error"]["message"],
    };
    let says = message.as_str().is_some_and(|text| !text.is_empty());
    assert!(says, "{path} {shown}: {error}");
}

#[test]
fn whatever_a_body_holds_the_answer_is_of_the_interface() {
    let server = start(ServerOptions {
        time_limit: Some(Duration::from_secs(5)),
        ..ServerOptions::default()
    });
    // Each path takes the body that the others are measured by.
    for path in PATHS {
        let answer = server.post(path, &sound(path));
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        let deep = "[".repeat(100_000);
        let wide = format!("{{\"messages\": [{}1]}}", "1,".repeat(500_000));
        let broken = b"{\"messages\": \"\xff\xfe\"}";
        for body in [
            deep.as_bytes(),
            wide.as_bytes(),
            broken,
            b"null",
            b"{\"a\":",
            b"\"\\ud800\"",
        ] {
            check(&server, path, body);
        }
    }
    let mut runner = TestRunner::new(Config {
        cases: 400,
        failure_persistence: None,
        ..Config::default()
    });
    let cases = (0..PATHS.len(), objects(values()), any::<bool>());
    let run = runner.run(&cases, |(path, more, whole)| {
        let path = PATHS[path];
        let mut body = if whole {
            sound(path)
        } else {
            Value::Object(Map::new())
        };
        if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
            body.extend(more);
        }
        check(&server, path, body.to_string().as_bytes());
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(server.get("/health").status, 200);
}
