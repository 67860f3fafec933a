//! The vocabulary: rows of the embedding, logits, and the likeliest tokens.

use super::screen::{Rounded, Shadow};
use super::{CpuBackend, CpuHidden, CpuState, Rows, shape_error};
use crate::head::{Candidate, LmHeadMode, LmHeadStats, Top};
use crate::pool::{Movement, Tag};
use crate::sublayer::Rotation;
use crate::{
    Activations, Batch, Error, Input, LmHead, NormWeights, Output, OutputRequest, Result, Sublayer,
    VocabularyWeights, WeightMatrix,
};
use std::ops::Range;
use std::sync::Arc;

/// The embedding of the CPU.
#[derive(Debug)]
pub struct CpuEmbedding {
    table: Arc<Table>,
    scale: f32,
    rotation: Option<Arc<Rotation>>,
}

/// The language-model head of the CPU.
#[derive(Debug)]
pub struct CpuLmHead {
    table: Arc<Table>,
    norm: NormWeights,
    rotation: Option<Arc<Rotation>>,
}

impl Sublayer for CpuLmHead {
    fn bytes(&self) -> usize {
        self.table.head_bytes()
    }
}

impl LmHead for CpuLmHead {
    fn stats(&self) -> Option<LmHeadStats> {
        let shadow = self.table.shadow.as_ref()?;
        Some(shadow.stats(&self.table.weights))
    }
}

/// A table of the vocabulary: an embedding, a head or both, and its shadow if it is screened.
#[derive(Debug)]
pub(super) struct Table {
    weights: WeightMatrix,
    pub(super) shadow: Option<Shadow>,
    /// Rounding of the rows that it multiplies as a head.
    activations: Activations,
}

impl Table {
    /// The bytes that one position's likeliest tokens take, but for the rows that are computed in full.
    fn head_bytes(&self) -> usize {
        match &self.shadow {
            Some(shadow) => shadow.bytes(),
            None => self.weights.data().len(),
        }
    }
}

impl CpuBackend {
    /// # Errors
    /// As [`Backend::load_vocabulary`](crate::Backend::load_vocabulary).
    pub(super) fn vocabulary_of(
        &self,
        weights: VocabularyWeights,
    ) -> Result<(CpuEmbedding, CpuLmHead)> {
        weights.check()?;
        let VocabularyWeights {
            embedding,
            embedding_scale: scale,
            embedding_rotation,
            head_rotation,
            activations,
            norm,
            head,
            mode,
        } = weights;
        // A table that is both is rotated both ways.
        let rotation = match &head {
            Some(_) => head_rotation,
            None => embedding_rotation.clone(),
        };
        let (embedding, table) = match head {
            Some(head) => (
                // It multiplies nothing.
                Arc::new(self.table(embedding, LmHeadMode::Full, Activations::F32)?),
                Arc::new(self.table(head, mode, activations)?),
            ),
            None => {
                let table = Arc::new(self.table(embedding, mode, activations)?);
                (Arc::clone(&table), table)
            }
        };
        let embedding = CpuEmbedding {
            table: embedding,
            scale,
            rotation: embedding_rotation,
        };
        let head = CpuLmHead {
            table,
            norm,
            rotation,
        };
        Ok((embedding, head))
    }

    /// A table whose every number was checked, with a shadow if `mode` asks for one and it can have one. Ternary ones multiply
    /// rows that are rounded as `activations` say, and are repacked as matrices of layers are; others multiply f32.
    pub(super) fn table(
        &self,
        weights: WeightMatrix,
        mode: LmHeadMode,
        activations: Activations,
    ) -> Result<Table> {
        let activations = match weights.format().is_ternary() {
            true => activations,
            false => Activations::F32,
        };
        let rounds = activations != Activations::F32;
        let (weights, shadow) = if rounds {
            if mode == LmHeadMode::Screened {
                // Its bounds are those of products of f32.
                tracing::warn!(
                    "{}: multiplies rounded rows and cannot be screened, so all of it is read",
                    weights.name()
                );
            }
            (self.repacked(weights)?, None)
        } else {
            let shadow = self.shadow_of(&weights, mode)?;
            (weights, shadow)
        };
        Ok(Table {
            activations,
            weights,
            shadow,
        })
    }

    /// The rows of a batch: `[rows, hidden]`.
    ///
    /// # Errors
    /// If a token is past the table's last row, memory is short, or a token is not known yet.
    pub(super) fn look_up(
        &self,
        embedding: &CpuEmbedding,
        batch: &Batch<'_, CpuState>,
    ) -> Result<Rows> {
        let CpuEmbedding {
            table,
            scale,
            rotation,
        } = embedding;
        batch.check_tokens(table.weights.rows())?;
        if let Some(shadow) = &table.shadow {
            shadow.touched(&table.weights, batch.rows());
        }
        let table = &table.weights;
        let mut rows = Rows::new(&self.pool, batch.rows(), table.cols())?;
        let mut stored = self.pool.buffer_uninit(table.stored_cols(), Tag::Scratch)?;
        let mut out = rows.values.chunks_exact_mut(table.cols());
        for span in batch.spans() {
            let Input::Tokens(tokens) = span.input else {
                return Err(Error::Unavailable {
                    what: "look-ahead decoding".into(),
                    why: "the CPU backend does not support it: every token is known at once".into(),
                });
            };
            for (&token, out) in tokens.iter().zip(&mut out) {
                self.unpack_row(table, token as usize, &mut stored)?;
                out.copy_from_slice(&stored[..table.cols()]);
                if let Some(rotation) = rotation {
                    self.unrotate(out, rotation);
                }
                if *scale != 1.0 {
                    out.iter_mut().for_each(|value| *value *= scale);
                }
            }
        }
        self.moved(Movement::Copy, size_of_val(&rows.values[..]));
        Ok(rows)
    }

