//! The one thread that calls MLX, and arrays that only it can access.
//!
//! MLX records operations for the default stream of the calling thread, and a recording can only be run where that
//! stream is known. So all of it happens on one thread of the process: sessions on other threads hand their work over (a
//! whole forward pass at a time, see [`Backend::scope`](crate::Backend::scope)) and wait for it. Work is done in the order
//! in which it arrives.

use super::failed;
use crate::{Error, Result};
use mlx_rs::{Array, Device};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::marker::PhantomData;
use std::sync::OnceLock;

/// Proof that the code that has it runs on MLX's thread, which it cannot leave.
pub(super) struct MlxThreadToken(PhantomData<*const ()>);

/// MLX's thread.
#[derive(Clone, Copy)]
pub(super) struct Thread(&'static ThreadPool);

impl Thread {
    /// Starts the thread, unless it runs already.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the system starts no thread or MLX finds no device.
    pub(super) fn start() -> Result<Self> {
        static THREAD: OnceLock<ThreadPool> = OnceLock::new();
        let pool = match THREAD.get() {
            Some(pool) => pool,
            None => {
                let name = |_| "mlx".to_owned();
                let pool = ThreadPoolBuilder::new().num_threads(1).thread_name(name);
                let pool = pool.build().map_err(|error| Error::Unavailable {
                    what: "a thread for MLX".into(),
                    why: error.to_string(),
                })?;
                // The loser of a race drops the thread that it started, on which nothing has run.
                THREAD.get_or_init(|| pool)
            }
        };
        // The first fallible call also makes MLX report errors instead of ending the process.
        pool.install(|| Device::try_default().map(drop))
            .map_err(failed)?;
        Ok(Self(pool))
    }

    /// Runs `work` on MLX's thread and waits for it; at once, if the caller is on that thread.
    pub(super) fn run<R: Send>(self, work: impl FnOnce(&MlxThreadToken) -> R + Send) -> R {
        self.0.install(|| work(&MlxThreadToken(PhantomData)))
    }
}

/// An array that only MLX's thread can access.
pub(super) struct Tensor(Array);

// SAFETY: a shared `Tensor` gives its array only for an `MlxThreadToken`, which exists on one thread of the process and
// cannot leave it: no two threads can use an array at a time.
unsafe impl Sync for Tensor {}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tensor").finish_non_exhaustive()
    }
}

impl Tensor {
    pub(super) fn new(array: Array) -> Self {
        Self(array)
    }

    pub(super) fn get(&self, _: &MlxThreadToken) -> &Array {
        &self.0
    }

    /// The array, to be replaced.
    pub(super) fn get_mut(&mut self, _: &MlxThreadToken) -> &mut Array {
        &mut self.0
    }

    /// Another handle of the same array.
    pub(super) fn share(&self, mlx: &MlxThreadToken) -> Self {
        Self(self.get(mlx).clone())
    }
}
