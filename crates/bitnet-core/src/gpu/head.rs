//! The embedding and the head on the device.

use super::rows::NormParams;
use super::screen::Shadow;
use super::weights::Matrix;
use super::{GpuBackend, REFUSED_BY};
use crate::head::LmHeadStats;
use crate::sublayer::{unrotated, unscaled};
use crate::{LmHead, Result, Sublayer, VocabularyWeights};
use std::sync::Arc;

/// The embedding on the GPU.
#[derive(Debug)]
pub struct GpuEmbedding(pub(super) Arc<Matrix>);

/// The head on the GPU.
pub struct GpuLmHead {
    pub(super) table: Arc<Matrix>,
    pub(super) norm: NormParams,
    /// Finds the likeliest rows of the table.
    pub(super) shadow: Option<Shadow>,
}

impl std::fmt::Debug for GpuLmHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuLmHead")
            .field("table", &self.table)
            .field("screened", &self.shadow.is_some())
            .finish_non_exhaustive()
    }
}

impl Sublayer for GpuLmHead {
    fn bytes(&self) -> usize {
        match &self.shadow {
            Some(shadow) => shadow.bytes(),
            None => self.table.bytes(),
        }
    }
}

impl LmHead for GpuLmHead {
    fn stats(&self) -> Option<LmHeadStats> {
        // The device does not count the rows that its screen leaves.
        None
    }
}

impl GpuBackend {
    /// # Errors
    /// As [`Backend::load_vocabulary`](crate::Backend::load_vocabulary).
    pub(super) fn vocabulary(
        &self,
        weights: VocabularyWeights,
    ) -> Result<(GpuEmbedding, GpuLmHead)> {
        weights.check()?;
        let VocabularyWeights {
            embedding,
            embedding_scale,
            embedding_rotation,
            head_rotation,
            // Ternary heads multiply f32 rows here, as others do.
            activations: _,
            norm,
            head,
            mode,
        } = weights;
        unscaled(embedding_scale, REFUSED_BY)?;
        for rotation in [embedding_rotation, head_rotation] {
            unrotated(embedding.name(), rotation.as_deref(), REFUSED_BY)?;
        }
        let embedding_table = Arc::new(self.matrix(&embedding)?);
        let (table, weights) = match head {
            Some(head) => (Arc::new(self.matrix(&head)?), head),
            None => (Arc::clone(&embedding_table), embedding),
        };
        let shadow = Shadow::of(&self.gpu, &weights, &table, mode)?;
        let norm = self.norm(norm)?;
        let head = GpuLmHead {
            table,
            norm,
            shadow,
        };
        Ok((GpuEmbedding(embedding_table), head))
    }
}
