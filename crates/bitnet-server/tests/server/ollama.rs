//! `/api/…`.

use crate::running::{at_dog, start};
use bitnet_server::ServerOptions;
use serde_json::{Value, json};

fn ask() -> Value {
    json!({
        "model": "demo:latest", "messages": [{"role": "user", "content": "Once upon a time"}],
        "options": {"num_predict": 12, "seed": 7},
    })
}

fn text(lines: &[Value], pointer: &str) -> String {
    let texts = lines
        .iter()
        .filter_map(|line| line.pointer(pointer)?.as_str());
    texts.collect()
}

#[test]
fn chats_and_texts_come_whole_and_in_lines_alike() {
    let server = start(ServerOptions::default());
    let streamed = server.post("/api/chat", &ask());
    assert!(
        streamed.headers.contains("application/x-ndjson"),
        "{}",
        streamed.headers
    );
    let lines = streamed.lines();
    let mut request = ask();
    request["stream"] = false.into();
    let whole = server.post("/api/chat", &request).json();
    assert_eq!(
        text(&lines, "/message/content"),
        whole["message"]["content"].as_str().expect("a text")
    );
    let last = lines.last().expect("lines");
    for end in [last, &whole] {
        assert_eq!(end["done"], true);
        assert_eq!(end["done_reason"], "length");
        assert_eq!(end["eval_count"], 12);
        assert!(
            end["total_duration"].as_u64() >= end["eval_duration"].as_u64(),
            "{end}"
        );
    }
    assert!(
        lines[..lines.len() - 1]
            .iter()
            .all(|line| line["done"] == false)
    );
    let chat = json!({
        "model": "demo", "max_tokens": 12, "seed": 7, "messages": [{"role": "user", "content": "Once upon a time"}],
    });
    let chat = server.post("/v1/chat/completions", &chat).json();
    assert_eq!(
        whole["message"]["content"],
        chat["choices"][0]["message"]["content"]
    );

    // The template is used, or not.
    let mut request = json!({"model": "demo", "prompt": "Once upon a time", "stream": false, "options": ask()["options"]});
    let answered = server.post("/api/generate", &request).json();
    assert_eq!(answered["response"], whole["message"]["content"]);
    request["raw"] = true.into();
    let continued = server.post("/api/generate", &request).json();
    let plain = json!({"prompt": "Once upon a time", "max_tokens": 12, "seed": 7});
    let plain = server.post("/v1/completions", &plain).json();
    assert_eq!(continued["response"], plain["choices"][0]["text"]);

    // The context that is asked for is kept to.
    let mut request = ask();
    let prompt = whole["prompt_eval_count"].as_u64().expect("a number");
    request["stream"] = false.into();
    request["options"]["num_ctx"] = (prompt + 3).into();
    assert_eq!(server.post("/api/chat", &request).json()["eval_count"], 3);
    request["options"]["num_ctx"] = prompt.into();
    let refused = server.post("/api/chat", &request);
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("options.num_ctx"), "{}", refused.body);
}

#[test]
fn calls_thoughts_and_forms() {
    let server = start(ServerOptions::default());
    let mut request = ask();
    request["options"]["num_predict"] = (-1).into();
    request["tools"] = json!([{"type": "function", "function": {"name": "look", "parameters": at_dog(), "strict": true}}]);
    request["format"] = json!({"const": {"name": "look", "arguments": {"at": "dog"}}});
    let lines = server.post("/api/chat", &request).lines();
    let call = lines
        .iter()
        .find_map(|line| line.pointer("/message/tool_calls/0/function"));
    assert_eq!(
        call.expect("a call")["arguments"],
        json!({"at": "dog"}),
        "{lines:?}"
    );
    request["stream"] = false.into();
    let whole = server.post("/api/chat", &request).json();
    let mut answer = whole["message"].clone();
    assert_eq!(answer["tool_calls"][0]["function"]["name"], "look");
    // The conversation goes on behind it.
    answer["content"] = "".into();
    let mut request = ask();
    let result = json!({"role": "tool", "tool_name": "look", "content": "It sleeps."});
    request["messages"] = json!([{"role": "user", "content": "Look."}, answer, result]);
    assert_eq!(server.post("/api/chat", &request).status, 200);

    let mut request = ask();
    request["model"] = "thinker".into();
    request["think"] = true.into();
    let lines = server.post("/api/chat", &request).lines();
    // The model thinks for as long as it is let.
    assert!(!text(&lines, "/message/thinking").is_empty(), "{lines:?}");
    assert_eq!(text(&lines, "/message/content"), "");
}

