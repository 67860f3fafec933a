//! A batcher on a thread of its own, for many callers.

use super::batcher::Batcher;
use super::gauges::Gauges;
use super::options::EngineOptions;
use super::request::Request;
use super::sequence::Sequence;
use super::stream::TokenStream;
use crate::model::Model;
use crate::{Error, Result};
use async_channel::Receiver;
use std::sync::mpsc::{Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Runs the requests of many callers together, on a thread of its own. Clones share it; when the last is dropped, the thread ends
/// after the texts that were requested.
#[derive(Debug, Clone)]
pub struct Engine {
    model: Model,
    /// Texts that may run and wait.
    most_texts: usize,
    commands: Sender<Command>,
    seen: Arc<Mutex<Seen>>,
    /// Closed when the thread has ended.
    done: Receiver<()>,
}

/// What callers see of the thread.
#[derive(Debug)]
struct Seen {
    /// As of the last step or command.
    gauges: Gauges,
    /// Texts that were sent to it since.
    sent: usize,
}

impl Seen {
    /// Counts in which texts that were sent wait.
    fn gauges(&self) -> Gauges {
        Gauges {
            waiting: self.gauges.waiting + self.sent,
            ..self.gauges
        }
    }
}

enum Command {
    Submit(Box<Sequence>),
    Drain,
    Abort,
}

impl Engine {
    /// Starts an engine.
    ///
    /// # Errors
    /// As [`Batcher::new`]; if there are no threads, as in a browser: a [`Batcher`] runs there.
    pub fn new(model: &Model, options: EngineOptions) -> Result<Self> {
        let most_texts = options.most_texts();
        let batcher = Batcher::new(model, options)?;
        let (commands, receiver) = channel();
        let (ending, done) = async_channel::bounded(1);
        let seen = Arc::new(Mutex::new(Seen {
            gauges: batcher.gauges(),
            sent: 0,
        }));
        let shared = Arc::clone(&seen);
        std::thread::Builder::new()
            .name("bitnet-engine".into())
            .spawn(move || {
                Loop {
                    batcher,
                    commands: receiver,
                    seen: shared,
                    draining: false,
                }
                .run();
                drop(ending);
            })
            .map_err(|source| Error::io("the engine's thread", source))?;
        Ok(Self {
            model: model.clone(),
            most_texts,
            commands,
            seen,
            done,
        })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Requests a text. Writes the prompt in tokens on the calling thread, and returns before any of it has run.
    ///
    /// # Errors
    /// If the prompt cannot be written in tokens, is empty or does not fit the context, or an option is out of range;
    /// [`Error::Overloaded`] if too many requests wait; [`Error::Stopped`] if the engine has stopped. What is found out later
    /// is told by the stream.
    pub fn submit(&self, request: Request) -> Result<TokenStream> {
        // A prompt that will be refused need not be written in tokens.
        self.check(&self.seen())?;
        let (sequence, stream) = Sequence::new(&self.model, request)?;
        let mut seen = self.seen();
        self.check(&seen)?;
        // Counted and sent at once: no other can take its place in between.
        self.send(Command::Submit(Box::new(sequence)))?;
        seen.sent += 1;
        Ok(stream)
    }

    fn check(&self, seen: &Seen) -> Result<()> {
        let Gauges {
            waiting, running, ..
        } = seen.gauges();
        if waiting + running < self.most_texts {
            Ok(())
        } else {
            Err(Error::Overloaded { waiting })
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts of the texts that run and wait, of bytes, and of the work so far, as of the last step; requests since then wait.
    pub fn gauges(&self) -> Gauges {
        self.seen().gauges()
    }

    /// Ends all texts. The engine goes on.
    ///
    /// # Errors
    /// [`Error::Stopped`] if it has stopped.
    pub fn abort(&self) -> Result<()> {
        self.send(Command::Abort)
    }

    /// Takes no more requests, finishes those that there are, and stops. Blocks until then.
    pub fn drain(&self) {
        pollster::block_on(self.drain_async());
    }

    /// [`drain`](Self::drain) for tasks.
    pub async fn drain_async(&self) {
        // A stopped engine has drained.
        let _ = self.send(Command::Drain);
        let _ = self.done.recv().await;
    }

    fn send(&self, command: Command) -> Result<()> {
        self.commands.send(command).map_err(|_| Error::Stopped)
    }
}

/// The thread's work: commands, and steps while there are texts.
struct Loop {
    batcher: Batcher,
    commands: std::sync::mpsc::Receiver<Command>,
    seen: Arc<Mutex<Seen>>,
    draining: bool,
}

impl Loop {
    fn run(mut self) {
        loop {
            if !self.take_commands() {
                return;
            }
            self.batcher.step_silently();
            self.tell(0);
        }
    }

    /// Takes the commands that are there; waits for one if there is nothing else to do. Returns whether there is work.
    fn take_commands(&mut self) -> bool {
        loop {
            if self.batcher.is_idle() {
                if self.draining {
                    return false;
                }
                match self.commands.recv() {
                    Ok(command) => self.take(command),
                    // Nobody can request anything any more.
                    Err(_) => return false,
                }
            }
            match self.commands.try_recv() {
                Ok(command) => self.take(command),
                Err(TryRecvError::Empty) if self.batcher.is_idle() => {}
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => {
                    self.draining = true;
                    if !self.batcher.is_idle() {
                        return true;
                    }
                }
            }
        }
    }

    fn take(&mut self, command: Command) {
        let taken = usize::from(matches!(command, Command::Submit(_)));
        let mut refused = None;
        match command {
            Command::Submit(sequence) if self.draining => {
                refused = Some((sequence, Error::Stopped))
            }
            Command::Submit(sequence) => match self.batcher.check(&sequence) {
                Ok(()) => self.batcher.enqueue(*sequence),
                Err(error) => refused = Some((sequence, error)),
            },
            Command::Drain => self.draining = true,
            Command::Abort => self.batcher.abort_silently(),
        }
        self.tell(taken);
        if let Some((mut sequence, error)) = refused {
            sequence.fail(error);
        }
    }

    /// Lets callers see the gauges, and that some of the texts that were sent are among them; only then who has ended, so that who
    /// hears of it finds the room.
    fn tell(&mut self, taken: usize) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.gauges = self.batcher.gauges();
        seen.sent -= taken;
        drop(seen);
        self.batcher.tell_ends();
    }
}
