//! A server to ask, and its answers.

use bitnet::{Model, ModelOptions};
use bitnet_server::{ModelSource, Server, ServerOptions};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A server of the demo model at a port of its own. Dropped, it ends.
pub(crate) struct Running {
    address: SocketAddr,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// A template that marks roles in plain text, for a model that has none.
pub(crate) const TEMPLATE: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
    {% if tools %}TOOLS {{ tools | tojson }}\n{% endif %}assistant: ";

/// A template of a model that thinks before it answers. It shows all that it is given.
const THINKER: &str = "{% for m in messages %}{{ m | tojson }}\n{% endfor %}\
    {% if enable_thinking %}<think>{% else %}<think></think>{% endif %}";

/// The demo model.
pub(crate) fn model() -> bitnet::Result<Model> {
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
pub(crate) fn source(name: &str, template: String) -> ModelSource {
    ModelSource {
        name: name.into(),
        open: Arc::new(move || model_with(&template)),
    }
}

/// A server of two models: `demo`, and `thinker`, which thinks.
pub(crate) fn start(options: ServerOptions) -> Running {
    let demo = source("demo", TEMPLATE.into());
    start_with(vec![demo, source("thinker", THINKER.into())], options)
}

/// A server of some models.
pub(crate) fn start_with(sources: Vec<ModelSource>, options: ServerOptions) -> Running {
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
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The objects of a stream of lines.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let lines = self.body.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    /// The objects of a stream of events whose names are their types.
    pub(crate) fn named_events(&self) -> Vec<Value> {
        let lines = self.body.lines();
        let names: Vec<_> = lines
            .filter_map(|line| line.strip_prefix("event: "))
            .collect();
        let events = self.events();
        let types: Vec<_> = events
            .iter()
            .filter_map(|event| event["type"].as_str())
            .collect();
        assert_eq!(names, types);
        events
    }

    /// The objects of a stream of events.
    pub(crate) fn events(&self) -> Vec<Value> {
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
    pub(crate) fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> TcpStream {
        let mut stream = self.connect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("sent");
        stream.write_all(body).expect("sent");
        stream
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        answer(self.send(method, path, headers, body))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", b"")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
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

/// The schema of arguments that can have but one value, `{"at": "dog"}`.
pub(crate) fn at_dog() -> Value {
    json!({
        "type": "object", "additionalProperties": false, "required": ["at"], "properties": {"at": {"enum": ["dog"]}},
    })
}

/// A question that gets a short answer.
pub(crate) fn hello() -> Value {
    json!({
        "model": "demo", "messages": [{"role": "user", "content": "Once upon a time"}],
        "max_tokens": 12, "seed": 7,
    })
}