#[test]
fn models_are_described_opened_and_closed() {
    let server = start(ServerOptions::default());
    let names = |path: &str| {
        let models = server.get(path).json()["models"].clone();
        let models = models.as_array().expect("models").iter();
        let names = models.map(|model| model["name"].as_str().expect("a name").to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names("/api/tags"), ["demo", "thinker"]);
    assert_eq!(names("/api/ps"), ["demo"]);
    let loaded = server
        .post(
            "/api/chat",
            &json!({"model": "thinker", "keep_alive": "1h"}),
        )
        .json();
    assert_eq!(loaded["done_reason"], "load");
    assert_eq!(names("/api/ps"), ["demo", "thinker"]);
    let ps = server.get("/api/ps").json();
    assert_eq!(ps["models"][0]["expires_at"], Value::Null);
    assert!(ps["models"][1]["expires_at"].is_string(), "{ps}");
    let unloaded = server
        .post(
            "/api/generate",
            &json!({"model": "thinker", "keep_alive": 0}),
        )
        .json();
    assert_eq!(unloaded["done_reason"], "unload");
    assert_eq!(names("/api/ps"), ["demo"]);
    // Its totals stay, and what it does now is gone.
    let metrics = server.get("/metrics").body;
    assert!(
        metrics.contains("bitnet_steps_total{model_name=\"thinker\"}"),
        "{metrics}"
    );
    assert!(
        !metrics.contains("bitnet_texts_running{model_name=\"thinker\"}"),
        "{metrics}"
    );

    let shown = server
        .post("/api/show", &json!({"model": "thinker"}))
        .json();
    assert_eq!(
        shown["capabilities"],
        json!(["completion", "embedding", "thinking"])
    );
    let family = shown["details"]["family"].as_str().expect("a name");
    assert!(
        shown["model_info"][format!("{family}.context_length")].is_u64(),
        "{shown}"
    );
    assert!(server.get("/api/version").json()["version"].is_string());
    let rows = server
        .post(
            "/api/embed",
            &json!({"model": "demo", "input": ["a dog", "a cat"]}),
        )
        .json();
    assert_eq!(
        rows["embeddings"].as_array().expect("rows").len(),
        2,
        "{rows}"
    );
}

#[test]
fn errors_are_sentences_that_name_the_field() {
    let server = start(ServerOptions::default());
    for (path, body, status, says) in [
        ("/api/chat", json!({}), 400, "model"),
        ("/api/chat", json!({"model": "other"}), 404, "demo"),
        (
            "/api/chat",
            json!({"model": "demo", "messages": 7}),
            400,
            "messages",
        ),
        (
            "/api/chat",
            json!({"model": "demo", "messages": [{"role": "user", "content": "a", "images": ["b"]}]}),
            400,
            "images",
        ),
        (
            "/api/chat",
            json!({"model": "demo", "messages": [{"role": "robot"}]}),
            400,
            "messages[0].role",
        ),
        (
            "/api/generate",
            json!({"model": "demo", "prompt": "a", "options": {"num_gpu": 1}}),
            400,
            "options.num_gpu",
        ),
        (
            "/api/generate",
            json!({"model": "demo", "prompt": "a", "options": {"temperature": -1}}),
            400,
            "options.temperature",
        ),
        (
            "/api/generate",
            json!({"model": "demo", "prompt": "a", "options": {"num_ctx": 1_u64 << 40}}),
            400,
            "options.num_ctx",
        ),
        (
            "/api/generate",
            json!({"model": "demo", "prompt": "a", "template": "b"}),
            400,
            "template",
        ),
        (
            "/api/generate",
            json!({"model": "demo", "prompt": "a", "context": [1]}),
            400,
            "context",
        ),
        (
            "/api/generate",
            json!({"model": "demo", "prompt": "a", "format": "xml"}),
            400,
            "format",
        ),
        (
            "/api/generate",
            json!({"model": "demo", "prompt": "a", "keep_alive": "soon"}),
            400,
            "keep_alive",
        ),
        ("/api/embed", json!({"model": "demo"}), 400, "input"),
        (
            "/api/embed",
            json!({"model": "demo", "input": "word ".repeat(20_000), "truncate": false}),
            400,
            "input",
        ),
        ("/api/pull", json!({"model": "demo"}), 404, "/api/pull"),
    ] {
        let answer = server.post(path, &body);
        assert_eq!(answer.status, status, "{path} {}", answer.body);
        let error = answer.json()["error"].clone();
        assert!(
            error.as_str().is_some_and(|error| error.contains(says)),
            "{path}: {error}"
        );
    }
}
