//! The backend for GPUs: Vulkan, Metal and DirectX 12 natively and WebGPU in a browser, all through wgpu and the kernels of
//! `shaders-wgsl/`; and Metal itself, with the kernels of `shaders-metal/`. What is here is written once for both; a driver
//! is all that they differ in.
//!
//! Sublayers of a batch are recorded one after the other (`recording`) and submitted as one command buffer; the likeliest
//! tokens are found on the device, and only they come back. Integer parts are exact: with the same int8 activations a
//! ternary product's sums are those of the CPU, scaled in the same order. Floats are added in another order than on a CPU,
//! and divided, exponentiated and rooted by the device, so texts may part where two tokens are about as likely.
//!
//! | what | where |
//! |---|---|
//! | the device, its failures | `device`, `lanes`, `failure` |
//! | interfaces to devices | `driver`, `wgpu_driver`, `metal_driver`, `shim_driver` |
//! | buffers | `memory`, `scratch`, `weights`, `blocks`, `sequences`, `state`, `rotations` |
//! | kernels and what is sent | `kernel`, `recording`, `outbox`, `timing`, `floors` |
//! | sublayers | `spans`, `rows`, `product`, `attention`, `attention_weights`, `feed_forward`, `head`, `outputs`, `screen`, `backend` |

mod attention;
mod attention_weights;
mod backend;
mod blocks;
mod device;
mod driver;
mod failure;
mod feed_forward;
mod floors;
mod head;
mod hidden;
mod interface;
mod kernel;
mod lanes;
mod memory;
#[cfg(all(feature = "metal", target_os = "macos"))]
mod metal_driver;
mod outbox;
mod outputs;
mod product;
mod recording;
mod rotations;
mod rows;
mod scratch;
mod screen;
mod sequences;
#[cfg(all(feature = "metal-shim", target_os = "linux"))]
mod shim_driver;
mod spans;
mod state;
mod timing;
mod weights;
#[cfg(feature = "wgpu")]
mod wgpu_driver;

pub use attention::GpuMixer;
pub use feed_forward::GpuFeedForward;
pub use floors::Floors;
pub use head::{GpuEmbedding, GpuLmHead};
pub use hidden::GpuHidden;
pub use interface::GpuInterface;
pub use state::GpuState;
pub use timing::{KernelTime, Times};

use crate::device::Adapter;
use crate::pool::PoolStats;
use crate::{HybridMemoryPool, Pending, Result, pending};
use device::Gpu;
use kernel::RowPlace;
use sequences::Sequences;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Who refuses what this backend cannot do, in errors.
const REFUSED_BY: &str = "the GPU backends";

/// Which device to open, and how.
#[derive(Debug, Clone)]
pub struct GpuOptions {
    /// The programming interface.
    pub interface: GpuInterface,
    /// The adapter's index in [`device::adapters`](crate::device::adapters), or a part of its name; `None` for the most powerful one.
    pub adapter: Option<String>,
    /// Whether adapters that compute on the CPU may be used.
    pub software: bool,
    /// The most bytes of a buffer that kernels may see, if less than the device allows.
    pub binding_limit: Option<u64>,
    /// Whether kernels check every index at run time, though they are proven: slower, for tests.
    pub checked: bool,
    /// Whether to use subgroup operations, or the matrices of simdgroups, where the device has them.
    pub subgroups: bool,
    /// Whether to use the packed dot product where the device has it.
    pub packed_dot: bool,
    /// Whether keys and values are kept in binary16, half the bytes of f32.
    pub half_cache: bool,
    /// Whether the device tells how long kernels take ([`GpuBackend::times`]), if it can. They run several times for that, and
    /// what a session holds afterwards is of no use.
    pub timed: bool,
    /// Host memory. Its limit, if it has one, is the limit of the device's memory too.
    pub pool: HybridMemoryPool,
}

impl Default for GpuOptions {
    fn default() -> Self {
        Self {
            interface: GpuInterface::default(),
            adapter: None,
            software: false,
            binding_limit: None,
            checked: false,
            subgroups: true,
            packed_dot: true,
            half_cache: false,
            timed: false,
            pool: HybridMemoryPool::default(),
        }
    }
}

/// The GPUs that Metal finds, in the order of their indices.
#[cfg(all(feature = "metal", target_os = "macos"))]
pub fn metal_adapters() -> Vec<Adapter> {
    metal_driver::list()
}

