//! The backend that every machine has.
//!
//! Ternary × int8 is exact integer arithmetic; float kernels follow one order of operations on every
//! instruction set. Logits are therefore the same bits for every [`Isa`], thread count and batching.

mod activations;
mod attention;
mod attention_weights;
mod backend;
mod clock;
mod columns;
mod delta_net;
mod dense;
mod experts;
mod f16;
mod feed_forward;
mod fork;
mod gemm;
mod gemv;
mod gemv_interleaved;
mod head;
mod integer;
mod interleave;
mod isa;
mod kernels;
mod layout;
mod linear;
mod mixer;
mod order;
mod product;
mod repack;
mod rope;
mod rotation;
mod rows;
mod screen;
mod state;
mod ternary;
mod threads;
pub mod tuning;

pub use backend::CpuHidden;
pub use clock::{Clock, Part};
pub use feed_forward::CpuFeedForward;
pub use head::{CpuEmbedding, CpuLmHead};
pub use isa::{ISA_VARIABLE, Isa};
pub use mixer::CpuMixer;
pub use product::PreparedRows;
pub use state::{CpuState, state_bytes};

pub(crate) use rope::Rotations;
pub(crate) use rows::{Activation, Rows};

use crate::pool::{HybridMemoryPool, Movement};
use crate::{Error, Result, WeightMatrix};
use kernels::Kernels;
use rows::{Int8Rows, RowView};
use std::sync::Arc;
use threads::Threads;
use tuning::{Crossovers, Operation, Tuning};

fn shape_error(what: impl Into<String>, expected: usize, found: usize) -> Error {
    Error::Shape {
        what: what.into(),
        expected: format!("width {expected}"),
        found: format!("width {found}"),
    }
}

/// Bytes of weights in a piece that is read as a few streams side by side. On one machine streams of longer pieces ran into
/// each other's way and lost up to a fifth of what memory gives, on another they gained nothing.
const STREAMED: usize = 2 << 20;

/// Rows in a piece, a multiple of `grain`, if other work would be shared out `share` rows of `row_bytes` at a time: twice as
/// many, in pieces of at most about [`STREAMED`] bytes, since every piece begins streams anew, which takes as long as reading
/// some 50 kB.
fn streamed(share: usize, row_bytes: usize, grain: usize) -> usize {
    let chunk = share.saturating_mul(2);
    let pieces = chunk.saturating_mul(row_bytes).div_ceil(STREAMED).max(1);
    chunk.div_ceil(pieces).next_multiple_of(grain).max(grain)
}

/// The CPU.
pub struct CpuBackend {
    isa: Isa,
    kernels: &'static Kernels,
    threads: Threads,
    crossovers: Crossovers,
    repacks_base3: Option<bool>,
    interleaves: bool,
    pool: HybridMemoryPool,
    clock: Option<Arc<Clock>>,
}

impl CpuBackend {
    /// A backend on `threads` threads (all cores if `None`) with the kernels of `isa` (`None`: as `BITNET_ISA`
    /// says, else the ones that the machine's [`Tuning`] prefers), and a memory pool of its own.
    ///
    /// # Errors
    /// If the instruction set is missing or the threads cannot be started.
    pub fn new(threads: Option<usize>, isa: Option<Isa>) -> Result<Self> {
        Self::with_pool(threads, isa, HybridMemoryPool::default())
    }

    /// A backend whose activations, scratch and caches come from `pool`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_pool(
        threads: Option<usize>,
        isa: Option<Isa>,
        pool: HybridMemoryPool,
    ) -> Result<Self> {
        let isa = match isa {
            Some(isa) => isa.name().parse()?,
            None => Isa::from_environment()?,
        };
        Self::assemble((isa, isa.kernels()), threads, pool)
    }

    /// A backend on `threads` threads with the fastest kernels there are, whatever `BITNET_ISA` says: for hosts without an
    /// environment. A WebAssembly program that makes no other contains no other kernels.
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn fastest(threads: Option<usize>) -> Result<Self> {
        Self::assemble(Isa::fastest(), threads, HybridMemoryPool::default())
    }

    fn assemble(
        (isa, kernels): (Isa, &'static Kernels),
        threads: Option<usize>,
        pool: HybridMemoryPool,
    ) -> Result<Self> {
        Ok(Self {
            isa,
            kernels,
            threads: Threads::new(threads)?,
            // Without a file system nothing was measured, and nothing that reads measurements is needed.
            crossovers: if cfg!(target_arch = "wasm32") {
                Crossovers::built_in(isa)
            } else {
                Tuning::current().crossovers(isa)
            },
            repacks_base3: None,
            interleaves: repack::INTERLEAVES,
            pool,
            clock: None,
        })
    }

    /// The same backend on the caller's thread and those of `helpers`, for hosts where threads are not started as
    /// [`new`](Self::new) does it. Results stay the same bits.
    #[must_use]
    pub fn with_helpers(mut self, helpers: rayon::ThreadPool) -> Self {
        self.threads = Threads::with_helpers(helpers);
        self
    }

    /// The same backend, changing its ways at other sizes. Results stay the same bits.
    #[must_use]
    pub fn with_crossovers(mut self, crossovers: Crossovers) -> Self {
        self.set_crossovers(crossovers);
        self
    }

    /// The same backend, multiplying base-3 weights from the bytes of the file, or (`repacked`) from 2-bit codes made at
    /// load: a fifth more memory, and faster on x86-64 without AVX-512 VNNI, where this is the default. Results stay the same bits.
    #[must_use]
    pub fn with_base3(mut self, repacked: bool) -> Self {
        self.repacks_base3 = Some(repacked);
        self
    }

    /// The same backend, multiplying weights whose groups have scales of their own from the bytes of the file, or
    /// (`interleaved`) from the same bytes in an order made at load: a copy in memory, several times as fast to multiply, and
    /// the default but in WebAssembly, which cannot give the file's pages back. Results stay the same bits.
    #[must_use]
    pub fn with_interleaving(mut self, interleaved: bool) -> Self {
        self.interleaves = interleaved;
        self
    }

    pub(crate) fn set_crossovers(&mut self, crossovers: Crossovers) {
        self.crossovers = crossovers;
    }

    /// How many of `items` make a piece, a multiple of `grain`, when `work` of `operation` is to be done on them: all,
    /// if the work is too small to be shared.
    fn chunk(&self, operation: Operation, items: usize, grain: usize, work: usize) -> usize {
        if self.crossovers.is_parallel(operation, work) {
            self.threads.chunk(items, grain)
        } else {
            items.max(1)
        }
    }

    /// The same backend, which adds the time of each operation to `clock`. Results stay the same bits. Not for
    /// WebAssembly, which has no such clock.
    #[cfg(not(target_arch = "wasm32"))]
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    fn timed<T>(&self, part: Part, work: impl FnOnce() -> T) -> T {
        match &self.clock {
            Some(clock) => clock.time(part, work),
            None => work(),
        }
    }

    /// The kernels in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The threads in use.
    pub fn threads(&self) -> usize {
        self.threads.count()
    }

    /// Accounts for `bytes` of data handed to their next user.
    fn moved(&self, movement: Movement, bytes: usize) {
        self.pool.zero_copy().record(movement, bytes);
    }

    /// Checks every number of `weights`.
    fn validate(&self, weights: &WeightMatrix) -> Result<()> {
        self.threads
            .ranges(weights.rows(), 64, |rows| weights.validate(rows))
    }
}
