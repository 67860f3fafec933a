//! Attention of the rows of a batch, divided by heads and runs of rows.

use super::columns::Piece;
use super::tuning::Operation;
use super::{CpuBackend, Rows, columns, shape_error};
use crate::batch::Run;
use crate::pool::{Movement, Tag};
use crate::simd::{Attend, KeysValues};
use crate::{AttentionHeads, Result};
use std::ops::Range;

#[cfg(test)]
mod tests;

/// The most rows of a head that one task attends for: later rows see more positions, so that tasks differ.
const MAX_ROWS_PER_TASK: usize = 64;

/// Query heads that read a block together: enough to make little of the time that reading takes, and so few that their
/// sums stay near.
const QUERIES: usize = 96;

/// Keys and values of one span's sequence, those of the span's own rows among them, and its rows.
pub(crate) struct Attended<'a> {
    pub(crate) keys_values: KeysValues<'a>,
    pub(crate) run: Run,
}

impl CpuBackend {
    /// Causal attention of each row of `q` to the positions of its sequence up to its own.
    pub(crate) fn attend(
        &self,
        q: &Rows,
        heads: AttentionHeads,
        spans: &[Attended<'_>],
    ) -> Result<Rows> {
        if q.width != heads.query_width() {
            return Err(shape_error("queries", heads.query_width(), q.width));
        }
        let mut work = 0;
        for Attended { keys_values, run } in spans {
            let positions = (run.first + run.rows.len()).min(keys_values.window);
            let row_bytes = heads.kv * keys_values.kv.bytes(heads.dim);
            self.moved(Movement::ZeroCopy, 2 * positions * row_bytes);
            work += run.rows.len() * q.width * positions;
        }
        let mut out = Rows::new(&self.pool, q.tokens, q.width)?;
        // The query heads of one row that share a head of keys and values.
        let width = q.width / heads.kv;
        let (columns, rows) = if self.crossovers.is_parallel(Operation::Attention, work) {
            let parts = self.threads.count().saturating_mul(4).div_ceil(heads.kv);
            (width, q.tokens.div_ceil(parts).min(MAX_ROWS_PER_TASK))
        } else {
            (q.width, q.tokens)
        };
        columns::tiles(
            &self.threads,
            &mut out.values,
            q.width,
            (columns, rows),
            |columns, rows, piece| {
                // A head's keys and values serve all of a sequence's rows while they are near.
                for start in columns.clone().step_by(width) {
                    let mut span = spans.partition_point(|span| span.run.rows.end <= rows.start);
                    let mut first = rows.start;
                    while first < rows.end {
                        let Attended { keys_values, run } = &spans[span];
                        let most = (QUERIES * heads.dim / width).max(1);
                        let end = rows.end.min(run.rows.end).min(first + most);
                        let keys_values = KeysValues {
                            positions: run.first + (first - run.rows.start) + 1,
                            ..keys_values.of_head(start / width)
                        };
                        let within = start - columns.start..start - columns.start + width;
                        self.attend_together(q, start, keys_values, first..end, within, piece)?;
                        first = end;
                        span += usize::from(end == run.rows.end);
                    }
                }
                Ok(())
            },
        )?;
        Ok(out)
    }

    /// Attention of some neighbouring rows of a sequence: of the query heads that begin at column `start` of `q`, and have
    /// a head of keys and values in common. It goes to the columns `within` of `piece`.
    fn attend_together(
        &self,
        q: &Rows,
        start: usize,
        keys_values: KeysValues<'_>,
        rows: Range<usize>,
        within: Range<usize>,
        piece: &mut Piece<'_>,
    ) -> Result<()> {
        let (width, dim) = (within.len(), keys_values.dim);
        let queries = rows.len() * width / dim;
        let own = |row: usize| &q.values[row * q.width + start..][..width];
        let copied = if rows.len() > 1 {
            rows.len() * width
        } else {
            0
        };
        let floats = Attend::scratch(queries, &keys_values) + 2 * copied;
        let mut scratch = self.pool.buffer_uninit::<f32>(floats, Tag::Scratch)?;
        let (copies, scratch) = scratch.split_at_mut(2 * copied);
        let (together, out) = copies.split_at_mut(copied);
        for (copy, row) in together.chunks_exact_mut(width).zip(rows.clone()) {
            copy.copy_from_slice(own(row));
        }
        let single = rows.len() == 1;
        (self.kernels.attend)(Attend {
            queries: if single { own(rows.start) } else { together },
            group: width / dim,
            keys_values,
            scratch,
            out: if single {
                &mut piece.token(rows.start)[within.clone()]
            } else {
                &mut *out
            },
        });
        for (out, row) in out.chunks_exact(width).zip(rows) {
            piece.token(row)[within.clone()].copy_from_slice(out);
        }
        Ok(())
    }
}
