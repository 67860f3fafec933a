//! States of recurrent mixers: as large for every number of positions, and not to be shortened.
//!
//! A batch reads the state before it and writes the one behind it, so that a batch that fails leaves everything as it was. States at
//! some earlier positions are kept, to which a sequence can go back: the one before the last batch, as speculation needs it, and the
//! last ones between blocks, from which forks begin.

use super::POSITIONS;
use crate::pool::{Buffer, HybridMemoryPool, Tag};
use crate::{DeltaHeads, Result};
use std::sync::Arc;

/// States between blocks that a sequence keeps.
const KEPT: usize = 2;

/// What a recurrent mixer remembers of a sequence.
#[derive(Debug)]
pub(crate) struct Recurrent {
    /// A matrix of each value head, in blocks of columns as [`Delta`](crate::simd::Delta) has them.
    pub(crate) heads: Buffer<f32>,
    /// The last rows that the convolution read, `[taps − 1][conv_width]`, the oldest first.
    pub(crate) conv: Buffer<f32>,
}

impl Recurrent {
    /// The state of an empty sequence.
    fn zeros(pool: &HybridMemoryPool, heads: DeltaHeads) -> Result<Self> {
        Ok(Self {
            heads: pool.buffer(heads.state_len(), Tag::KvCache)?,
            conv: pool.buffer(heads.conv_len(), Tag::KvCache)?,
        })
    }

    /// A state to be written.
    fn uninit(pool: &HybridMemoryPool, heads: DeltaHeads) -> Result<Self> {
        Ok(Self {
            heads: pool.buffer_uninit(heads.state_len(), Tag::KvCache)?,
            conv: pool.buffer_uninit(heads.conv_len(), Tag::KvCache)?,
        })
    }
}

/// States of all recurrent layers at one position.
#[derive(Debug, Clone)]
struct Moment {
    position: usize,
    layers: Vec<Arc<Recurrent>>,
}

/// States of the recurrent layers of a sequence.
#[derive(Debug, Default)]
pub(super) struct RecurrentStates {
    heads: Vec<DeltaHeads>,
    /// By position, the last one that of the sequence. Empty until the first batch.
    moments: Vec<Moment>,
    /// Written by the batch that runs.
    next: Vec<Recurrent>,
}

impl RecurrentStates {
    /// States of an empty sequence.
    ///
    /// # Errors
    /// If heads are misshapen.
    pub(super) fn new(heads: Vec<DeltaHeads>) -> Result<Self> {
        heads.iter().try_for_each(|heads| heads.check())?;
        Ok(Self {
            heads,
            ..Self::default()
        })
    }

    /// The widths of a recurrent layer.
    pub(super) fn heads(&self, layer: usize) -> Option<DeltaHeads> {
        self.heads.get(layer).copied()
    }

    /// Bytes of the state at one position.
    pub(super) fn bytes_of_one(&self) -> usize {
        let floats = self.heads.iter().fold(0usize, |sum, heads| {
            sum.saturating_add(heads.state_len())
                .saturating_add(heads.conv_len())
        });
        floats.saturating_mul(size_of::<f32>())
    }

    /// Bytes of all that is kept.
    pub(super) fn bytes(&self) -> usize {
        let kept = self.moments.len() + usize::from(!self.next.is_empty());
        self.bytes_of_one().saturating_mul(kept)
    }

    /// Bytes of the states behind the first `position` positions.
    pub(super) fn bytes_beyond(&self, position: usize) -> usize {
        let behind = self
            .moments
            .iter()
            .filter(|moment| moment.position > position);
        let kept = behind.count() + usize::from(!self.next.is_empty());
        self.bytes_of_one().saturating_mul(kept)
    }

    /// Bytes of what a sequence keeps at most.
    pub(super) fn most_bytes(&self) -> usize {
        // The present, the one before, those between blocks, and the one that is written.
        self.bytes_of_one().saturating_mul(KEPT + 3)
    }

    /// Makes room for a batch behind `position`.
    ///
    /// # Errors
    /// If memory is short.
    pub(super) fn reserve(&mut self, pool: &HybridMemoryPool, position: usize) -> Result<()> {
        if self.heads.is_empty() {
            return Ok(());
        }
        if self.moments.is_empty() {
            let zeros = self
                .heads
                .iter()
                .map(|heads| Recurrent::zeros(pool, *heads));
            let layers = zeros
                .map(|zeros| zeros.map(Arc::new))
                .collect::<Result<Vec<_>>>()?;
            self.moments.push(Moment { position, layers });
        }
        if self.next.is_empty() {
            let next = self
                .heads
                .iter()
                .map(|heads| Recurrent::uninit(pool, *heads));
            self.next = next.collect::<Result<_>>()?;
        }
        Ok(())
    }

