//! Work split over threads by output rows, heads or tokens; never inside a reduction.

use crate::{Error, Result};
use rayon::prelude::*;
use std::ops::Range;

/// A fixed number of threads; with one, everything runs on the caller's.
pub(crate) struct Threads {
    pool: Option<rayon::ThreadPool>,
    count: usize,
}

impl Threads {
    /// `count` threads, or as many as the machine has cores.
    pub(crate) fn new(count: Option<usize>) -> Result<Self> {
        let count = count
            .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
            .unwrap_or(1);
        if count == 0 || count > 1024 {
            return Err(Error::Value {
                what: "threads".into(),
                expected: "1 to 1024".into(),
                found: count.to_string(),
            });
        }
        if count == 1 {
            return Ok(Self { pool: None, count });
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|i| format!("bitnet-{i}"))
            .build()
            .map_err(|e| Error::Unavailable {
                what: format!("a pool of {count} threads"),
                why: e.to_string(),
            })?;
        Ok(Self {
            pool: Some(pool),
            count,
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Runs `work` on one of the threads, so that the splits inside it need no hand-over.
    pub(crate) fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// A chunk length, a multiple of `grain`, that gives each thread a few of `len` items.
    pub(crate) fn chunk(&self, len: usize, grain: usize) -> usize {
        if self.count == 1 {
            return len.max(1);
        }
        len.div_ceil(self.count * 4)
            .next_multiple_of(grain)
            .max(grain)
    }

    /// Calls `work(index, chunk)` for each `chunk`-long piece of `out`.
    pub(crate) fn chunks<T: Send>(
        &self,
        out: &mut [T],
        chunk: usize,
        work: impl Fn(usize, &mut [T]) -> Result<()> + Sync + Send,
    ) -> Result<()> {
        match &self.pool {
            Some(pool) if out.len() > chunk => pool.install(|| {
                out.par_chunks_mut(chunk)
                    .enumerate()
                    .try_for_each(|(i, piece)| work(i, piece))
            }),
            _ => out
                .chunks_mut(chunk)
                .enumerate()
                .try_for_each(|(i, piece)| work(i, piece)),
        }
    }

    /// Calls `work` with pieces of `0..len` of at most `chunk` items.
    pub(crate) fn ranges(
        &self,
        len: usize,
        chunk: usize,
        work: impl Fn(Range<usize>) -> Result<()> + Sync + Send,
    ) -> Result<()> {
        let piece = |i: usize| i * chunk..((i + 1) * chunk).min(len);
        let pieces = len.div_ceil(chunk);
        match &self.pool {
            Some(pool) => {
                pool.install(|| (0..pieces).into_par_iter().try_for_each(|i| work(piece(i))))
            }
            None => (0..pieces).try_for_each(|i| work(piece(i))),
        }
    }
}
