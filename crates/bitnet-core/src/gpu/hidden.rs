//! Rows of a batch on their way through a model.

use super::recording::Recording;
use super::rotations::RopeTable;
use super::rows::Rows;
use super::spans::Spans;
use super::weights::Matrix;
use crate::{Error, Result};
use std::sync::Arc;

/// Rows of a batch on the device, and the commands that compute them.
pub struct GpuHidden {
    pub(super) recording: Recording,
    pub(super) rows: Rows,
    /// Whose they are.
    pub(super) spans: Arc<Spans>,
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

impl GpuHidden {
    /// Refuses rows that `matrix` does not multiply.
    ///
    /// # Errors
    /// [`Error::Shape`] that names the matrix.
    pub(super) fn check_width(&self, matrix: &Matrix) -> Result<()> {
        let width = self.rows.place.cols as usize;
        if matrix.cols == width {
            return Ok(());
        }
        Err(Error::Shape {
            what: matrix.name.clone(),
            expected: format!("width {}", matrix.cols),
            found: format!("width {width}"),
        })
    }
}
