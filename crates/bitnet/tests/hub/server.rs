//! A small HTTP server on this machine that misbehaves on demand.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A request as it came in; header names in lower case.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    /// How many requests came before it.
    pub(crate) index: usize,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The first byte asked for.
    pub(crate) fn range_start(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }
}

/// What the server sends back.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Close the connection after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// Say how long the body is.
    pub(crate) announce: bool,
    /// Keep the connection open and silent after what is sent, until the client leaves.
    pub(crate) hang: bool,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            cut: None,
            announce: true,
            hang: false,
        }
    }

    /// `content` from where the request wants it, as a server with ranges and entity tags does.
    pub(crate) fn file(request: &Request, content: &[u8], tag: &str) -> Self {
        let tag = format!("\"{tag}\"");
        let same = request
            .header("if-range")
            .is_none_or(|wanted| wanted == tag);
        let reply = match request.range_start() {
            Some(start) if same && start < content.len() => Self::new(206, &content[start..]).with(
                "Content-Range",
                format!("bytes {start}-{}/{}", content.len() - 1, content.len()),
            ),
            Some(start) if same && start > 0 => {
                Self::new(416, "").with("Content-Range", format!("bytes */{}", content.len()))
            }
            _ => Self::new(200, content),
        };
        reply.with("ETag", tag)
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }
}

/// A running server; ends with the test's process.
pub(crate) struct Server {
    pub(crate) address: String,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(crate) fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let handler = Arc::new(handler);
        let shared = Arc::clone(&log);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, log) = (Arc::clone(&handler), Arc::clone(&shared));
                thread::spawn(move || serve(stream, &*handler, &log));
            }
        });
        Self { address, log }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.log.lock().unwrap().len()
    }
}

fn serve(stream: TcpStream, handler: &dyn Fn(&Request) -> Reply, log: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header).unwrap_or(0) == 0 || header.trim().is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').unwrap();
        headers.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
    }
    let request = {
        let mut log = log.lock().unwrap();
        let request = Request {
            method: method.to_owned(),
            path: path.to_owned(),
            headers,
            index: log.len(),
        };
        log.push(request.clone());
        request
    };
    let reply = handler(&request);
    // The client may be gone already; that is its right.
    let _ = answer(stream, &request, &reply);
}

fn answer(mut stream: TcpStream, request: &Request, reply: &Reply) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} x\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if reply.announce
        && !reply
            .headers
            .iter()
            .any(|(name, _)| name == "Content-Length")
    {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    if request.method != "HEAD" {
        let end = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
        for chunk in reply.body[..end].chunks(16 << 10) {
            stream.write_all(chunk)?;
        }
    }
    stream.flush()?;
    if reply.hang {
        let _ = stream.read(&mut [0]);
    }
    Ok(())
}