    /// The output of each span.
    ///
    /// # Errors
    /// If widths differ, or memory is short.
    pub(super) fn outputs_of(
        &self,
        x: &CpuHidden,
        head: &CpuLmHead,
        batch: &Batch<'_, CpuState>,
    ) -> Result<Vec<Output>> {
        let (mut logit_rows, mut top_rows, mut tops) = (Vec::new(), Vec::new(), Vec::new());
        let mut hidden_rows = Vec::new();
        for (span, run) in batch.spans().iter().zip(x.requested_runs(batch)) {
            match span.outputs {
                OutputRequest::Nothing => {}
                OutputRequest::Logits { .. } => logit_rows.push(run.rows),
                OutputRequest::Hidden { .. } => hidden_rows.push(run.rows),
                OutputRequest::Top { rows, top } => {
                    top_rows.push(run.rows);
                    tops.resize(tops.len() + rows, top);
                }
            }
        }
        let x = &x.rows;
        // Spans share the reading of the head.
        let mut logits = Vec::new();
        if !logit_rows.is_empty() {
            let rows = self.rotated_rows(x, head, &logit_rows)?;
            logits = self.logits(&rows, &head.table)?;
        }
        let mut candidates = Vec::new();
        if !top_rows.is_empty() {
            let rows = self.rotated_rows(x, head, &top_rows)?;
            candidates = self.candidates(&rows, &head.table, &tops)?;
        }
        let mut candidates = candidates.into_iter();
        // No rows for most batches.
        let hidden = self.head_rows(x, &head.norm, &hidden_rows)?;
        let mut hidden = hidden.values.chunks_exact(x.width.max(1));
        let (vocabulary, mut first) = (head.table.weights.rows(), 0);
        let spans = batch.spans().iter().map(|span| match span.outputs {
            OutputRequest::Nothing => Output::Nothing,
            OutputRequest::Logits { rows } if logit_rows.len() == 1 => {
                debug_assert_eq!(logits.len(), rows * vocabulary);
                Output::Logits(std::mem::take(&mut logits))
            }
            OutputRequest::Logits { rows } => {
                let own = &logits[first * vocabulary..][..rows * vocabulary];
                first += rows;
                Output::Logits(own.to_vec())
            }
            OutputRequest::Hidden { rows } => {
                let rows: Vec<&[f32]> = hidden.by_ref().take(rows).collect();
                Output::Hidden(rows.concat())
            }
            OutputRequest::Top { rows, .. } => {
                Output::Top(candidates.by_ref().take(rows).collect())
            }
        });
        Ok(spans.collect())
    }

    /// Some rows of `x` as the table multiplies them.
    fn rotated_rows(&self, x: &Rows, head: &CpuLmHead, rows: &[Range<usize>]) -> Result<Rows> {
        let mut normed = self.head_rows(x, &head.norm, rows)?;
        if let Some(rotation) = &head.rotation {
            self.rotate_rows(&mut normed, rotation)?;
        }
        Ok(normed)
    }

    /// Some rows of `x`, normed.
    fn head_rows(&self, x: &Rows, norm: &NormWeights, rows: &[Range<usize>]) -> Result<Rows> {
        let count = rows.iter().map(Range::len).sum();
        let mut normed = Rows::new(&self.pool, count, x.width)?;
        let mut rest = &mut normed.values[..];
        for rows in rows {
            let (own, others) = rest.split_at_mut(rows.len() * x.width);
            self.norm_into(x.range(rows.clone()), norm, own)?;
            rest = others;
        }
        Ok(normed)
    }

    /// Logits of each row of `x`, normed: `[tokens, rows]`.
    pub(super) fn logits(&self, x: &Rows, table: &Table) -> Result<Vec<f32>> {
        // Logits are the caller's, not the pool's.
        let len = x.tokens.saturating_mul(table.weights.rows());
        let mut logits = Vec::new();
        logits
            .try_reserve_exact(len)
            .map_err(|_| Error::OutOfMemory {
                what: "logits".into(),
                bytes: len.saturating_mul(4),
                in_use: self.pool.stats().in_use,
                limit: None,
            })?;
        logits.resize(len, 0.0);
        let rounded = self.rounded(x.view(), table.activations)?;
        let weights = [&table.weights];
        self.linear_into(x.view(), rounded.as_ref(), &weights, &mut [&mut logits])?;
        Ok(logits)
    }

    /// The candidates of each row of `x`, normed, of which each has its own `tops`.
    pub(super) fn candidates(
        &self,
        x: &Rows,
        table: &Table,
        tops: &[Top<'_>],
    ) -> Result<Vec<Vec<Candidate>>> {
        if table.weights.cols() != x.width {
            let weights = &table.weights;
            return Err(shape_error(weights.name(), weights.cols(), x.width));
        }
        let tokens = x.values.chunks_exact(x.width);
        if let Some(shadow) = &table.shadow {
            let rounded: Option<Vec<Rounded>> = tokens
                .clone()
                .map(|x| Rounded::new(x).filter(|x| x.fits(shadow)))
                .collect();
            if let Some(rounded) = rounded {
                return self.screen(x, &table.weights, shadow, &rounded, tops);
            }
        }
        let logits = self.logits(x, table)?;
        let logits = logits.chunks_exact(table.weights.rows());
        let rows = logits.zip(tops);
        Ok(rows.map(|(logits, top)| top.of_logits(logits)).collect())
    }
}
