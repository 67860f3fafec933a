//! Rows of a batch on their way through a model.

use super::recording::Recording;
use super::rotations::RopeTable;
use super::rows::Rows;
use std::sync::Arc;

/// Rows of a batch on the device, and the commands that compute them.
pub struct GpuHidden {
    pub(super) recording: Recording,
    pub(super) rows: Rows,
    /// The rotations of the layer before.
    pub(super) rope_table: Option<Arc<RopeTable>>,
}

impl std::fmt::Debug for GpuHidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuHidden")
            .field("tokens", &self.recording.tokens)
            .field("width", &self.rows.place.cols)
            .finish_non_exhaustive()
    }
}