/// The adapters of this machine that wgpu finds, in the order of their indices.
#[cfg(feature = "wgpu")]
pub fn adapters() -> Vec<Adapter> {
    pending::poll_once(wgpu_driver::list()).unwrap_or_default()
}

/// [`adapters()`], for a browser, which shows one adapter at most.
#[cfg(feature = "wgpu")]
pub async fn adapters_later() -> Vec<Adapter> {
    wgpu_driver::list().await
}

/// A GPU.
///
/// Several batches of a sequence may be in flight: what one leaves on the device, the next one finds there. Clones share the
/// device.
#[derive(Clone)]
pub struct GpuBackend {
    gpu: Arc<Gpu>,
    pool: HybridMemoryPool,
    rotations: Arc<rotations::Tables>,
    /// The state that the present sequences share.
    sequences: Arc<Mutex<Weak<Sequences>>>,
}

/// The backend, where it is opened through wgpu: the interface of [`GpuOptions::default`].
#[cfg(feature = "wgpu")]
pub type WgpuBackend = GpuBackend;

impl std::fmt::Debug for GpuBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuBackend")
            .field("adapter", &self.gpu.summary)
            .finish_non_exhaustive()
    }
}

impl GpuBackend {
    /// Opens a device. In a browser, [`open`](Self::open) it.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable) if there is no such adapter, or it lacks something.
    pub fn new(options: &GpuOptions) -> Result<Self> {
        pending::now(Self::open(options.clone()))
    }

    /// Opens a device.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub async fn open(options: GpuOptions) -> Result<Self> {
        let gpu = Gpu::open(&options).await?;
        Ok(Self {
            gpu: Arc::new(gpu),
            pool: options.pool,
            rotations: Arc::default(),
            sequences: Arc::default(),
        })
    }

    /// The adapter in use.
    pub fn adapter(&self) -> &Adapter {
        &self.gpu.summary
    }

    /// The state that sequences share: made with the first of them.
    fn sequences(&self) -> Result<Arc<Sequences>> {
        let mut known = self
            .sequences
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(sequences) = known.upgrade() {
            return Ok(sequences);
        }
        let made = Sequences::new(&self.gpu, false)?;
        *known = Arc::downgrade(&made);
        Ok(made)
    }

    /// The account of the device's memory.
    pub fn memory(&self) -> PoolStats {
        // What batches hold is theirs until they are sent.
        self.gpu.outbox.wait();
        self.gpu.memory.stats()
    }

    /// The rows of a batch, `[rows, hidden]`. The batch ends here.
    ///
    /// # Errors
    /// [`Error::DeviceLost`](crate::Error::DeviceLost) and others of the device.
    pub fn fetch(&self, x: GpuHidden) -> Result<Pending<Vec<f32>>> {
        let GpuHidden {
            mut recording,
            rows,
            spans,
            ..
        } = x;
        recording.read(rows.slot.buffer(), rows.bytes);
        let mut reads = recording.submit()?;
        let bytes = reads.pop().unwrap_or_else(|| Pending::ready(Vec::new()));
        Ok(bytes.map(move |bytes| {
            let all: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
            let place = rows.place;
            let (first, cols) = (place.offset as usize, place.cols as usize);
            // In the order of the batch, which is not that of the device.
            let order = spans.runs.iter().flat_map(|run| run.rows.clone());
            let starts = order.map(|row| row * place.stride as usize + first);
            let wanted = starts.filter_map(|start| all.get(start..start + cols));
            wanted.flatten().copied().collect()
        }))
    }

    /// What batches and kernels took since this was last asked; nothing unless the backend was opened
    /// [timed](GpuOptions::timed) on a device that can tell.
    ///
    /// # Errors
    /// [`Error::DeviceLost`](crate::Error::DeviceLost).
    pub async fn times(&self) -> Result<Times> {
        self.gpu.outbox.settle()?;
        self.gpu.driver.times().await
    }

    /// Destroys the device, as a failing driver would: everything that was made with it answers
    /// [`Error::DeviceLost`](crate::Error::DeviceLost) from now on.
    pub fn destroy(&self) {
        // The device itself tells when it has nothing more to do, and errors of what is done with it until then come first.
        self.gpu.failures.lose("it was destroyed");
        self.gpu.driver.destroy();
    }
}

/// Rows of `cols` columns, `stride` apart.
fn row_place(cols: usize, stride: usize) -> RowPlace {
    RowPlace {
        cols: cols as u32,
        offset: 0,
        stride: stride as u32,
    }
}
