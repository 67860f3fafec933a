//! The vocabulary: rows of the embedding, logits, and the likeliest tokens.

use super::activations::Norm;
use super::thread::MlxThreadToken;
use super::weights::Matrix;
use super::{MlxBackend, MlxRows, MlxState, REFUSED_BY, dimension, failed};
use crate::head::{LmHeadMode, LmHeadStats};
use crate::sublayer::{unrotated, unscaled};
use crate::{Error, LmHead, Output, OutputRequest, Result, Span, Sublayer, VocabularyWeights};
use mlx_rs::Array;
use mlx_rs::ops::indexing::TryIndexOp;
use std::sync::Arc;

/// The embedding of the MLX backend.
#[derive(Debug)]
pub struct MlxEmbedding(pub(super) Arc<Matrix>);

/// The language-model head of the MLX backend.
#[derive(Debug)]
pub struct MlxLmHead {
    table: Arc<Matrix>,
    norm: Norm,
}

impl Sublayer for MlxLmHead {
    fn bytes(&self) -> usize {
        self.table.bytes
    }
}

impl LmHead for MlxLmHead {
    fn stats(&self) -> Option<LmHeadStats> {
        None
    }
}

impl MlxBackend {
    /// # Errors
    /// As [`Backend::load_vocabulary`](crate::Backend::load_vocabulary).
    pub(super) fn vocabulary_of(
        &self,
        weights: &VocabularyWeights,
    ) -> Result<(MlxEmbedding, MlxLmHead)> {
        weights.check()?;
        unscaled(weights.embedding_scale, REFUSED_BY)?;
        for rotation in [&weights.embedding_rotation, &weights.head_rotation] {
            unrotated(weights.embedding.name(), rotation.as_deref(), REFUSED_BY)?;
        }
        let embedding = Arc::new(self.loader.load(&weights.embedding)?);
        let table = match &weights.head {
            Some(head) => Arc::new(self.loader.load(head)?),
            None => Arc::clone(&embedding),
        };
        if weights.mode == LmHeadMode::Screened {
            tracing::warn!(
                "{}: MLX has no screened head and computes all logits",
                table.name
            );
        }
        let norm = Norm::load(self.thread, &weights.norm)?;
        Ok((MlxEmbedding(embedding), MlxLmHead { table, norm }))
    }
}

impl MlxLmHead {
    /// Computes `x` and the output of its span.
    ///
    /// # Errors
    /// As [`Backend::outputs`](crate::Backend::outputs).
    pub(super) fn output(
        &self,
        mlx: &MlxThreadToken,
        x: &MlxRows,
        span: &Span<'_, MlxState>,
    ) -> Result<Output> {
        x.check(span.input.len(), self.table.cols)?;
        if span.outputs.rows() == 0 {
            x.array.get(mlx).eval().map_err(failed)?;
        }
        match span.outputs {
            OutputRequest::Nothing => Ok(Output::Nothing),
            OutputRequest::Logits { rows } => {
                let logits = self.logits(mlx, x, rows, <[f32]>::to_vec)?;
                Ok(Output::Logits(logits))
            }
            OutputRequest::Hidden { rows } => {
                let Some(normed) = self.normed(mlx, x, rows)? else {
                    return Ok(Output::Hidden(Vec::new()));
                };
                let normed = normed.contiguous().map_err(failed)?;
                let rows = normed.try_as_slice::<f32>().map_err(|error| Error::Mlx {
                    why: error.to_string(),
                })?;
                Ok(Output::Hidden(rows.to_vec()))
            }
            OutputRequest::Top { rows, top } => {
                let candidates = self.logits(mlx, x, rows, |logits| {
                    let rows = logits.chunks_exact(self.table.rows);
                    rows.map(|logits| top.of_logits(logits)).collect()
                })?;
                Ok(Output::Top(candidates))
            }
        }
    }

    /// The last `rows` rows of `x`, normed; `None` for none.
    fn normed(&self, mlx: &MlxThreadToken, x: &MlxRows, rows: usize) -> Result<Option<Array>> {
        if rows == 0 {
            return Ok(None);
        }
        let array = x.array.get(mlx);
        let last = match x.tokens.saturating_sub(rows) {
            0 => array.clone(),
            first => array.try_index(dimension(first)?..).map_err(failed)?,
        };
        self.norm.apply(mlx, &last).map(Some)
    }

    /// The logits of the last `rows` rows of `x`, read where they lie.
    fn logits<R>(
        &self,
        mlx: &MlxThreadToken,
        x: &MlxRows,
        rows: usize,
        read: impl FnOnce(&[f32]) -> R,
    ) -> Result<R> {
        let Some(normed) = self.normed(mlx, x, rows)? else {
            return Ok(read(&[]));
        };
        let logits = self.table.scaled(self.table.sums(mlx, &normed)?)?;
        let logits = logits.contiguous().map_err(failed)?;
        let logits = logits.try_as_slice::<f32>().map_err(|error| Error::Mlx {
            why: error.to_string(),
        })?;
        Ok(read(logits))
    }
}
