//! The server over real sockets, with the demo model.

use bitnet::{Engine, EngineOptions, Model, ModelOptions};
use bitnet_server::{ModelSource, Server, ServerOptions};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A server of the demo model at a port of its own. Dropped, it ends.
struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// A template that marks roles in plain text, for a model that has none.
const TEMPLATE: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
    {% if tools %}TOOLS {{ tools | tojson }}\n{% endif %}assistant: ";

fn model() -> bitnet::Result<Model> {
    model_with(TEMPLATE)
}

fn model_with(template: &str) -> bitnet::Result<Model> {
    Model::demo_with(&ModelOptions {
        threads: Some(2),
        chat_template: Some(bitnet::chat::TemplateChoice::Source {
            origin: "test".into(),
            source: template.into(),
        }),
        ..ModelOptions::default()
    })
}

/// The demo model by a name, with a template.
fn source(name: &str, template: String) -> ModelSource {
    ModelSource {
        name: name.into(),
        open: Arc::new(move || model_with(&template)),
    }
}

fn start(options: ServerOptions) -> Running {
    start_with(vec![source("demo", TEMPLATE.into())], options)
}

fn start_with(sources: Vec<ModelSource>, options: ServerOptions) -> Running {
    let (told, address) = std::sync::mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let server = Server::new(sources, options).expect("a server");
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address");
            server.warm_up().await.expect("the demo model");
            told.send(address).expect("a test");
            let stop = async {
                // A sender that is gone stops it, too.
                let _ = stopped.await;
            };
            server.run(listener, stop).await.expect("no failure");
        });
    });
    Running {
        address: address.recv().expect("a server"),
        stop: Some(stop),
        thread: Some(thread),
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server ends well");
        }
    }
}

/// Status, headers and body of an answer.
struct Answer {
    status: u16,
    headers: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The objects of a stream.
    fn events(&self) -> Vec<Value> {
        let lines = self.body.lines();
        let data = lines.filter_map(|line| line.strip_prefix("data: "));
        let objects = data.filter(|data| *data != "[DONE]");
        objects
            .map(|data| serde_json::from_str(data).expect("JSON"))
            .collect()
    }
}

impl Running {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        let limit = Some(Duration::from_secs(120));
        stream.set_read_timeout(limit).expect("a limit");
        stream
    }

    /// Sends a request whose body is `body`, whatever that is.
    fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> TcpStream {
        let mut stream = self.connect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("sent");
        stream.write_all(body).expect("sent");
        stream
    }

    fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        answer(self.send(method, path, headers, body))
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", b"")
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, "", body.to_string().as_bytes())
    }
}

fn answer(stream: TcpStream) -> Answer {
    let mut reader = BufReader::new(stream);
    let mut headers = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a header");
        if line.trim().is_empty() {
            break;
        }
        headers += &line.to_lowercase();
    }
    let mut raw = Vec::new();
    reader.read_to_end(&mut raw).expect("a body");
    let body = if headers.contains("transfer-encoding: chunked") {
        unchunk(&raw)
    } else {
        raw
    };
    let status = headers
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Answer {
        status: status.expect("a status"),
        headers,
        body: String::from_utf8(body).expect("UTF-8"),
    }
}

fn unchunk(mut raw: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = raw
            .windows(2)
            .position(|pair| pair == b"\r\n")
            .expect("a length");
        let length = std::str::from_utf8(&raw[..line]).expect("hexadecimal");
        let length = usize::from_str_radix(length, 16).expect("hexadecimal");
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&raw[line + 2..][..length]);
        raw = &raw[line + 2 + length + 2..];
    }
}

fn hello() -> Value {
    json!({
        "model": "demo", "messages": [{"role": "user", "content": "Once upon a time"}],
        "max_tokens": 12, "seed": 7,
    })
}

#[test]
fn a_conversation_is_answered_whole_and_in_pieces_alike() {
    let server = start(ServerOptions::default());
    let whole = server.post("/v1/chat/completions", &hello());
    assert_eq!(whole.status, 200, "{}", whole.body);
    let whole = whole.json();
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["usage"]["completion_tokens"], 12);
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    let text = whole["choices"][0]["message"]["content"]
        .as_str()
        .expect("a text");
    assert!(!text.is_empty());

    let mut request = hello();
    request["stream"] = true.into();
    request["stream_options"] = json!({"include_usage": true});
    let streamed = server.post("/v1/chat/completions", &request);
    assert!(
        streamed.headers.contains("text/event-stream"),
        "{}",
        streamed.headers
    );
    assert!(
        streamed.body.ends_with("data: [DONE]\n\n"),
        "{}",
        streamed.body
    );
    let events = streamed.events();
    let deltas = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
    assert_eq!(deltas.collect::<String>(), text);
    let last = events.last().expect("events");
    assert_eq!(last["usage"], whole["usage"].clone());
    assert_eq!(last["choices"], json!([]));
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
}

