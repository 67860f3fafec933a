//! Attention of a batch of tokens, shared out by heads and runs of tokens.

use super::tuning::Operation;
use super::{CpuBackend, CpuCache, Rows, columns, shape_error};
use crate::simd::KeysValues;
use crate::zero_copy::Movement;
use crate::{Error, Result};

/// The most tokens of a head that one piece of attention is for: later tokens see more positions, so that pieces differ.
const ATTENDING: usize = 64;

impl CpuBackend {
    /// Causal attention of the last rows appended to `layer`.
    pub(super) fn attend(&self, q: &Rows, cache: &CpuCache, layer: usize) -> Result<Rows> {
        let heads = cache.heads();
        if q.width != heads.query * heads.dim {
            return Err(shape_error("queries", heads.query * heads.dim, q.width));
        }
        let keys_values = cache.layer(layer)?;
        let positions = keys_values.positions;
        let first = positions
            .checked_sub(q.tokens)
            .ok_or_else(|| Error::Shape {
                what: format!("cache of layer {layer}"),
                expected: format!("at least {} positions", q.tokens),
                found: format!("{positions} positions"),
            })?;
        let row_bytes = size_of::<f32>() * heads.kv * heads.dim;
        self.moved(Movement::ZeroCopy, 2 * positions * row_bytes);
        let mut out = Rows::new(&self.pool, q.tokens, q.width)?;
        // The query heads of one token that share a head of keys and values.
        let width = q.width / heads.kv;
        let work = q.values.len() * positions;
        let (columns, tokens) = if self.crossovers.is_parallel(Operation::Attention, work) {
            let parts = self.threads.count().saturating_mul(4).div_ceil(heads.kv);
            (width, q.tokens.div_ceil(parts).min(ATTENDING))
        } else {
            (q.width, q.tokens)
        };
        columns::tiles(
            &self.threads,
            &mut out.values,
            q.width,
            (columns, tokens),
            |columns, tokens, piece| {
                // A head's keys and values serve all of the tokens while they are near.
                for start in columns.clone().step_by(width) {
                    let within = start - columns.start;
                    for token in tokens.clone() {
                        let keys_values = KeysValues {
                            positions: first + token + 1,
                            ..keys_values.of_head(start / width)
                        };
                        let queries = &q.values[token * q.width + start..][..width];
                        let out = &mut piece.token(token)[within..][..width];
                        (self.kernels.attend)(queries, keys_values, out);
                    }
                }
                Ok(())
            },
        )?;
        Ok(out)
    }
}
