//! Work split over threads by output rows, heads or tokens; never inside a reduction.

use super::fork::Team;
use crate::device::Processor;
use crate::{Error, Result};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Whether there can be threads: in WebAssembly only where memory is shared. Other builds of that contain none of their code.
const POSSIBLE: bool = cfg!(any(not(target_family = "wasm"), target_feature = "atomics"));

/// A fixed number of threads, the caller's being one of them.
pub(crate) struct Threads {
    team: Option<Team>,
    count: usize,
}

impl Threads {
    /// `count` threads; if `None` as many as there are cores for this process, since two threads of one core share what
    /// does the work.
    pub(crate) fn new(count: Option<usize>) -> Result<Self> {
        let count = count.unwrap_or_else(|| Processor::detect().cores());
        if count == 0 || count > 1024 {
            return Err(Error::Value {
                what: "threads".into(),
                expected: "1 to 1024".into(),
                found: count.to_string(),
            });
        }
        let team = match count - 1 {
            0 => None,
            _ if !POSSIBLE => {
                return Err(Error::Unavailable {
                    what: format!("{count} threads"),
                    why: "this build of WebAssembly shares no memory".into(),
                });
            }
            helpers => Some(Team::new(
                rayon::ThreadPoolBuilder::new()
                    .num_threads(helpers)
                    .thread_name(|i| format!("bitnet-{i}"))
                    .build()
                    .map_err(|e| Error::Unavailable {
                        what: format!("{count} threads"),
                        why: e.to_string(),
                    })?,
            )),
        };
        Ok(Self { team, count })
    }

    /// The caller's thread and those of a pool that was made elsewhere.
    pub(crate) fn with_helpers(helpers: rayon::ThreadPool) -> Self {
        let count = helpers.current_num_threads() + 1;
        Self {
            team: Some(Team::new(helpers)),
            count,
        }
    }

    fn team(&self) -> Option<&Team> {
        self.team.as_ref().filter(|_| POSSIBLE)
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Keeps the threads together while `work` runs, so that the splits inside it begin at once.
    pub(crate) fn enter<R>(&self, work: impl FnOnce() -> R) -> R {
        match self.team() {
            Some(team) => team.enter(work),
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

    /// Calls `work(index, piece)` for each of `pieces`: parts of several buffers that belong together.
    pub(crate) fn each<T: Send>(
        &self,
        pieces: impl Iterator<Item = T>,
        work: impl Fn(usize, T) -> Result<()> + Sync,
    ) -> Result<()> {
        let pieces: Vec<_> = pieces.map(|piece| Mutex::new(Some(piece))).collect();
        self.ranges(pieces.len(), 1, |range| {
            let mut place = pieces[range.start]
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            match place.take() {
                Some(piece) => work(range.start, piece),
                None => Ok(()),
            }
        })
    }

    /// Calls `work` with pieces of `0..len` of at most `chunk` items. Of several errors it returns the first one's.
    pub(crate) fn ranges(
        &self,
        len: usize,
        chunk: usize,
        work: impl Fn(Range<usize>) -> Result<()> + Sync,
    ) -> Result<()> {
        let piece = |i: usize| i * chunk..((i + 1) * chunk).min(len);
        let pieces = len.div_ceil(chunk);
        let Some(team) = self.team().filter(|_| pieces > 1) else {
            return (0..pieces).try_for_each(|i| work(piece(i)));
        };
        let failed = Mutex::new(None);
        team.run(pieces, &|i| {
            if let Err(error) = work(piece(i)) {
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                if !matches!(&*failed, Some((earlier, _)) if *earlier < i) {
                    *failed = Some((i, error));
                }
            }
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }
}