#[test]
fn texts_are_those_of_the_engine_alone_whoever_else_is_served() {
    let server = start(ServerOptions::default());
    let ask = |seed: u64| {
        let body = json!({"prompt": "The little dog", "max_tokens": 24, "seed": seed});
        server.post("/v1/completions", &body).json()["choices"][0]["text"].clone()
    };
    let together: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..12).map(|seed| scope.spawn(move || ask(seed))).collect();
        asked
            .into_iter()
            .map(|asked| asked.join().expect("an answer"))
            .collect()
    });
    let engine =
        Engine::new(&model().expect("the model"), EngineOptions::default()).expect("an engine");
    for (seed, text) in together.into_iter().enumerate() {
        let mut options = bitnet::GenerateOptions {
            max_tokens: 24,
            ..bitnet::GenerateOptions::default()
        };
        options.sampling.seed = seed as u64;
        let alone = engine.submit(bitnet::Request::new("The little dog", &options));
        let (alone, _) = alone.expect("a stream").text().expect("a text");
        assert_eq!(text, alone);
    }
}

#[test]
fn several_choices_stops_biases_and_probabilities() {
    let server = start(ServerOptions::default());
    let body = json!({
        "prompt": ["Once", "Tom and Mia"], "n": 2, "max_tokens": 8, "seed": 3, "logprobs": 2, "temperature": 3.0, "ignore_eos": true,
    });
    let answer = server.post("/v1/completions", &body).json();
    let choices = answer["choices"].as_array().expect("choices");
    assert_eq!(choices.len(), 4);
    assert!((0..2).any(|prompt| choices[2 * prompt]["text"] != choices[2 * prompt + 1]["text"]));
    let logprobs = &choices[3]["logprobs"];
    assert_eq!(logprobs["tokens"].as_array().expect("tokens").len(), 8);
    assert_eq!(
        logprobs["top_logprobs"][0].as_object().expect("two").len(),
        2
    );
    assert_eq!(answer["usage"]["completion_tokens"], 32);

    // A prompt in company gets what it gets alone, whatever the lengths of the others.
    let mut body = json!({
        "prompt": ["A long time ago, in a small house near the woods,", "Once"], "max_tokens": 64, "temperature": 0,
        "presence_penalty": 2.0, "frequency_penalty": 2.0, "ignore_eos": true,
    });
    let both = server.post("/v1/completions", &body).json();
    body["prompt"] = "Once".into();
    let alone = server.post("/v1/completions", &body).json();
    assert_eq!(both["choices"][1]["text"], alone["choices"][0]["text"]);
    assert_eq!(both["usage"]["completion_tokens"], 128);
    body["presence_penalty"] = 0.into();
    body["frequency_penalty"] = 0.into();
    let plain = server.post("/v1/completions", &body).json();
    assert_ne!(plain["choices"][0]["text"], alone["choices"][0]["text"]);

    // Filters that leave one token, and then only the likely ones out.
    let mut body = json!({"prompt": "Once", "max_tokens": 16, "seed": 3, "typical_p": 0.0, "top_k": 0, "ignore_eos": true});
    let typical = server.post("/v1/completions", &body).json();
    body["seed"] = 4.into();
    let same = server.post("/v1/completions", &body).json();
    assert_eq!(typical["choices"][0]["text"], same["choices"][0]["text"]);
    body["typical_p"] = 1.0.into();
    body["top_k"] = 2.into();
    body["xtc_probability"] = 1.0.into();
    body["xtc_threshold"] = 0.0.into();
    let rare = server.post("/v1/completions", &body).json();
    assert_ne!(rare["choices"][0]["text"], same["choices"][0]["text"]);
    body["xtc_threshold"] = 2.0.into();
    assert_eq!(server.post("/v1/completions", &body).status, 400);

    let mut request = hello();
    request["logprobs"] = true.into();
    request["top_logprobs"] = 3.into();
    request["temperature"] = 0.into();
    let answer = server.post("/v1/chat/completions", &request).json();
    let content = answer["choices"][0]["logprobs"]["content"]
        .as_array()
        .expect("tokens");
    assert_eq!(content.len(), 12);
    assert_eq!(
        content[0]["top_logprobs"].as_array().expect("three").len(),
        3
    );

    // The token that was likeliest is ruled out.
    let first = content[0]["token"].as_str().expect("a text");
    let tokenized = server.post("/tokenize", &json!({"content": first})).json();
    let banned = tokenized["tokens"][0].as_u64().expect("a token");
    request["logit_bias"] = json!({banned.to_string(): -100});
    let other = server.post("/v1/chat/completions", &request).json();
    assert_ne!(
        other["choices"][0]["logprobs"]["content"][0]["token"],
        first
    );

    let text = answer["choices"][0]["message"]["content"]
        .as_str()
        .expect("a text");
    let stop = text.split(' ').nth(3).expect("words");
    let mut request = hello();
    request["temperature"] = 0.into();
    request["stop"] = stop.into();
    let stopped = server.post("/v1/chat/completions", &request).json();
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    let cut = stopped["choices"][0]["message"]["content"]
        .as_str()
        .expect("a text");
    assert!(
        text.starts_with(cut) && !cut.contains(stop),
        "{cut:?} of {text:?}"
    );
}

