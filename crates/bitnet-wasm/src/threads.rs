//! Threads for rayon where only JavaScript can start them: Workers that share this module's memory.
//!
//! JavaScript prepares so many helpers, starts as many Workers, instantiates the module in each with the same memory, and
//! calls [`run_thread`] there, which returns when the helpers are no longer needed. The next model that is opened takes them.

use crate::failure::{Failure, Result};
use rayon::{ThreadBuilder, ThreadPool, ThreadPoolBuilder};
use std::sync::{Mutex, MutexGuard, PoisonError};
use wasm_bindgen::prelude::wasm_bindgen;

/// More than any browser reports.
const MOST: usize = 256;

/// Threads that wait for a Worker to run them.
static WAITING: Mutex<Vec<ThreadBuilder>> = Mutex::new(Vec::new());
/// Helpers that wait for a model.
static HELPERS: Mutex<Option<ThreadPool>> = Mutex::new(None);

/// What is behind `mutex`. No code here can leave it half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prepares `count` threads to help the one that computes: every one needs a Worker that calls [`run_thread`].
///
/// # Errors
/// If the number cannot be.
#[wasm_bindgen(js_name = prepareHelpers)]
pub fn prepare_helpers(count: usize) -> Result<()> {
    if !(1..=MOST).contains(&count) {
        let message = format!("helpers: expected 1 to {MOST}, found {count}");
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
            message: format!("{count} helpers: {error}"),
            tensor: None,
        })?;
    *lock(&HELPERS) = Some(pool);
    Ok(())
}

/// Is one of the prepared helpers until they are no longer needed.
#[wasm_bindgen(js_name = runThread)]
pub fn run_thread() {
    let thread = lock(&WAITING).pop();
    if let Some(thread) = thread {
        thread.run();
    }
}

/// The prepared helpers.
pub(crate) fn take_helpers() -> Option<ThreadPool> {
    lock(&HELPERS).take()
}
