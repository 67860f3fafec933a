//! The backend for Apple's MLX: GPU and memory of Apple Silicon, through `mlx-rs`.
//!
//! Operations are recorded as a graph and computed when a result is read: once for a token. Weights are the numbers of
//! the file in MLX's own formats; activations are rounded to int8 as everywhere, and these integers are multiplied by the
//! codes in f32, which is exact: a ternary product's sums are those of the CPU, scaled in the same order. Norms, RoPE and
//! attention are MLX's, which adds, divides and takes cosines in its own order and precision, so texts may part where two
//! tokens are about as likely.
//!
//! It runs one sequence at a time: a [`Batch`](crate::Batch) of several spans is refused.
//!
//! On Linux, MLX computes on the CPU: that is for tests, and no faster than `bitnet`'s own kernels.
//!
//! | what | where |
//! |---|---|
//! | the thread that MLX is used on | `thread` |
//! | memory lent to MLX, weights in its formats | `lend`, `weights` |
//! | norms, rounding to int8, gates | `activations` |
//! | products, and a kernel of our own for GPUs | `product`, `kernel` |
//! | RoPE and attention | `rope`, `attention` |
//! | keys and values of a sequence | `state` |
//! | sublayers | `mixer`, `feed_forward`, `head` |
//! | the trait | `backend` |

mod activations;
mod attention;
mod backend;
mod feed_forward;
mod head;
#[cfg(target_os = "macos")]
mod kernel;
mod lend;
mod mixer;
mod product;
mod rope;
mod state;
mod thread;
mod weights;

pub use activations::MlxRows;
pub use feed_forward::MlxFeedForward;
pub use head::{MlxEmbedding, MlxLmHead};
pub use mixer::MlxMixer;
pub use product::{MlxMatrix, MlxPreparedRows};
pub use state::MlxState;

use crate::{Error, HybridMemoryPool, Result};
use mlx_rs::error::Exception;
use mlx_rs::{Array, Device};
use std::sync::Arc;
use thread::{MlxThreadToken, Thread};
use weights::Loader;

/// Who refuses what this backend cannot do, in errors.
const REFUSED_BY: &str = "the MLX backend";

/// MLX on its default device: the GPU of a Mac, the CPU elsewhere. All backends of a process share the thread that calls
/// MLX.
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

    /// The kind of its device: `gpu` or `cpu`.
    pub fn device(&self) -> &'static str {
        if self.on_gpu { "gpu" } else { "cpu" }
    }

    /// Computes `rows` and copies them to the host, row after row.
    ///
    /// # Errors
    /// [`Error::Mlx`].
    pub fn fetch(&self, rows: &MlxRows) -> Result<Vec<f32>> {
        self.thread.run(|mlx| {
            let array = rows.array.get(mlx).contiguous().map_err(failed)?;
            numbers(mlx, &array)
        })
    }
}

/// Whether MLX computes on a GPU.
fn is_gpu(_: &MlxThreadToken) -> mlx_rs::error::Result<bool> {
    Ok(Device::try_default()? != Device::cpu())
}

/// The numbers of an f32 array.
fn numbers(_: &MlxThreadToken, array: &Array) -> Result<Vec<f32>> {
    if array.size() == 0 {
        return Ok(Vec::new());
    }
    let numbers = array.try_as_slice::<f32>().map_err(|error| Error::Mlx {
        why: error.to_string(),
    })?;
    Ok(numbers.to_vec())
}

/// An exception of MLX as an error.
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