#[test]
fn answers_keep_the_form_that_is_asked_for() {
    let server = start(ServerOptions::default());
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["animal", "legs"],
        "properties": {"animal": {"enum": ["dog", "bird"]}, "legs": {"type": "integer", "minimum": 0, "maximum": 9}},
    });
    let mut request = hello();
    request["max_tokens"] = 200.into();
    request["n"] = 3.into();
    request["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "animal", "strict": true, "schema": schema}});
    let answer = server.post("/v1/chat/completions", &request);
    assert_eq!(answer.status, 200, "{}", answer.body);
    for choice in answer.json()["choices"].as_array().expect("choices") {
        assert_eq!(choice["finish_reason"], "stop");
        let text = choice["message"]["content"].as_str().expect("a text");
        let value: Value = serde_json::from_str(text).expect("JSON");
        assert!(
            value["legs"]
                .as_i64()
                .is_some_and(|legs| (0..=9).contains(&legs)),
            "{text}"
        );
    }
    request["response_format"] = json!({"type": "regex", "pattern": "(a"});
    let refused = server.post("/v1/chat/completions", &request);
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert_eq!(refused.json()["error"]["param"], "grammar");
}

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

#[test]
fn what_is_wrong_is_named() {
    let server = start(ServerOptions::default());
    let chat = "/v1/chat/completions";
    for (body, status, says) in [
        ("", 400, "expected JSON"),
        ("[1]", 400, "expected an object"),
        ("{\"messages\": ", 400, "expected JSON"),
        ("{}", 400, "messages"),
        (r#"{"messages": []}"#, 400, "messages"),
        (
            r#"{"messages": [{"role": "user"}]}"#,
            400,
            "messages[0].content",
        ),
        (
            r#"{"messages": [{"role": "robot", "content": "a"}]}"#,
            400,
            "messages[0].role",
        ),
        (
            r#"{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}"#,
            400,
            "image_url",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "a"}], "temperature": "hot"}"#,
            400,
            "temperature",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "a"}], "temperature": -1}"#,
            400,
            "temperature",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "a"}], "n": 0}"#,
            400,
            "n: expected",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "a"}], "colour": "red"}"#,
            400,
            "colour",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "a"}], "response_format": {"type": "xml"}}"#,
            400,
            "response_format.type",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "a"}], "logit_bias": {"99999999": 1}}"#,
            400,
            "logit_bias.99999999",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "a"}], "model": "other"}"#,
            404,
            "demo",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "a"}], "stream_options": {}}"#,
            400,
            "stream_options",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "a"}], "top_logprobs": 2}"#,
            400,
            "top_logprobs",
        ),
    ] {
        let answer = server.ask("POST", chat, "", body.as_bytes());
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        let error = answer.json()["error"].clone();
        let message = error["message"].as_str().expect("a message");
        assert!(message.contains(says), "{body}: {message}");
    }
    let long = json!({"prompt": "word ".repeat(20_000), "max_tokens": 1});
    let answer = server.post("/v1/completions", &long);
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["error"]["code"], "context_length_exceeded");
    let answer = server.ask("POST", chat, "", &vec![b' '; 17 << 20]);
    assert_eq!(answer.status, 413);
    assert_eq!(server.get("/v1/nothing").status, 404);
    assert_eq!(server.get(chat).status, 405);
    assert_eq!(server.ask("POST", chat, "", b"\xff\xfe").status, 400);
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn a_key_is_asked_for_if_there_is_one() {
    let server = start(ServerOptions {
        keys: vec!["first".into(), "second".into()],
        ..ServerOptions::default()
    });
    assert_eq!(server.get("/v1/models").status, 401);
    for (key, status) in [("second", 200), ("firs", 401), ("", 401)] {
        let header = format!("authorization: Bearer {key}\r\n");
        assert_eq!(
            server.ask("GET", "/v1/models", &header, b"").status,
            status,
            "{key}"
        );
    }
    // Those who watch over it have none.
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.get("/metrics").status, 200);
}

