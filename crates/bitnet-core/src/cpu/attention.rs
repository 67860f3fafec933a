//! Attention of the rows of a batch, divided by heads and runs of rows.

use super::tuning::Operation;
use super::{CpuBackend, Rows, columns, shape_error};
use crate::batch::Run;
use crate::pool::Movement;
use crate::simd::KeysValues;
use crate::{AttentionHeads, Result};

/// The most rows of a head that one task attends for: later rows see more positions, so that tasks differ.
const MAX_ROWS_PER_TASK: usize = 64;

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
        let row_bytes = size_of::<f32>() * heads.kv_width();
        let mut work = 0;
        for Attended { run, .. } in spans {
            let positions = run.first + run.rows.len();
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
                    let within = start - columns.start;
                    let mut span = spans.partition_point(|span| span.run.rows.end <= rows.start);
                    for row in rows.clone() {
                        while spans[span].run.rows.end <= row {
                            span += 1;
                        }
                        let Attended { keys_values, run } = &spans[span];
                        let keys_values = KeysValues {
                            positions: run.first + (row - run.rows.start) + 1,
                            ..keys_values.of_head(start / width)
                        };
                        let queries = &q.values[row * q.width + start..][..width];
                        let out = &mut piece.token(row)[within..][..width];
                        (self.kernels.attend)(queries, keys_values, out);
                    }
                }
                Ok(())
            },
        )?;
        Ok(out)
    }
}
