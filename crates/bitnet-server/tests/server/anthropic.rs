//! `/v1/messages`.

use crate::running::{at_dog, start};
use bitnet_server::ServerOptions;
use serde_json::{Value, json};

const PATH: &str = "/v1/messages";

fn ask() -> Value {
    json!({
        "model": "demo", "max_tokens": 12, "seed": 7, "messages": [{"role": "user", "content": "Once upon a time"}],
    })
}

/// The content blocks that the events of a stream build.
fn built(events: &[Value]) -> Vec<Value> {
    let mut blocks: Vec<Value> = Vec::new();
    let mut arguments = String::new();
    for event in events {
        let add = |field: &mut Value, delta: &Value| {
            let text = field.as_str().unwrap_or_default().to_owned();
            *field = (text + delta.as_str().expect("a text")).into();
        };
        match event["type"].as_str() {
            Some("content_block_start") => {
                assert_eq!(event["index"], blocks.len());
                blocks.push(event["content_block"].clone());
                arguments.clear();
            }
            Some("content_block_delta") => {
                let (block, delta) = (blocks.last_mut().expect("a block"), &event["delta"]);
                match delta["type"].as_str().expect("a type") {
                    "text_delta" => add(&mut block["text"], &delta["text"]),
                    "thinking_delta" => add(&mut block["thinking"], &delta["thinking"]),
                    "input_json_delta" => {
                        arguments += delta["partial_json"].as_str().expect("JSON");
                        block["input"] = serde_json::from_str(&arguments).expect("JSON");
                    }
                    other => panic!("{other}"),
                }
            }
            _ => {}
        }
    }
    blocks
}

#[test]
fn messages_come_whole_and_in_events_alike() {
    let server = start(ServerOptions::default());
    let whole = server.post(PATH, &ask());
    assert_eq!(whole.status, 200, "{}", whole.body);
    assert!(
        whole.headers.contains("\nrequest-id: "),
        "{}",
        whole.headers
    );
    let whole = whole.json();
    assert_eq!(whole["stop_reason"], "max_tokens");
    assert_eq!(whole["usage"]["output_tokens"], 12);
    // It is the text that chat gives.
    let chat = server.post("/v1/chat/completions", &ask()).json();
    let text = &chat["choices"][0]["message"]["content"];
    assert_eq!(&whole["content"][0]["text"], text);

    let mut request = ask();
    request["stream"] = true.into();
    let events = server.post(PATH, &request).named_events();
    let kinds: Vec<_> = events.iter().map(|event| &event["type"]).collect();
    assert_eq!(kinds[..3], ["message_start", "ping", "content_block_start"]);
    let end = &kinds[kinds.len() - 3..];
    assert_eq!(end, ["content_block_stop", "message_delta", "message_stop"]);
    assert_eq!(Value::from(built(&events)), whole["content"]);
    let last = &events[events.len() - 2];
    assert_eq!(last["delta"]["stop_reason"], "max_tokens");
    let tokens = |usage: &Value| {
        let number = |name: &str| usage[name].as_u64().expect("a number");
        number("input_tokens") + number("cache_read_input_tokens")
    };
    assert_eq!(tokens(&last["usage"]), tokens(&whole["usage"]));
    assert_eq!(
        tokens(&events[0]["message"]["usage"]),
        tokens(&whole["usage"])
    );
    // A prompt that was read before is counted apart.
    let mut request = ask();
    request["system"] = "word ".repeat(100).into();
    let usage = [(); 2].map(|()| server.post(PATH, &request).json()["usage"].clone());
    assert_eq!(tokens(&usage[0]), tokens(&usage[1]));
    assert_ne!(usage[1]["cache_read_input_tokens"], 0);

    // A text that ends the answer is told.
    let text = text.as_str().expect("a text");
    let stop = text.split(' ').nth(3).expect("words");
    let mut request = ask();
    request["stop_sequences"] = json!(["zzz", stop]);
    let stopped = server.post(PATH, &request).json();
    assert_eq!(stopped["stop_reason"], "stop_sequence");
    assert_eq!(stopped["stop_sequence"], stop);

    let mut request = ask();
    request
        .as_object_mut()
        .expect("an object")
        .remove("max_tokens");
    request.as_object_mut().expect("an object").remove("seed");
    let counted = server.post("/v1/messages/count_tokens", &request).json();
    assert_eq!(counted["input_tokens"], tokens(&whole["usage"]));
}