#[test]
fn who_goes_away_takes_the_text_along() {
    let server = start(ServerOptions::default());
    let body = json!({"prompt": "Once", "max_tokens": 100_000, "ignore_eos": true, "stream": true});
    let stream = server.send("POST", "/v1/completions", "", body.to_string().as_bytes());
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while !line.starts_with("data: ") {
        line.clear();
        reader.read_line(&mut line).expect("an event");
    }
    drop(reader);
    let begin = Instant::now();
    loop {
        let metrics = server.get("/metrics").body;
        if metrics.contains("bitnet_texts_running{model_name=\"demo\"} 0")
            && metrics.contains("finish_reason=\"aborted\"")
        {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{metrics}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_full_queue_asks_to_come_again() {
    let server = start(ServerOptions {
        engine: EngineOptions {
            max_running: 1,
            max_waiting: 0,
            ..EngineOptions::default()
        },
        ..ServerOptions::default()
    });
    let answer = server.post(
        "/v1/completions",
        &json!({"prompt": "Once", "max_tokens": 4}),
    );
    assert_eq!(answer.status, 429, "{}", answer.body);
    assert!(
        answer.headers.contains("retry-after: "),
        "{}",
        answer.headers
    );
}

#[test]
fn texts_are_finished_before_the_server_ends() {
    let mut server = start(ServerOptions::default());
    let mut request = hello();
    request["stream"] = true.into();
    request["max_tokens"] = 60.into();
    let stream = server.send(
        "POST",
        "/v1/chat/completions",
        "",
        request.to_string().as_bytes(),
    );
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("a head");
    drop(server.stop.take());
    let mut rest = String::new();
    reader.read_to_string(&mut rest).expect("the rest");
    assert!(rest.contains("[DONE]"), "{rest}");
}

#[test]
fn people_and_monitors_find_what_they_need() {
    let server = start(ServerOptions::default());
    server.post("/v1/chat/completions", &hello());
    let metrics = server.get("/metrics").body;
    for name in [
        "vllm:num_requests_waiting{model_name=\"demo\"} 0",
        "vllm:num_requests_running",
        "vllm:kv_cache_usage_perc",
        "vllm:cache_config_info{",
        "bitnet_time_to_first_token_seconds_count{model=\"demo\"} 1",
        "bitnet_requests_total{finish_reason=\"length\",model=\"demo\"} 1",
    ] {
        assert!(metrics.contains(name), "{name}: {metrics}");
    }
    assert_eq!(server.get("/ready").status, 200);
    let models = server.get("/v1/models").json();
    assert_eq!(models["data"][0]["id"], "demo");
    assert_eq!(server.get("/v1/models/demo").json()["id"], "demo");
    assert_eq!(server.get("/v1/models/a/b").status, 404);
    let page = server.get("/");
    assert!(page.headers.contains("text/html") && page.body.contains("<title>bitnet"));
    assert!(!page.body.contains("https://"));

    let tokens = server
        .post("/tokenize", &json!({"content": "Once upon"}))
        .json();
    let back = server.post("/detokenize", &tokens).json();
    assert_eq!(back["content"].as_str().map(str::trim), Some("Once upon"));
    let prompt = server.post(
        "/apply-template",
        &json!({"messages": [{"role": "user", "content": "Hi"}]}),
    );
    assert_eq!(prompt.json()["prompt"], "user: Hi\nassistant: ");
    let rows = server.post(
        "/v1/embeddings",
        &json!({"input": ["a dog", "a cat"], "encoding_format": "float"}),
    );
    assert_eq!(rows.status, 200, "{}", rows.body);
    assert_eq!(rows.json()["data"].as_array().expect("rows").len(), 2);
}
