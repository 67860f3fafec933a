//! Answers that come piece by piece: events (SSE), or lines of JSON.

use crate::dialect::Dialect;
use crate::error::ApiError;
use axum::body::Body;
use axum::http::header;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{Stream, StreamExt, unfold};
use serde_json::Value;
use std::convert::Infallible;
use std::future::Future;
use tokio::sync::mpsc;

/// Events that may wait for a slow reader. Its text goes on meanwhile, as far as its own limit.
const WAITING: usize = 16;

/// An event: its name, if it has one, and its text.
struct Frame {
    name: Option<String>,
    text: String,
}

/// Where events go.
#[derive(Clone)]
pub(crate) struct Events {
    sender: mpsc::Sender<Frame>,
    dialect: Dialect,
}

/// Why nothing more can be sent.
pub(crate) enum Ended {
    /// The client is gone.
    Gone,
    /// The text cannot go on.
    Failed(ApiError),
}

impl From<ApiError> for Ended {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

impl Events {
    /// An answer whose events `work` sends. When the client goes away, the next event that is sent ends it.
    pub(crate) fn respond<F, Work>(dialect: Dialect, work: F) -> Response
    where
        F: FnOnce(Self) -> Work,
        Work: Future<Output = Result<(), Ended>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(WAITING);
        let gone = sender.clone();
        let events = Self { sender, dialect };
        let work = work(events.clone());
        tokio::spawn(async move {
            // A client that goes away while nothing is sent, as while its prompt is read, ends the text, too.
            let outcome = tokio::select! {
                outcome = work => outcome,
                () = gone.closed() => Err(Ended::Gone),
            };
            if let Err(Ended::Failed(error)) = outcome {
                tracing::warn!("a stream ends: {}", error.message());
                // Who is gone need not be told.
                let _ = events.send(&dialect.error(&error)).await;
            }
        });
        let frames = unfold(receiver, |mut receiver| async move {
            let frame = receiver.recv().await?;
            Some((frame, receiver))
        });
        match dialect {
            Dialect::Ollama => lines(frames),
            _ => server_sent(frames, dialect),
        }
    }

    /// Sends an object. Where events have names, its `type` is the name.
    ///
    /// # Errors
    /// If the client is gone.
    pub(crate) async fn send(&self, object: &Value) -> Result<(), Ended> {
        let name = match self.dialect {
            Dialect::Responses | Dialect::Anthropic => object["type"].as_str().map(str::to_owned),
            Dialect::OpenAi | Dialect::Ollama => None,
        };
        let text = object.to_string();
        self.put(Frame { name, text }).await
    }

    /// Says, as OpenAI does, that nothing more comes.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(crate) async fn done(&self) -> Result<(), Ended> {
        let text = "[DONE]".to_owned();
        self.put(Frame { name: None, text }).await
    }

    async fn put(&self, frame: Frame) -> Result<(), Ended> {
        self.sender.send(frame).await.map_err(|_| Ended::Gone)
    }
}

fn server_sent(frames: impl Stream<Item = Frame> + Send + 'static, dialect: Dialect) -> Response {
    let events = frames.map(|Frame { name, text }| {
        let event = Event::default().data(text);
        Ok::<_, Infallible>(match name {
            Some(name) => event.event(name),
            None => event,
        })
    });
    let alive = match dialect {
        Dialect::Anthropic => {
            let ping = Event::default().event("ping").data(r#"{"type": "ping"}"#);
            KeepAlive::new().event(ping)
        }
        _ => KeepAlive::default(),
    };
    Sse::new(events).keep_alive(alive).into_response()
}

fn lines(frames: impl Stream<Item = Frame> + Send + 'static) -> Response {
    let lines = frames.map(|frame| Ok::<_, Infallible>(frame.text + "\n"));
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (kind, Body::from_stream(lines)).into_response()
}
