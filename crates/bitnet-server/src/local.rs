//! A server without a network: requests from within the program, answered as those of clients are.

use crate::router;
use crate::state::App;
use axum::Router;
use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::{Method, Request, header};
use bitnet::engine::Gauges;
use futures_util::StreamExt;
use futures_util::stream::Fuse;
use std::collections::VecDeque;
use std::sync::Arc;
use tower::ServiceExt;

/// A server that is asked by function calls, on the tokio runtime of whoever asks. Clones share it.
#[derive(Clone)]
pub struct Local {
    app: Arc<App>,
    router: Router,
}

impl Local {
    pub(crate) fn new(app: &Arc<App>) -> Self {
        Self {
            app: Arc::clone(app),
            router: router::router(app),
        }
    }

    /// Posts `body`, JSON, to `path`. To drop the future or the answer ends the text, as when a client goes away.
    pub async fn post(&self, path: &str, body: String) -> Answer {
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = Method::POST;
        if let Ok(uri) = path.parse() {
            *request.uri_mut() = uri;
        }
        let json = header::HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        let response = match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let kind = response.headers().get(header::CONTENT_TYPE);
        Answer {
            status: response.status().as_u16(),
            has_events: kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")),
            body: response.into_body().into_data_stream().fuse(),
            bytes: Vec::new(),
            ready: VecDeque::new(),
        }
    }

    /// The gauges of the first model's engine; `None` while it is not open.
    pub async fn gauges(&self) -> Option<Gauges> {
        let opened = self.app.models.opened().await;
        opened.first().map(|served| served.engine.gauges())
    }
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}

/// An answer as it comes: a whole object, or the data of events one after the other.
pub struct Answer {
    status: u16,
    has_events: bool,
    body: Fuse<BodyDataStream>,
    /// The bytes so far of the next event.
    bytes: Vec<u8>,
    /// Data of events that have come.
    ready: VecDeque<String>,
}

impl Answer {
    /// The status of HTTP; from 400 on the answer is an error.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The next text in JSON; `None` when all have come.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(data) = self.ready.pop_front() {
                return (data != "[DONE]").then_some(data);
            }
            match self.body.next().await {
                Some(Ok(bytes)) => self.take(&bytes),
                // A body within the program does not break off: it ends.
                Some(Err(_)) | None if self.bytes.is_empty() => return None,
                Some(Err(_)) | None => {
                    let rest = std::mem::take(&mut self.bytes);
                    return Some(String::from_utf8_lossy(&rest).into_owned());
                }
            }
        }
    }

    /// Takes bytes in; of events, the data of those that they complete.
    fn take(&mut self, bytes: &Bytes) {
        self.bytes.extend_from_slice(bytes);
        while self.has_events
            && let Some(end) = self.bytes.windows(2).position(|pair| pair == b"\n\n")
        {
            let event: Vec<u8> = self.bytes.drain(..end + 2).collect();
            let event = String::from_utf8_lossy(&event);
            // JSON has no line breaks of its own; what is no data keeps a connection alive.
            let data = event.lines().find_map(|line| line.strip_prefix("data: "));
            self.ready.extend(data.map(str::to_owned));
        }
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}
