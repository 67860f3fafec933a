//! The backend for Apple's MLX: GPU and memory of Apple Silicon, through `mlx-rs`.
//!
//! Operations are recorded as a graph and computed when their result is asked for: once for a token. Weights are the numbers
//! of the file in MLX's own formats; activations are rounded to int8 as everywhere, and their whole numbers are multiplied by the
//! codes in f32, which is exact: a ternary product's sums are those of the CPU, scaled in the same order. Norms, rotation
//! and attention are MLX's, which adds, divides and takes cosines in its own way, so texts may part where two tokens are
//! about as likely.
//!
//! On Linux, MLX computes on the CPU: that is for tests, and no faster than what `bitnet` has of its own.
//!
//! | what | where |
//! |---|---|
//! | the thread that MLX is used on | `thread` |
//! | memory lent to MLX, weights in its formats | `lend`, `weights` |
//! | operations | `rows`, `cache`, `attention`, `backend` |
//! | a kernel of our own for GPUs | `kernel` |

mod attention;
mod backend;
mod cache;
#[cfg(target_os = "macos")]
mod kernel;
mod lend;
mod rows;
mod thread;
mod weights;

pub use attention::MlxRotations;
pub use cache::MlxCache;
pub use rows::{MlxActivation, MlxGain, MlxRows};
pub use weights::{MlxMatrix, MlxTable};

use crate::{Error, HybridMemoryPool, Result};
use mlx_rs::error::Exception;
use mlx_rs::{Array, Device};
use std::sync::Arc;
use thread::{Here, Thread};
use weights::Loader;

/// MLX on its default device: the GPU of a Mac, the CPU elsewhere. Clones share the thread that speaks to it, as all
/// backends of a process do.
#[derive(Clone)]
pub struct MlxBackend {
    thread: Thread,
    loader: Arc<Loader>,
    on_gpu: bool,
}

impl std::fmt::Debug for MlxBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MlxBackend")
            .field("device", &self.device())
            .finish_non_exhaustive()
    }
}

impl MlxBackend {
    /// Opens MLX's default device.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if there is none.
    pub fn new() -> Result<Self> {
        Self::with_pool(HybridMemoryPool::default())
    }

    /// A backend whose weights, as far as they do not lie in a mapped file, come from `pool`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_pool(pool: HybridMemoryPool) -> Result<Self> {
        let thread = Thread::start()?;
        let device = thread.run(is_gpu);
        let on_gpu = device.map_err(|error| Error::Unavailable {
            what: "MLX".into(),
            why: error.what().into(),
        })?;
        Ok(Self {
            thread,
            loader: Arc::new(Loader::new(thread, pool)),
            on_gpu,
        })
    }

    /// Where it computes, in words.
    pub fn device(&self) -> &'static str {
        if self.on_gpu { "gpu" } else { "cpu" }
    }

    /// The numbers of `rows`, row after row: computes what they need.
    ///
    /// # Errors
    /// [`Error::Mlx`].
    pub fn fetch(&self, rows: &MlxRows) -> Result<Vec<f32>> {
        self.thread.run(|here| {
            let array = rows.array.get(here).contiguous().map_err(failed)?;
            numbers(here, &array)
        })
    }
}

/// Whether MLX computes on a GPU.
fn is_gpu(_: &Here) -> mlx_rs::error::Result<bool> {
    Ok(Device::try_default()? != Device::cpu())
}

/// The numbers of an f32 array.
fn numbers(_: &Here, array: &Array) -> Result<Vec<f32>> {
    if array.size() == 0 {
        return Ok(Vec::new());
    }
    let numbers = array.try_as_slice::<f32>().map_err(|error| Error::Mlx {
        why: error.to_string(),
    })?;
    Ok(numbers.to_vec())
}

/// What MLX complained of.
fn failed(error: Exception) -> Error {
    Error::Mlx {
        why: error.what().into(),
    }
}

/// A size as MLX counts.
fn dimension(size: usize) -> Result<i32> {
    i32::try_from(size).map_err(|_| Error::Shape {
        what: "an array of MLX".into(),
        expected: format!("at most {} elements along an axis", i32::MAX),
        found: size.to_string(),
    })
}

fn width_error(what: &str, expected: usize, found: usize) -> Error {
    Error::Shape {
        what: what.into(),
        expected: format!("width {expected}"),
        found: format!("width {found}"),
    }
}
