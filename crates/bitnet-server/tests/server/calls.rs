//! Calls that are demanded, and forms of answers behind thinking.

use crate::running::{TEMPLATE, source, start_with};
use bitnet_server::ServerOptions;
use serde_json::{Value, json};

/// The form of each model's calls, by what its template says.
const FORMS: [(&str, &str); 4] = [
    ("hermes", "<tool_call>"),
    ("xml", "<tool_call><function="),
    ("llama", ""),
    ("pythonic", "[func_name1("),
];

/// A request that offers tools; strings have ends, since the demo model finds none.
fn offers(model: &str) -> Value {
    let parameters = json!({
        "type": "object", "additionalProperties": false, "required": ["city", "days"],
        "properties": {
            "city": {"type": "string", "maxLength": 8},
            "days": {"type": "integer", "minimum": 0, "maximum": 9},
            "unit": {"type": "string", "enum": ["C", "F"]},
        },
    });
    json!({
        "model": model, "messages": [{"role": "user", "content": "How is the weather?"}], "max_tokens": 300, "seed": 5,
        "tools": [
            {"type": "function", "function": {"name": "weather", "parameters": parameters}},
            {"type": "function", "function": {"name": "time"}},
        ],
        "tool_choice": "required",
    })
}

/// Names and arguments of calls, which must be as [`offers`] says.
fn checked(calls: &Value) -> Vec<(String, Value)> {
    let calls = calls.as_array().unwrap_or_else(|| panic!("no calls"));
    let checked = calls.iter().map(|call| {
        let function = &call["function"];
        let text = function["arguments"].as_str().expect("arguments");
        let arguments: Value = serde_json::from_str(text).expect("JSON");
        let name = function["name"].as_str().expect("a name").to_owned();
        if name == "weather" {
            let city = arguments["city"].as_str().expect("a city");
            assert!(city.chars().count() <= 8, "{text}");
            let days = arguments["days"].as_i64().expect("days");
            assert!((0..=9).contains(&days), "{text}");
            let unit = &arguments["unit"];
            assert!(unit.is_null() || unit == "C" || unit == "F", "{text}");
        } else {
            assert_eq!((name.as_str(), text), ("time", "{}"));
        }
        (name, arguments)
    });
    checked.collect()
}

#[test]
fn demanded_calls_come_with_arguments_by_their_schema() {
    let sources = FORMS.map(|(name, marks)| source(name, format!("{TEMPLATE}{{# {marks} #}}")));
    let server = start_with(sources.into(), ServerOptions::default());
    let chat = "/v1/chat/completions";
    for (model, _) in FORMS {
        let mut request = offers(model);
        request["parallel_tool_calls"] = false.into();
        for name in [None, Some("weather")] {
            if let Some(name) = name {
                request["tool_choice"] = json!({"type": "function", "function": {"name": name}});
            }
            request["stream"] = false.into();
            let answer = server.post(chat, &request);
            assert_eq!(answer.status, 200, "{model}: {}", answer.body);
            let choice = &answer.json()["choices"][0];
            assert_eq!(choice["finish_reason"], "tool_calls", "{model}: {choice}");
            assert_eq!(choice["message"]["content"], Value::Null, "{model}");
            let calls = checked(&choice["message"]["tool_calls"]);
            assert_eq!(calls.len(), 1, "{model}: {calls:?}");
            assert!(name.is_none_or(|name| calls[0].0 == name), "{calls:?}");

            request["stream"] = true.into();
            let events = server.post(chat, &request).events();
            let deltas = events.iter().map(|event| &event["choices"][0]["delta"]);
            let streamed = deltas.filter_map(|delta| delta["tool_calls"].as_array());
            let streamed: Vec<Value> = streamed.flatten().cloned().collect();
            assert_eq!(checked(&streamed.into()), calls, "{model}");
        }
        // Without a demand, a strict tool is called by its schema, or not at all.
        let mut request = offers(model);
        request["tool_choice"] = "auto".into();
        request["tools"][0]["function"]["strict"] = true.into();
        request["max_tokens"] = 60.into();
        let message = server.post(chat, &request).json()["choices"][0]["message"].clone();
        assert!(message["content"].is_string() || !checked(&message["tool_calls"]).is_empty());
        // An answer that has a form may still be a call.
        request["response_format"] = json!({"type": "choice", "choices": ["yes", "no"]});
        let message = server.post(chat, &request).json()["choices"][0]["message"].clone();
        assert!(
            ["yes", "no"].iter().any(|text| message["content"] == *text)
                || !checked(&message["tool_calls"]).is_empty(),
            "{message}"
        );
    }
    for (choice, says) in [
        (json!("always"), "tool_choice"),
        (
            json!({"type": "function", "function": {"name": "fly"}}),
            "tool_choice",
        ),
        (
            json!({"type": "custom", "function": {"name": "time"}}),
            "tool_choice.type",
        ),
    ] {
        let mut request = offers("llama");
        request["tool_choice"] = choice;
        let refused = server.post(chat, &request);
        assert_eq!(refused.status, 400, "{}", refused.body);
        assert!(refused.body.contains(says), "{}", refused.body);
    }
    let mut request = offers("xml");
    request["tools"][0]["function"]["parameters"] = json!({"type": "array"});
    let refused = server.post(chat, &request);
    assert_eq!(
        (refused.status, &refused.json()["error"]["param"]),
        (400, &json!("tools"))
    );
}

#[test]
fn forms_begin_behind_thinking() {
    let think = "{% if enable_thinking is not false %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}";
    let template = format!("{TEMPLATE}{think}{{# <tool_call> #}}");
    let server = start_with(vec![source("thinker", template)], ServerOptions::default());
    let chat = "/v1/chat/completions";
    let mut request = offers("thinker");
    request["thinking_budget"] = 12.into();
    for thinks in [true, false] {
        request["chat_template_kwargs"] = json!({"enable_thinking": thinks});
        request["stream"] = false.into();
        let message = server.post(chat, &request).json()["choices"][0]["message"].clone();
        let thought = message["reasoning_content"].as_str().unwrap_or_default();
        assert_eq!(!thought.is_empty(), thinks, "{message}");
        let calls = checked(&message["tool_calls"]);

        request["stream"] = true.into();
        let events = server.post(chat, &request).events();
        let deltas: Vec<_> = events
            .iter()
            .map(|event| &event["choices"][0]["delta"])
            .collect();
        let pieces = deltas
            .iter()
            .filter_map(|delta| delta["reasoning_content"].as_str());
        assert_eq!(pieces.collect::<String>(), thought);
        let streamed = deltas
            .iter()
            .filter_map(|delta| delta["tool_calls"].as_array());
        let streamed: Vec<Value> = streamed.flatten().cloned().collect();
        assert_eq!(checked(&streamed.into()), calls);
    }
    for field in ["tools", "tool_choice", "stream", "chat_template_kwargs"] {
        request[field] = Value::Null;
    }
    request["response_format"] = json!({"type": "regex", "pattern": "[a-z]{3}"});
    let message = server.post(chat, &request).json()["choices"][0]["message"].clone();
    let thought = message["reasoning_content"].as_str().expect("a thought");
    assert!(!thought.is_empty());
    assert_eq!(
        message["content"].as_str().map(str::len),
        Some(3),
        "{message}"
    );
}
