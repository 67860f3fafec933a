//! Answers that a device may still be working on.
//!
//! A CPU has the answer when the call returns; a GPU gives a [`Waiting`] for it. Natively that is ready at its first
//! poll, which blocks until the device is done; in a browser, where nothing may block, it is ready when its promise is.
//! So one asynchronous function serves everyone: [`now`] runs it natively without an executor, a browser awaits it.

use crate::{Error, Result};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

/// An answer that a device may still be working on.
pub struct Pending<T>(Source<T>);

enum Source<T> {
    /// Here, until it is taken.
    Ready(Option<T>),
    Waiting(Box<dyn Waiting<T>>),
}

/// What a device is asked for an answer by. Not polled again after it was ready.
pub trait Waiting<T>: Send {
    /// As [`Future::poll`].
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T>>;
}

// No reference into it is ever pinned.
impl<T> Unpin for Pending<T> {}

impl<T> Pending<T> {
    /// An answer that is here.
    pub fn ready(value: T) -> Self {
        Self(Source::Ready(Some(value)))
    }

    /// An answer that is waited for.
    pub fn waiting(waiting: Box<dyn Waiting<T>>) -> Self {
        Self(Source::Waiting(waiting))
    }

    /// What `f` makes of the answer: at once if it is here.
    pub fn map<U>(self, f: impl FnOnce(T) -> U + Send + 'static) -> Pending<U>
    where
        T: 'static,
    {
        Pending(match self.0 {
            Source::Ready(value) => Source::Ready(value.map(f)),
            Source::Waiting(waiting) => Source::Waiting(Box::new(Mapped {
                waiting,
                f: Some(f),
            })),
        })
    }

    /// The answer, for callers that cannot await it.
    ///
    /// # Errors
    /// As the device answers; [`Error::Unavailable`] in a browser, if the answer is not here yet.
    pub fn now(self) -> Result<T> {
        now(self)
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        match &mut self.0 {
            Source::Ready(value) => Poll::Ready(value.take().ok_or_else(taken)),
            Source::Waiting(waiting) => {
                let answer = waiting.poll(cx);
                if answer.is_ready() {
                    self.0 = Source::Ready(None);
                }
                answer
            }
        }
    }
}

impl<T> std::fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Source::Ready(Some(_)) => "Pending(ready)",
            Source::Ready(None) => "Pending(taken)",
            Source::Waiting(_) => "Pending(waiting)",
        })
    }
}

struct Mapped<T, F> {
    waiting: Box<dyn Waiting<T>>,
    f: Option<F>,
}

impl<T, U, F: FnOnce(T) -> U + Send> Waiting<U> for Mapped<T, F> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<U>> {
        self.waiting.poll(cx).map(|answer| {
            let f = self.f.take().ok_or_else(taken)?;
            answer.map(f)
        })
    }
}

fn taken() -> Error {
    Error::Unavailable {
        what: "an answer".into(),
        why: "it was taken before".into(),
    }
}

/// The outcome of asynchronous work whose every wait is for a [`Pending`], by polling it once.
///
/// # Errors
/// Those of the work; [`Error::Unavailable`] in a browser, if the work waits for a device there.
pub fn now<T, E: From<Error>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => Err(Error::Unavailable {
            what: "the answer of the device".into(),
            why: "a browser's GPU answers later: await it by the asynchronous functions".into(),
        }
        .into()),
    }
}

/// The outcome of `work` if it is there at its first poll.
#[cfg(feature = "wgpu")]
pub(crate) fn poll_once<T>(work: impl Future<Output = T>) -> Option<T> {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ready at the poll after so many.
    struct After(usize);

    impl Waiting<u32> for After {
        fn poll(&mut self, _: &mut Context<'_>) -> Poll<Result<u32>> {
            match self.0.checked_sub(1) {
                Some(left) => {
                    self.0 = left;
                    Poll::Pending
                }
                None => Poll::Ready(Ok(7)),
            }
        }
    }

    fn poll<T>(pending: &mut Pending<T>) -> Poll<Result<T>> {
        Pin::new(pending).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn an_answer_that_is_here_is_mapped_and_taken_once() {
        let mut pending = Pending::ready(3).map(|x| x + 1);
        assert!(matches!(poll(&mut pending), Poll::Ready(Ok(4))));
        assert!(matches!(poll(&mut pending), Poll::Ready(Err(_))));
        assert_eq!(Pending::ready("here").now().unwrap(), "here");
    }

    #[test]
    fn an_answer_that_is_waited_for_comes_when_it_does() {
        let mut pending = Pending::waiting(Box::new(After(2))).map(|x| x * 2);
        assert!(poll(&mut pending).is_pending());
        assert!(poll(&mut pending).is_pending());
        assert!(matches!(poll(&mut pending), Poll::Ready(Ok(14))));
        assert!(matches!(poll(&mut pending), Poll::Ready(Err(_))));
    }

    #[test]
    fn now_takes_what_is_ready_at_the_first_poll_and_says_what_to_do_otherwise() {
        assert_eq!(Pending::waiting(Box::new(After(0))).now().unwrap(), 7);
        let error = Pending::waiting(Box::new(After(1))).now().unwrap_err();
        assert!(error.to_string().contains("asynchronous"), "{error}");
        let both = async {
            let one = Pending::ready(1).await?;
            Ok::<_, Error>(one + Pending::waiting(Box::new(After(0))).await?)
        };
        assert_eq!(now(both).unwrap(), 8);
    }
}
