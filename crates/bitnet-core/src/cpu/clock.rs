//! Time spent on each kind of operation, for profiles.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A kind of operation of a forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Rows of the embedding.
    Embed,
    /// Norm and rounding to int8.
    NormQuantize,
    /// Choice of experts, and the sum of what they give.
    Experts,
    /// Products with projections.
    Matmul,
    /// Rotation of queries and keys, and keys and values into the state.
    RopeAppend,
    /// Attention.
    Attention,
    /// Convolutions and recurrences of delta nets.
    Recurrence,
    /// Hadamard rotations.
    Rotation,
    /// Gate, norm and rounding to int8.
    Gate,
    /// Norm and head.
    Head,
}

impl Part {
    /// All kinds, in the order of a forward pass.
    pub const ALL: [Self; 10] = [
        Self::Embed,
        Self::NormQuantize,
        Self::Experts,
        Self::Matmul,
        Self::RopeAppend,
        Self::Attention,
        Self::Recurrence,
        Self::Rotation,
        Self::Gate,
        Self::Head,
    ];

    /// For tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::NormQuantize => "norm + quantize",
            Self::Experts => "experts",
            Self::Matmul => "projections",
            Self::RopeAppend => "rotate + append",
            Self::Attention => "attention",
            Self::Recurrence => "recurrence",
            Self::Rotation => "rotate rows",
            Self::Gate => "gate + norm + quantize",
            Self::Head => "head",
        }
    }
}

/// Nanoseconds of each kind of operation so far. Operations run one after the other, so their times add up to that of a
/// forward pass, but for what happens between them.
#[derive(Debug, Default)]
pub struct Clock([AtomicU64; Part::ALL.len()]);

impl Clock {
    /// Time of `part` since the clock was new or reset.
    pub fn spent(&self, part: Part) -> Duration {
        Duration::from_nanos(self.0[part as usize].load(Ordering::Relaxed))
    }

    /// Sets all times to zero.
    pub fn reset(&self) {
        for part in &self.0 {
            part.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn time<T>(&self, part: Part, work: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let done = work();
        let nanoseconds = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0[part as usize].fetch_add(nanoseconds, Ordering::Relaxed);
        done
    }
}
