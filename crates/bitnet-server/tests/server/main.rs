//! The server over real sockets, with the demo model.

mod anthropic;
mod calls;
mod ollama;
mod responses;
mod running;
mod strangers;

use bitnet::{Engine, EngineOptions};
use bitnet_server::ServerOptions;
use running::{hello, model, start};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::time::{Duration, Instant};

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

    // As a router of vLLM passes a request on; what is not so is refused.
    let mut body = json!({"prompt": "Once", "max_tokens": 4, "no_stop_trim": false, "skip_special_tokens": true, "return_hidden_states": false});
    assert_eq!(server.post("/v1/completions", &body).status, 200);
    body["skip_special_tokens"] = false.into();
    assert_eq!(server.post("/v1/completions", &body).status, 400);

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
    let long = json!({"prompt": "Once", "max_tokens": 100_000, "stream": true, "ignore_eos": true});
    let mut first = server.send("POST", "/v1/completions", "", long.to_string().as_bytes());
    first.read_exact(&mut [0; 400]).expect("the first one runs");
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
