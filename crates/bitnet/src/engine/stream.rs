//! A text as it comes out of an engine.

use crate::decoder::Piece;
use crate::generate::{StopReason, Timings};
use crate::{Error, Result};
use async_channel::Receiver;
use futures_core::Stream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// How a text ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finish {
    /// Why.
    pub reason: StopReason,
    /// Tokens and times.
    pub timings: Timings,
    /// Tokens of the whole prompt.
    pub prompt_tokens: usize,
    /// Tokens of the prompt whose keys and values were there already.
    pub cached_tokens: usize,
    /// From the request to its first step.
    pub queued: Duration,
}

/// News of a text.
#[derive(Debug)]
pub(super) enum Event {
    /// The next token, or text that was held back.
    Piece(Piece),
    /// Nothing more comes.
    End(Result<Finish>),
}

/// A text as it comes out of an engine, token by token: a [`Stream`] for tasks, which never blocks them, and an [`Iterator`] for
/// threads. An error ends it. To drop it ends the text.
#[derive(Debug)]
pub struct TokenStream {
    events: Pin<Box<Receiver<Event>>>,
    finish: Option<Finish>,
    ended: bool,
}

impl TokenStream {
    pub(super) fn new(events: Receiver<Event>) -> Self {
        Self {
            events: Box::pin(events),
            finish: None,
            ended: false,
        }
    }

    /// How it ended; `None` while it runs, or after an error.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// The next token, if it is there already; for callers that drive a [`Batcher`](super::Batcher).
    pub fn try_next(&mut self) -> Option<Result<Piece>> {
        if self.ended {
            return None;
        }
        let event = self.events.try_recv().ok();
        event.and_then(|event| self.accept(Some(event)))
    }

    /// The rest of the text, and how it ended. Blocks until then.
    ///
    /// # Errors
    /// The one by which it ended.
    pub fn text(mut self) -> Result<(String, Finish)> {
        let mut text = String::new();
        for piece in self.by_ref() {
            text.push_str(&piece?.text);
        }
        match self.finish {
            Some(finish) => Ok((text, finish)),
            None => Err(Error::Stopped),
        }
    }

    fn accept(&mut self, event: Option<Event>) -> Option<Result<Piece>> {
        match event {
            Some(Event::Piece(piece)) => return Some(Ok(piece)),
            Some(Event::End(Ok(finish))) => self.finish = Some(finish),
            Some(Event::End(Err(error))) => {
                self.ended = true;
                return Some(Err(error));
            }
            // The engine is gone, and has said nothing.
            None => {
                self.ended = true;
                return Some(Err(Error::Stopped));
            }
        }
        self.ended = true;
        None
    }
}

impl Stream for TokenStream {
    type Item = Result<Piece>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Piece>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let event = ready!(self.events.as_mut().poll_next(cx));
        Poll::Ready(self.accept(event))
    }
}

impl Iterator for TokenStream {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        pollster::block_on(std::future::poll_fn(|cx| {
            Pin::new(&mut *self).poll_next(cx)
        }))
    }
}
