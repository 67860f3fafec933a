//! A thread that sends batches to the device, so that the next one is written down meanwhile: putting a command buffer
//! together takes a host about as long as a large GPU takes for a token.
//!
//! Batches are sent in the order in which they come. A browser has no such thread, and sends at once.

use crate::{Pending, Result};

/// What follows a batch: what it brings to the host, in its order.
pub(super) type Answers = Result<Vec<Pending<Vec<u8>>>>;

#[cfg(target_arch = "wasm32")]
mod here {
    use super::Answers;
    use crate::Result;

    /// Sends at once.
    #[derive(Default)]
    pub(in crate::gpu) struct Outbox;

    impl Outbox {
        pub(in crate::gpu) fn send(&self, _: usize, work: impl FnOnce() -> Answers) -> Answers {
            work()
        }

        pub(in crate::gpu) fn wait(&self) {}

        pub(in crate::gpu) fn settle(&self) -> Result<()> {
            Ok(())
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod here {
    use super::Answers;
    use crate::pending::Waiting;
    use crate::{Error, Pending, Result};
    use std::pin::Pin;
    use std::sync::mpsc::{self, Receiver, Sender};
    use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
    use std::task::{Context, Poll};
    use std::thread::{self, JoinHandle};

    type Answer = Result<Pending<Vec<u8>>>;

    struct Job {
        work: Box<dyn FnOnce() -> Answers + Send>,
        /// One for each answer.
        answers: Vec<Sender<Answer>>,
    }

    /// Sends in a thread of its own, which begins with the first batch and ends with the outbox.
    #[derive(Default)]
    pub(in crate::gpu) struct Outbox {
        thread: OnceLock<Option<Sending>>,
        /// What went wrong with a batch that nobody waits for.
        failure: Arc<Mutex<Option<Error>>>,
    }

    struct Sending {
        jobs: Mutex<Option<Sender<Job>>>,
        handle: Mutex<Option<JoinHandle<()>>>,
    }

    fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    impl Outbox {
        /// Has `work` done, which gives so many answers.
        ///
        /// # Errors
        /// Of a batch before, if nobody waited for it.
        pub(in crate::gpu) fn send(
            &self,
            answers: usize,
            work: impl FnOnce() -> Answers + Send + 'static,
        ) -> Answers {
            self.check()?;
            self.queue(answers, work)
        }

        fn queue(
            &self,
            answers: usize,
            work: impl FnOnce() -> Answers + Send + 'static,
        ) -> Answers {
            let Some(jobs) = self.jobs() else {
                return work();
            };
            let (senders, receivers): (Vec<_>, Vec<_>) =
                (0..answers).map(|_| mpsc::channel()).unzip();
            let job = Job {
                work: Box::new(work),
                answers: senders,
            };
            match jobs.send(job) {
                Ok(()) => {}
                Err(mpsc::SendError(job)) => return (job.work)(),
            }
            let pending = receivers.into_iter().map(|receiver| {
                Pending::waiting(Box::new(Sent {
                    receiver: Mutex::new(receiver),
                    answer: None,
                }))
            });
            Ok(pending.collect())
        }

        /// Waits until all batches are sent.
        pub(in crate::gpu) fn wait(&self) {
            if self.thread.get().is_some_and(Option::is_some) {
                let sent = self.queue(1, || Ok(vec![Pending::ready(Vec::new())]));
                for pending in sent.into_iter().flatten() {
                    // It says nothing but that all before it is done.
                    let _ = pending.now();
                }
            }
        }

        /// Waits until all batches are sent.
        ///
        /// # Errors
        /// Of a batch that nobody waited for.
        pub(in crate::gpu) fn settle(&self) -> Result<()> {
            self.wait();
            self.check()
        }

        fn check(&self) -> Result<()> {
            match lock(&self.failure).take() {
                Some(error) => Err(error),
                None => Ok(()),
            }
        }

        /// Where jobs go; `None` if there is no thread to be had.
        fn jobs(&self) -> Option<Sender<Job>> {
            let thread = self.thread.get_or_init(|| {
                let (jobs, inbox) = mpsc::channel();
                let failure = Arc::clone(&self.failure);
                let builder = thread::Builder::new().name("bitnet-gpu".into());
                let handle = builder.spawn(move || work(&inbox, &failure));
                handle.ok().map(|handle| Sending {
                    jobs: Mutex::new(Some(jobs)),
                    handle: Mutex::new(Some(handle)),
                })
            });
            lock(&thread.as_ref()?.jobs).clone()
        }
    }

    impl Drop for Outbox {
        /// Waits for what is under way: a process that ends must not take the driver from under it.
        fn drop(&mut self) {
            if let Some(Some(sending)) = self.thread.get() {
                *lock(&sending.jobs) = None;
                if let Some(handle) = lock(&sending.handle).take()
                    && handle.thread().id() != thread::current().id()
                {
                    // A thread that panicked has said so.
                    let _ = handle.join();
                }
            }
        }
    }

    fn work(inbox: &Receiver<Job>, failure: &Mutex<Option<Error>>) {
        while let Ok(Job { work, answers }) = inbox.recv() {
            match work() {
                Ok(pending) => {
                    for (answer, pending) in answers.iter().zip(pending) {
                        // Who does not want it any more is gone.
                        let _ = answer.send(Ok(pending));
                    }
                }
                Err(error) => {
                    let refused = match answers.first() {
                        Some(answer) => answer.send(Err(error)).err().map(|error| error.0),
                        None => Some(Err(error)),
                    };
                    if let Some(Err(error)) = refused {
                        *lock(failure) = Some(error);
                    }
                }
            }
        }
    }

    /// An answer of a batch that may not have been sent yet.
    struct Sent {
        receiver: Mutex<Receiver<Answer>>,
        answer: Option<Pending<Vec<u8>>>,
    }

    impl Waiting<Vec<u8>> for Sent {
        fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>>> {
            if self.answer.is_none() {
                let received = lock(&self.receiver).recv();
                match received {
                    Ok(Ok(pending)) => self.answer = Some(pending),
                    Ok(Err(error)) => return Poll::Ready(Err(error)),
                    Err(mpsc::RecvError) => {
                        return Poll::Ready(Err(Error::Refused {
                            why: "the batch failed with another of its answers".into(),
                        }));
                    }
                }
            }
            match &mut self.answer {
                Some(pending) => Pin::new(pending).poll(cx),
                None => Poll::Pending,
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn ready(byte: u8) -> Answers {
            Ok(vec![Pending::ready(vec![byte])])
        }

        #[test]
        fn batches_are_sent_in_their_order() {
            let outbox = Outbox::default();
            let order = Arc::new(Mutex::new(Vec::new()));
            let mut answers = Vec::new();
            for index in 0..50 {
                let order = Arc::clone(&order);
                answers.extend(
                    outbox
                        .send(1, move || {
                            lock(&order).push(index);
                            ready(index)
                        })
                        .expect("sent"),
                );
            }
            for (index, answer) in (0..50).zip(answers) {
                assert_eq!(answer.now().expect("an answer"), [index]);
            }
            assert!(lock(&order).iter().copied().eq(0..50));
        }

        #[test]
        fn a_failure_is_told_to_who_waits_or_to_the_next() {
            let outbox = Outbox::default();
            let fail = || -> Answers { Err(Error::Refused { why: "no".into() }) };
            let mut answers = outbox.send(2, fail).expect("sent").into_iter();
            let mut next = || answers.next().expect("two answers").now();
            assert!(next().expect_err("it failed").to_string().contains("no"));
            assert!(next().is_err());
            outbox.send(0, fail).expect("sent");
            assert!(outbox.settle().is_err());
            outbox.settle().expect("told once");
            let answers = outbox.send(1, || ready(3)).expect("sent");
            drop(outbox);
            for answer in answers {
                assert_eq!(answer.now().expect("sent before the end"), [3]);
            }
        }
    }
}

pub(super) use here::Outbox;