#[test]
fn calls_and_thoughts_are_blocks_of_their_own() {
    let server = start(ServerOptions::default());
    let mut request = ask();
    request["max_tokens"] = 200.into();
    request["tools"] = json!([{"name": "look", "description": "Looks.", "input_schema": at_dog()}]);
    request["tool_choice"] = json!({"type": "any", "disable_parallel_tool_use": true});
    let whole = server.post(PATH, &request).json();
    assert_eq!(whole["stop_reason"], "tool_use", "{whole}");
    let block = &whole["content"][0];
    assert_eq!(block["type"], "tool_use");
    assert_eq!(block["input"], json!({"at": "dog"}));
    request["stream"] = true.into();
    let events = server.post(PATH, &request).named_events();
    let mut blocks = built(&events);
    // Each call has an id of its own.
    blocks[0]["id"] = block["id"].clone();
    assert_eq!(Value::from(blocks), whole["content"]);

    let mut request = ask();
    request["model"] = "thinker".into();
    request["thinking"] = json!({"type": "enabled", "budget_tokens": 6});
    let schema = json!({"const": "a cat"});
    request["output_config"] = json!({"format": {"type": "json_schema", "schema": schema}});
    request["max_tokens"] = 200.into();
    let whole = server.post(PATH, &request).json();
    let content = &whole["content"];
    assert_eq!(content[0]["type"], "thinking", "{whole}");
    assert_eq!(content[1], json!({"type": "text", "text": "\"a cat\""}));
    let thought = &whole["usage"]["output_tokens_details"]["thinking_tokens"];
    assert!(thought.as_u64() >= Some(6), "{whole}");
    request["stream"] = true.into();
    let events = server.post(PATH, &request).named_events();
    assert_eq!(Value::from(built(&events)), *content);
}

#[test]
fn errors_have_anthropics_shape() {
    let server = start(ServerOptions {
        keys: vec!["key".into()],
        ..ServerOptions::default()
    });
    let key = "x-api-key: key\r\n";
    let check = |headers: &str, body: &str, status: u16, kind: &str, says: &str| {
        let answer = server.ask("POST", PATH, headers, body.as_bytes());
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        let error = answer.json();
        assert_eq!(error["type"], "error", "{error}");
        assert_eq!(error["error"]["type"], kind, "{error}");
        let message = error["error"]["message"].as_str().expect("a message");
        assert!(message.contains(says), "{body}: {message}");
    };
    check("", "{}", 401, "authentication_error", "x-api-key");
    check(key, "{", 400, "invalid_request_error", "expected JSON");
    check(
        key,
        &" ".repeat(17 << 20),
        413,
        "request_too_large",
        "bytes",
    );
    for (field, value, says) in [
        ("max_tokens", json!(null), "max_tokens"),
        ("model", json!("other"), "demo"),
        ("messages", json!([]), "messages"),
        (
            "messages",
            json!([{"role": "robot", "content": "a"}]),
            "messages[0].role",
        ),
        (
            "messages",
            json!([{"role": "user", "content": [{"type": "image"}]}]),
            "messages[0].content[0]",
        ),
        (
            "messages",
            json!([{"role": "assistant", "content": "a"}]),
            "last message",
        ),
        ("tools", json!([{"name": "look"}]), "tools[0].input_schema"),
        (
            "tools",
            json!([{"name": "look", "type": "web_search_20250305"}]),
            "web_search",
        ),
        ("tool_choice", json!({"type": "maybe"}), "tool_choice.type"),
        (
            "thinking",
            json!({"type": "enabled"}),
            "thinking.budget_tokens",
        ),
        (
            "output_config",
            json!({"format": {"type": "xml"}}),
            "output_config.format.type",
        ),
        ("stop_sequences", json!(7), "stop_sequences"),
        ("top_p", json!(2), "top_p"),
        ("container", json!("a"), "container"),
    ] {
        let mut request = ask();
        request[field] = value;
        let status = if field == "model" { 404 } else { 400 };
        let kind = if field == "model" {
            "not_found_error"
        } else {
            "invalid_request_error"
        };
        check(key, &request.to_string(), status, kind, says);
    }
    let missing = server.ask("GET", "/v1/messages/batches", key, b"");
    assert_eq!(missing.status, 404);
    assert_eq!(missing.json()["error"]["type"], "not_found_error");
}