    /// The state of a layer before the batch, and the one to be written.
    pub(super) fn layer(&mut self, layer: usize) -> Option<(&Recurrent, &mut Recurrent)> {
        let before = self.moments.last()?.layers.get(layer)?;
        Some((before, self.next.get_mut(layer)?))
    }

    /// Makes what the batch wrote the state at `position`.
    pub(super) fn advance(&mut self, position: usize) {
        if self.heads.is_empty() {
            return;
        }
        let layers = self.next.drain(..).map(Arc::new).collect();
        self.moments.push(Moment { position, layers });
        // The present and the one before it stay; of the others the last ones between blocks.
        let older = self.moments.len().saturating_sub(2);
        let between = self.moments[..older]
            .iter()
            .rev()
            .filter(|moment| is_between(moment.position))
            .nth(KEPT - 1)
            .map_or(0, |moment| moment.position);
        let last_kept = self.moments[older].position;
        self.moments.retain(|moment| {
            let kept = is_between(moment.position) && moment.position >= between;
            moment.position >= last_kept || kept
        });
    }

    /// Goes back to the last state that is kept of the first `len` positions. Returns its position.
    pub(super) fn truncate(&mut self, len: usize) -> usize {
        if self.heads.is_empty() {
            return len;
        }
        self.next.clear();
        self.moments.retain(|moment| moment.position <= len);
        self.moments.last().map_or(0, |moment| moment.position)
    }

    /// The states of another sequence that begins with the first `len` positions, or with fewer: with those of the last state that is
    /// kept of them. Also their number.
    pub(super) fn fork(&self, len: usize) -> (Self, usize) {
        let mut fork = Self {
            heads: self.heads.clone(),
            moments: Vec::new(),
            next: Vec::new(),
        };
        if self.heads.is_empty() {
            return (fork, len);
        }
        // An empty sequence needs no state of another's.
        let kept = self.moments.iter().rev();
        let last = kept
            .into_iter()
            .find(|moment| moment.position <= len)
            .filter(|moment| moment.position > 0);
        fork.moments.extend(last.cloned());
        let position = last.map_or(0, |moment| moment.position);
        (fork, position)
    }

    /// The present state of a layer.
    pub(super) fn present(&self, layer: usize) -> Option<&Recurrent> {
        self.moments.last()?.layers.get(layer).map(|layer| &**layer)
    }
}

/// Whether a position is the first of a block.
fn is_between(position: usize) -> bool {
    position.is_multiple_of(POSITIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: DeltaHeads = DeltaHeads {
        key: 1,
        value: 2,
        key_dim: 3,
        value_dim: 5,
        taps: 4,
    };

    /// States whose first number is the position.
    fn run(states: &mut RecurrentStates, pool: &HybridMemoryPool, from: usize, to: usize) {
        states.reserve(pool, from).unwrap();
        let (before, behind) = states.layer(0).unwrap();
        assert_eq!(before.heads[0], from as f32);
        behind.heads.fill(to as f32);
        behind.conv.fill(0.0);
        states.advance(to);
    }

    #[test]
    fn sequences_go_back_to_what_is_kept() {
        let pool = HybridMemoryPool::default();
        let mut states = RecurrentStates::new(vec![HEADS]).unwrap();
        for (from, to) in [
            (0, 64),
            (64, 128),
            (128, 192),
            (192, 200),
            (200, 201),
            (201, 205),
        ] {
            run(&mut states, &pool, from, to);
        }
        let positions = |states: &RecurrentStates| -> Vec<usize> {
            states
                .moments
                .iter()
                .map(|moment| moment.position)
                .collect()
        };
        assert_eq!(positions(&states), [128, 192, 201, 205]);
        assert_eq!(states.bytes(), 4 * states.bytes_of_one());
        let (fork, position) = states.fork(200);
        assert_eq!((position, positions(&fork)), (192, vec![192]));
        let (empty, position) = states.fork(100);
        assert_eq!((position, empty.bytes()), (0, 0));
        // A draft of four, of which two were right.
        assert_eq!(states.truncate(203), 201);
        run(&mut states, &pool, 201, 203);
        assert_eq!(states.truncate(150), 128);
        run(&mut states, &pool, 128, 150);
        assert_eq!(states.truncate(0), 0);
        run(&mut states, &pool, 0, 7);
    }

    #[test]
    fn without_recurrent_layers_there_is_nothing_to_keep() {
        let mut states = RecurrentStates::new(Vec::new()).unwrap();
        states.reserve(&HybridMemoryPool::default(), 0).unwrap();
        states.advance(10);
        assert_eq!((states.truncate(5), states.bytes()), (5, 0));
        assert_eq!(states.fork(7).1, 7);
    }
}
