//! Threads for rayon where only JavaScript can start them: Workers that share this module's memory.
//!
//! JavaScript prepares a pool of so many threads, starts as many Workers less one, instantiates the module in each with the same memory, and
//! calls [`run_thread`] there, which returns when the pool is gone. The pool that waits is taken by the next model that is opened.

use crate::failure::{Failure, Result};
use rayon::{ThreadBuilder, ThreadPool, ThreadPoolBuilder};
use std::sync::{Mutex, MutexGuard, PoisonError};
use wasm_bindgen::prelude::wasm_bindgen;

/// More than any browser reports.
const MOST: usize = 256;

/// Threads that wait for a Worker to run them.
static WAITING: Mutex<Vec<ThreadBuilder>> = Mutex::new(Vec::new());
/// The pool that waits for a model.
static POOL: Mutex<Option<ThreadPool>> = Mutex::new(None);

/// What is behind `mutex`. No code here can leave it half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prepares a pool of `count` threads: every one needs a Worker that calls [`run_thread`].
///
/// # Errors
/// If the number cannot be.
#[wasm_bindgen(js_name = prepareThreads)]
pub fn prepare_threads(count: usize) -> Result<()> {
    if !(1..=MOST).contains(&count) {
        let message = format!("threads: expected 1 to {MOST}, found {count}");
        return Err(Failure::argument(message).into());
    }
    lock(&WAITING).clear();
    let pool = ThreadPoolBuilder::new()
        .num_threads(count)
        .spawn_handler(|thread| {
            lock(&WAITING).push(thread);
            Ok(())
        })
        .build()
        .map_err(|error| Failure {
            code: "unavailable",
            message: format!("{count} threads: {error}"),
            tensor: None,
        })?;
    *lock(&POOL) = Some(pool);
    Ok(())
}

/// Is a thread of the prepared pool until the pool is gone.
#[wasm_bindgen(js_name = runThread)]
pub fn run_thread() {
    let thread = lock(&WAITING).pop();
    if let Some(thread) = thread {
        thread.run();
    }
}

/// The prepared pool.
pub(crate) fn take_pool() -> Option<ThreadPool> {
    lock(&POOL).take()
}
