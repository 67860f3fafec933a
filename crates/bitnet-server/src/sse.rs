//! Events of a streamed answer.

use crate::error::ApiError;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::convert::Infallible;
use std::future::Future;
use tokio::sync::mpsc;

/// Events that may wait for a slow reader. Its text goes on meanwhile, as far as its own limit.
const WAITING: usize = 16;

/// Where events go.
#[derive(Clone)]
pub(crate) struct Events(mpsc::Sender<Result<Event, Infallible>>);

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
    pub(crate) fn respond<F, Work>(work: F) -> Response
    where
        F: FnOnce(Self) -> Work,
        Work: Future<Output = Result<(), Ended>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(WAITING);
        let events = Self(sender.clone());
        let work = work(events.clone());
        let gone = sender.clone();
        tokio::spawn(async move {
            // A client that goes away while nothing is sent, as while its prompt is read, ends the text, too.
            let outcome = tokio::select! {
                outcome = work => outcome,
                () = gone.closed() => Err(Ended::Gone),
            };
            if let Err(Ended::Failed(error)) = outcome {
                tracing::warn!("a stream ends: {}", error.message());
                // Who is gone need not be told.
                let _ = events.send(&error.body()).await;
            }
        });
        drop(sender);
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
            let event = receiver.recv().await?;
            Some((event, receiver))
        });
        Sse::new(stream)
            .keep_alive(KeepAlive::default())
            .into_response()
    }

    /// Sends an object.
    ///
    /// # Errors
    /// If the client is gone.
    pub(crate) async fn send(&self, object: &impl Serialize) -> Result<(), Ended> {
        let text = serde_json::to_string(object)
            .map_err(|error| ApiError::internal(format!("an event: {error}")))?;
        self.data(Event::default().data(text)).await
    }

    /// Says, as OpenAI does, that nothing more comes.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(crate) async fn done(&self) -> Result<(), Ended> {
        self.data(Event::default().data("[DONE]")).await
    }

    async fn data(&self, event: Event) -> Result<(), Ended> {
        self.0.send(Ok(event)).await.map_err(|_| Ended::Gone)
    }
}
