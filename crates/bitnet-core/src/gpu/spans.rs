//! Where the rows of a batch's spans are on the device, and what attention needs to know of each.
//!
//! Rows that attend one by one come first, in classes by the pieces that their contexts are taken in; behind them those of longer
//! spans, which attend in tiles. What becomes of a row depends on its span alone: so it has the same bits in every company.

use super::GpuState;
use super::blocks::{BLOCK, Slab};
use super::kernel::{CLASSES, LEAST_PIECE, MOST_PIECES};
use super::memory::Slot;
use super::recording::Recording;
use super::scratch::Bound;
use crate::batch::{Batch, Run};
use crate::{Error, Input, Result, SequenceState};
use std::ops::Range;
use std::sync::Arc;

/// Tokens up to which each of a span attends by itself.
const FEW: usize = 8;
/// Says that the token is the likeliest of a sequence, found before.
const LIKELIEST: u32 = 1 << 31;

/// The rows of a batch.
pub(super) struct Spans {
    /// The rows of each span on the device, in the order of the batch.
    pub(super) runs: Vec<Run>,
    /// Rows that attend one by one, in each class.
    pub(super) classes: [Range<usize>; CLASSES],
    /// Whether every span is one row.
    pub(super) single: bool,
    /// Tiles of the rows behind them.
    pub(super) tiles: usize,
    /// Pieces of the longest context of a row that attends by itself.
    pub(super) pieces: usize,
    /// The most positions of a sequence.
    pub(super) end: usize,
    /// The keys and values of all sequences.
    pub(super) slab: Option<Arc<Slab>>,
    places: Arc<Slot>,
}

/// Positions from which on a context is long: its pieces are put together by themselves, so there may be many.
const LONG: usize = 2048;
/// The fewest positions of a piece of a long context, and the most pieces.
const LONG_PIECE: usize = 128;
const MOST_LONG_PIECES: usize = 64;

/// Positions of a part of a context of `positions`: enough parts to keep a device busy, and not too many to put together.
fn piece_of(positions: usize) -> usize {
    let (mut piece, most) = if positions > LONG {
        (LONG_PIECE, MOST_LONG_PIECES)
    } else {
        (LEAST_PIECE as usize, MOST_PIECES as usize)
    };
    while positions.div_ceil(piece) > most {
        piece *= 2;
    }
    piece
}

/// The class of rows with such pieces, which attend in as many fours at a time.
fn class_of(piece: usize) -> usize {
    ((piece / LEAST_PIECE as usize).ilog2() as usize).min(CLASSES - 1)
}

impl Spans {
    /// The spans of `batch`, for whose tokens there is room.
    ///
    /// # Errors
    /// As [`Recording::input`].
    pub(super) fn new(recording: &mut Recording, batch: &Batch<'_, GpuState>) -> Result<Self> {
        let spans = batch.spans();
        let runs: Vec<Run> = batch.runs().collect();
        let end_of = |run: &Run| run.first + run.rows.len();
        let class = |run: &Run| match run.rows.len() {
            1..=FEW => class_of(piece_of(end_of(run))),
            _ => CLASSES,
        };
        let mut order: Vec<usize> = (0..runs.len()).collect();
        order.sort_by_key(|index| class(&runs[*index]));
        let rows: usize = runs.iter().map(|run| run.rows.len()).sum();
        let tile_queries = recording.gpu.lanes.tile_queries() as usize;
        let tiles_of = |run: &Run| run.rows.len().div_ceil(tile_queries);
        let tiled = runs.iter().filter(|run| class(run) == CLASSES);
        let tiles: usize = tiled.map(tiles_of).sum();
        let mut words: Vec<u32> = Vec::with_capacity(4 * (rows + tiles));
        let mut tile_words: Vec<u32> = Vec::with_capacity(4 * tiles);
        let mut tables: Vec<u32> = Vec::new();
        let mut classes: [Range<usize>; CLASSES] = std::array::from_fn(|_| 0..0);
        let mut placed = runs.clone();
        let (mut pieces, mut next) = (0, 0);
        for index in order {
            let (span, run) = (&spans[index], &runs[index]);
            let (count, own_class) = (run.rows.len(), class(run));
            let table = (4 * (rows + tiles) + tables.len()) as u32;
            let blocks = span.state.blocks.iter().take(end_of(run).div_ceil(BLOCK));
            tables.extend(blocks.map(|block| block.index));
            let piece = piece_of(end_of(run));
            for row in 0..count {
                let token = match span.input {
                    Input::Tokens(tokens) => tokens[row],
                    Input::LastArgmax => LIKELIEST | span.state.likeliest.index,
                };
                words.extend([(run.first + row) as u32, table, piece as u32, token]);
            }
            if own_class < CLASSES {
                pieces = pieces.max(end_of(run).div_ceil(piece));
            } else {
                for first in (0..count).step_by(tile_queries) {
                    let queries = (count - first).min(tile_queries);
                    let at = [next + first, run.first + first, queries].map(|n| n as u32);
                    tile_words.extend(at);
                    tile_words.push(table);
                }
            }
            placed[index].rows = next..next + count;
            next += count;
            for (class, range) in classes.iter_mut().enumerate() {
                if class == own_class {
                    range.end = next;
                } else if class > own_class {
                    *range = next..next;
                }
            }
        }
        words.extend(tile_words);
        words.extend(tables);
        let uniform = recording.uniform();
        uniform.pieces = pieces as u32;
        uniform.second = classes[1].start as u32;
        uniform.third = classes[2].start as u32;
        Ok(Self {
            classes,
            single: runs.iter().all(|run| run.rows.len() == 1),
            tiles,
            pieces,
            end: runs.iter().map(end_of).max().unwrap_or(0),
            slab: spans.first().and_then(|span| span.state.slab().cloned()),
            places: recording.input(bytemuck::pod_collect_to_vec(&words))?,
            runs: placed,
        })
    }

    /// The places of rows as kernels read them: `place.wgsl`.
    pub(super) fn places(&self) -> Bound<'_> {
        // All of the buffer, so that bind groups last while contexts grow.
        Bound::whole(self.places.buffer())
    }

    /// Whether contexts have more pieces than kernels put together on their way.
    pub(super) fn are_long(&self) -> bool {
        self.pieces > MOST_PIECES as usize
    }

    /// Rows that attend one by one.
    pub(super) fn few(&self) -> usize {
        self.classes[CLASSES - 1].end
    }

    /// Refuses a batch other than that whose rows these are, or whose states have moved since.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub(super) fn check(&self, batch: &Batch<'_, GpuState>) -> Result<()> {
        let spans = batch.spans();
        let same = spans.len() == self.runs.len()
            && spans.iter().zip(&self.runs).all(|(span, run)| {
                let in_slab = match (span.state.slab(), &self.slab) {
                    (Some(own), Some(slab)) => Arc::ptr_eq(own, slab),
                    _ => false,
                };
                let end = run.first + run.rows.len();
                in_slab && span.state.len() == run.first && span.state.room() >= end
            });
        if same {
            return Ok(());
        }
        let describe = |lens: Vec<usize>| format!("sequences of {lens:?} positions");
        Err(Error::Shape {
            what: "the states of a batch".into(),
            expected: format!(
                "{}, as they were when it began",
                describe(self.runs.iter().map(|run| run.first).collect())
            ),
            found: describe(spans.iter().map(|span| span.state.len()).collect()),
        })
    }
}
