//! The exact two-stage head: the likeliest token without reading the whole table.
//!
//! Beside a table of floats lies its *shadow*, each row rounded to int8 with two numbers that say how far it is off. Estimates
//! of all logits and bounds of their errors come from it; then the rows that could be the highest are computed as the full
//! head computes them (`shaders-wgsl/`: `shadow`, `screen_row`, `screen`, `screened`, with the proof).

use super::device::Gpu;
use super::kernel::{CANDIDATES, Kernel, shadow_vectors};
use super::memory::{GpuBuffer, Slot};
use super::recording::Recording;
use super::rows::{Activation, ForScreen};
use super::scratch::Bound;
use super::scratch::Scratch;
use super::weights::{Matrix, Shard};
use crate::{Error, LmHeadMode, Result, Tag, WeightMatrix};
use bitnet_quant::Format;
use std::sync::Arc;

/// A table of fewer bytes is read about as fast as all the steps of a screen take.
const WORTH_SCREENING: usize = 64 << 20;
/// Rows along a side of the grid that rounds them.
const SIDE: usize = 32_768;

/// The rows of a table in int8, and their bounds.
pub(super) struct Shadow {
    codes: Arc<GpuBuffer>,
    bounds: Arc<GpuBuffer>,
}

/// What one position's estimates leave: a likeliest token of each [`CANDIDATES`] rows.
pub(super) struct Screened {
    /// Pairs of key and id.
    pub(super) found: Arc<Slot>,
    pub(super) count: u32,
    /// Logits of those, and of no others.
    pub(super) logits: Arc<Slot>,
}

impl Shadow {
    /// Bytes on the device.
    pub(super) fn bytes(&self) -> usize {
        self.codes.bytes() + self.bounds.bytes()
    }

    /// The shadow of a table, if `mode` asks for one and it can have one.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::DeviceLost`].
    pub(super) fn of(
        gpu: &Arc<Gpu>,
        weights: &WeightMatrix,
        table: &Matrix,
        mode: LmHeadMode,
    ) -> Result<Option<Self>> {
        let floats = matches!(weights.format(), Format::F32 | Format::F16 | Format::Bf16);
        let wanted = match mode {
            LmHeadMode::Full => false,
            LmHeadMode::Screened => true,
            // A browser's memory is scarce, and a CPU that plays a GPU has none faster than the other.
            LmHeadMode::Auto => {
                floats
                    && weights.data().len() >= WORTH_SCREENING
                    && gpu.summary.is_hardware()
                    && cfg!(not(target_arch = "wasm32"))
            }
        };
        if !wanted {
            return Ok(None);
        }
        let vectors = shadow_vectors(table.cols as u32) as usize;
        let bytes = table.rows * vectors * 16;
        // A factor on every logit could round two of them to one, in another order than before.
        let plain = weights.output_scale() == 1.0 && weights.scale() == 1.0;
        let [shard] = table.shards.as_slice() else {
            return Ok(cannot(weights, mode, "it is split"));
        };
        if !plain {
            return Ok(cannot(weights, mode, "its logits have a factor"));
        }
        if bytes > gpu.limits.binding
            || Kernel::screen_vectors(table.cols as u32, gpu.lanes).is_none()
        {
            return Ok(cannot(weights, mode, "it is too large"));
        }
        let shadow = Self {
            codes: gpu.memory.take(bytes, Tag::Weights)?,
            bounds: gpu.memory.take(16 * table.rows, Tag::Weights)?,
        };
        shadow.fill(gpu, table, shard)?;
        Ok(Some(shadow))
    }

    fn fill(&self, gpu: &Arc<Gpu>, table: &Matrix, shard: &Shard) -> Result<()> {
        let scratch = Arc::new(Scratch::new(gpu, false)?);
        let mut recording = Recording::new(gpu, &scratch, 1);
        let kernel = Kernel::Shadow {
            table: table.place(shard),
        };
        let weights = Bound::whole(&shard.buffer);
        let bound = [
            weights,
            weights,
            weights,
            Bound::whole(&self.codes),
            Bound::whole(&self.bounds),
        ];
        let side = table.rows.min(SIDE);
        let groups = [side as u32, table.rows.div_ceil(side) as u32, 1];
        recording.dispatch(kernel, &bound, groups)?;
        recording.submit()?;
        gpu.flush()
    }

    /// Screens the first row that outputs are computed of.
    ///
    /// # Errors
    /// As [`Recording::dispatch`].
    pub(super) fn screen(
        &self,
        recording: &mut Recording,
        activation: &mut Activation,
        table: &Matrix,
        asked: Bound<'_>,
    ) -> Result<Screened> {
        let lanes = recording.gpu.lanes;
        let [shard] = table.shards.as_slice() else {
            return Err(split(table));
        };
        let (rows, cols) = (table.rows as u32, table.cols as u32);
        let padded = Kernel::screen_vectors(cols, lanes).ok_or_else(|| split(table))?;
        let ForScreen {
            normed,
            rounded,
            bytes,
        } = activation.for_screen(recording, padded, asked)?;
        let groups = rows.div_ceil(Kernel::screen_rows(lanes));
        let (most_bytes, least_bytes) = (4 * table.rows, 4 * groups as usize);
        let most = recording.slot(most_bytes)?;
        let least = recording.slot(least_bytes)?;
        let bound = [
            Bound::slot(&rounded, bytes),
            Bound::whole(&self.codes),
            Bound::whole(&self.bounds),
            Bound::slot(&most, most_bytes),
            Bound::slot(&least, least_bytes),
        ];
        recording.dispatch(Kernel::Screen { rows, cols }, &bound, [groups, 1, 1])?;

        let kernel = Kernel::Screened {
            table: table.place(shard),
            x: super::row_place(normed.place.stride as usize, normed.place.stride as usize),
            leasts: groups,
        };
        let count = rows.div_ceil(CANDIDATES);
        let logits = recording.slot(most_bytes)?;
        let found_bytes = 8 * count as usize;
        let found = recording.slot(found_bytes)?;
        let bound = [
            normed.bound(),
            normed.bound(),
            Bound::whole(&shard.buffer),
            Bound::slot(&most, most_bytes),
            Bound::slot(&least, least_bytes),
            Bound::slot(&logits, most_bytes),
            Bound::slot(&found, found_bytes),
        ];
        recording.dispatch(kernel, &bound, [count, 1, 1])?;
        Ok(Screened {
            found,
            count,
            logits,
        })
    }
}

/// Says that a table has no shadow, to one who asked for it.
fn cannot(weights: &WeightMatrix, mode: LmHeadMode, why: &str) -> Option<Shadow> {
    if mode == LmHeadMode::Screened {
        tracing::warn!(
            "{}: cannot be screened, since {why}: all of it is read",
            weights.name()
        );
    }
    None
}

fn split(table: &Matrix) -> Error {
    Error::Shape {
        what: table.name.clone(),
        expected: "a table that has a shadow".into(),
        found: format!("{} columns in {} parts", table.cols, table.shards.len()),
    }
}
