//! Long work beside Python: it runs without the interpreter's lock, Ctrl-C interrupts it, and a forked child is told that it
//! cannot go on with what its parent began.

use crate::error;
use bitnet::Cancel;
use pyo3::prelude::*;
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// How often a thread that waits looks for signals.
pub(crate) const LOOK: Duration = Duration::from_millis(50);

/// The process in which the library began to work. Its threads are not in children that were forked from it, and locks that they
/// held stay locked there.
static OWNER: OnceLock<u32> = OnceLock::new();

/// Whether this is the process in which the library works.
pub(crate) fn is_own() -> bool {
    let process = std::process::id();
    *OWNER.get_or_init(|| process) == process
}

/// Nothing, in the process in which the library works.
///
/// # Errors
/// In a child that was forked from it.
pub(crate) fn check() -> PyResult<()> {
    if is_own() {
        return Ok(());
    }
    let message = "this process was forked from one in which bitnet_rust was at work, and has none of its threads: start \
                   processes by \"spawn\" (multiprocessing.get_context(\"spawn\")), and open the model in each of them";
    Err(error::named("ForkError", message.to_owned()))
}

/// A value of the process in which it was made. A forked child neither uses nor drops it.
pub(crate) struct Owned<T>(Option<T>);

impl<T> Owned<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// The value.
    ///
    /// # Errors
    /// In a forked child.
    pub(crate) fn get(&self) -> PyResult<&T> {
        check()?;
        let stopped = || error::exception(bitnet::Error::Stopped);
        self.0.as_ref().ok_or_else(stopped)
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if !is_own() {
            // Its threads, which it would wait for, are not here.
            std::mem::forget(self.0.take());
        }
    }
}

/// Runs `work` on a thread of its own while this one looks for signals. One that Python turns into an exception, as it does
/// Ctrl-C, sets `cancel`, and is raised when the work has ended.
///
/// # Errors
/// The exception of the signal; if this is a forked child, or there is no thread to be had.
pub(crate) fn interruptible<T: Send>(
    py: Python<'_>,
    cancel: &Cancel,
    work: impl FnOnce() -> T + Send,
) -> PyResult<T> {
    check()?;
    py.detach(|| {
        thread::scope(|scope| {
            let (done, result) = channel();
            thread::Builder::new()
                .name("bitnet-call".into())
                .spawn_scoped(scope, move || {
                    // The one who waits is always there.
                    let _ = done.send(work());
                })?;
            let mut interrupt = None;
            loop {
                match result.recv_timeout(LOOK) {
                    Ok(value) => return interrupt.map_or(Ok(value), Err),
                    Err(RecvTimeoutError::Timeout) => {
                        if interrupt.is_none()
                            && let Err(signal) = Python::attach(|py| py.check_signals())
                        {
                            cancel.cancel();
                            interrupt = Some(signal);
                        }
                    }
                    // It has panicked, which the scope passes on.
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(error::exception(bitnet::Error::Stopped));
                    }
                }
            }
        })
    })
}
