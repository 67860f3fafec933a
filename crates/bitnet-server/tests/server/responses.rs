//! `/v1/responses`.

use crate::running::{at_dog, start};
use bitnet_server::ServerOptions;
use serde_json::{Value, json};

const PATH: &str = "/v1/responses";

fn ask() -> Value {
    json!({"model": "demo", "input": "Once upon a time", "max_output_tokens": 12, "seed": 7})
}

/// Takes away what is another in each answer: ids and times.
fn plain(mut item: Value) -> Value {
    if let Value::Object(fields) = &mut item {
        for name in ["id", "call_id"] {
            fields.remove(name);
        }
    }
    item
}

/// The items of an answer, and those that the events of a stream tell: of their parts, of their ends, and in the last event.
fn compare(server: &crate::running::Running, mut request: Value) -> Vec<Value> {
    let whole = server.post(PATH, &request);
    assert_eq!(whole.status, 200, "{}", whole.body);
    let whole = whole.json();
    let items: Vec<_> = whole["output"]
        .as_array()
        .expect("items")
        .iter()
        .cloned()
        .map(plain)
        .collect();
    request["stream"] = true.into();
    let events = server.post(PATH, &request).named_events();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
    assert_eq!(events[0]["type"], "response.created");
    assert_eq!(events[0]["response"]["status"], "in_progress");
    let last = events.last().expect("events");
    assert_eq!(
        last["type"],
        format!("response.{}", whole["status"].as_str().expect("a status"))
    );
    assert_eq!(
        last["response"]["usage"]["output_tokens"],
        whole["usage"]["output_tokens"]
    );
    let told = last["response"]["output"].as_array().expect("items");
    assert_eq!(told.iter().cloned().map(plain).collect::<Vec<_>>(), items);
    let of = |kind: &str, index: usize| {
        let events = events
            .iter()
            .filter(|event| event["type"] == kind && event["output_index"] == index);
        events.cloned().collect::<Vec<_>>()
    };
    for (index, item) in items.iter().enumerate() {
        let done = of("response.output_item.done", index);
        assert_eq!(done.len(), 1);
        assert_eq!(&plain(done[0]["item"].clone()), item);
        let begun = &of("response.output_item.added", index)[0]["item"];
        assert_eq!(begun["id"], done[0]["item"]["id"]);
        let (delta, text) = match item["type"].as_str().expect("a type") {
            "message" => ("response.output_text.delta", &item["content"][0]["text"]),
            "reasoning" => ("response.reasoning_text.delta", &item["content"][0]["text"]),
            _ => ("response.function_call_arguments.delta", &item["arguments"]),
        };
        let deltas = of(delta, index);
        let pieces = deltas.iter().filter_map(|event| event["delta"].as_str());
        assert_eq!(&pieces.collect::<String>(), text.as_str().expect("a text"));
        assert!(deltas.iter().all(|event| event["item_id"] == begun["id"]));
    }
    items
}

#[test]
fn answers_come_whole_and_in_events_alike() {
    let server = start(ServerOptions::default());
    let items = compare(&server, ask());
    let chat = json!({
        "model": "demo", "max_tokens": 12, "seed": 7, "messages": [{"role": "user", "content": "Once upon a time"}],
    });
    let chat = server.post("/v1/chat/completions", &chat).json();
    assert_eq!(
        items[0]["content"][0]["text"],
        chat["choices"][0]["message"]["content"]
    );
    let whole = server.post(PATH, &ask()).json();
    assert_eq!(whole["status"], "incomplete");
    assert_eq!(whole["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(whole["store"], false);
    assert_eq!(
        whole["usage"]["input_tokens"],
        chat["usage"]["prompt_tokens"]
    );

    // A call that is demanded, and a conversation that goes on behind it.
    let mut request = ask();
    request["max_output_tokens"] = 200.into();
    request["tools"] =
        json!([{"type": "function", "name": "look", "parameters": at_dog(), "strict": null}]);
    request["tool_choice"] = json!({"type": "function", "name": "look"});
    request["parallel_tool_calls"] = false.into();
    let items = compare(&server, request.clone());
    assert_eq!(items[0]["type"], "function_call");
    assert_eq!(items[0]["arguments"], r#"{"at":"dog"}"#);
    let answer = server.post(PATH, &request).json();
    let call = answer["output"][0].clone();
    let output =
        json!({"type": "function_call_output", "call_id": call["call_id"], "output": "It sleeps."});
    let mut request = ask();
    request["input"] = json!([{"role": "user", "content": "Look."}, call, output]);
    assert_eq!(server.post(PATH, &request).status, 200);

    // Thoughts.
    let mut request = ask();
    request["model"] = "thinker".into();
    request["reasoning"] = json!({"effort": "low"});
    request["thinking_budget"] = 6.into();
    request["max_output_tokens"] = 200.into();
    let schema = json!({"const": "a cat"});
    request["text"] =
        json!({"format": {"type": "json_schema", "name": "thoughts", "schema": schema}});
    let items = compare(&server, request);
    assert_eq!(items[0]["content"][0]["type"], "reasoning_text");
    assert_eq!(items[1]["content"][0]["text"], "\"a cat\"");
}

#[test]
fn what_is_not_supported_is_named() {
    let server = start(ServerOptions::default());
    for (field, value) in [
        ("store", json!(true)),
        ("previous_response_id", json!("resp_1")),
        ("conversation", json!("conv_1")),
        ("background", json!(true)),
        ("truncation", json!("auto")),
        ("include", json!(["reasoning.encrypted_content"])),
        ("input", json!(7)),
        (
            "input[0].type",
            json!([{"type": "item_reference", "id": "a"}]),
        ),
        (
            "input[0].content[0]",
            json!([{"role": "user", "content": [{"type": "input_image"}]}]),
        ),
        ("tools[0].type", json!([{"type": "web_search"}])),
        ("text.verbosity", json!({"verbosity": "high"})),
        ("text.format.type", json!({"format": {"type": "xml"}})),
        ("reasoning.colour", json!({"colour": "red"})),
        ("max_tool_calls", json!(2)),
        ("colour", json!("red")),
    ] {
        let mut request = ask();
        request[field.split(['[', '.']).next().expect("a field")] = value;
        let answer = server.post(PATH, &request);
        assert_eq!(answer.status, 400, "{field}: {}", answer.body);
        let message = answer.json()["error"]["message"].clone();
        assert!(
            message.as_str().is_some_and(|text| text.starts_with(field)),
            "{field}: {message}"
        );
    }
    // What clients send that keep nothing.
    let mut request = ask();
    request["store"] = false.into();
    request["previous_response_id"] = Value::Null;
    request["metadata"] = json!({"a": "b"});
    let answer = server.post(PATH, &request);
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json()["metadata"], json!({"a": "b"}));
}
