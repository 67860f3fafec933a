//! Preparation of rows for a matrix: norm, gate, and rounding to int8.

use super::clock::Part;
use super::rows::{Int8Rows, RoundedRows, RowView};
use super::tuning::Operation;
use super::{Activation, CpuBackend, Rows, columns, shape_error};
use crate::pool::Movement;
use crate::sublayer::{Projection, Rotation};
use crate::{Activations, Gate, NormWeights, Result, Tag};

/// What happens to rows before a matrix multiplies them, in this order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Preparation<'a> {
    pub(crate) norm: Option<&'a NormWeights>,
    pub(crate) rotation: Option<&'a Rotation>,
    pub(crate) activations: Activations,
}

impl<'a> Preparation<'a> {
    /// A norm alone.
    pub(crate) const fn norm(norm: Option<&'a NormWeights>) -> Self {
        Self {
            norm,
            rotation: None,
            activations: Activations::F32,
        }
    }

    /// What a projection does to its rows.
    pub(super) fn of(projection: &'a Projection, activations: Activations) -> Self {
        Self {
            norm: projection.norm.as_ref(),
            rotation: projection.rotation.as_deref(),
            activations,
        }
    }
}

impl CpuBackend {
    /// Rows of `x`, prepared; a copy, if they are only left as they are.
    ///
    /// # Errors
    /// If widths differ, or memory is short.
    pub(crate) fn prepare(&self, x: &Rows, preparation: Preparation<'_>) -> Result<Activation> {
        let rows = self.timed(Part::NormQuantize, || match preparation.norm {
            Some(norm) => self.normed(&x.values, x.width, norm),
            None => {
                self.moved(Movement::Copy, size_of_val(&x.values[..]));
                x.copy(&self.pool)
            }
        })?;
        self.finish(rows, preparation)
    }

    /// [`prepare`](Self::prepare) of rows that are given up: they are normed in place, and not copied.
    pub(super) fn prepare_owned(
        &self,
        mut rows: Rows,
        preparation: Preparation<'_>,
    ) -> Result<Activation> {
        if let Some(norm) = preparation.norm {
            self.timed(Part::NormQuantize, || self.norm(&mut rows, norm))?;
        }
        self.finish(rows, preparation)
    }

    /// Rotates and rounds rows that are normed.
    fn finish(&self, mut rows: Rows, preparation: Preparation<'_>) -> Result<Activation> {
        if let Some(rotation) = preparation.rotation {
            self.timed(Part::Rotation, || self.rotate_rows(&mut rows, rotation))?;
        }
        self.timed(Part::NormQuantize, || {
            self.activation(rows, preparation.activations)
        })
    }

    /// function(gate) · up, prepared.
    ///
    /// # Errors
    /// If widths differ, or memory is short.
    pub(crate) fn gate(
        &self,
        mut gate: Rows,
        up: &Rows,
        function: Gate,
        preparation: Preparation<'_>,
    ) -> Result<Activation> {
        if gate.values.len() != up.values.len() {
            return Err(shape_error("up projection", gate.width, up.width));
        }
        self.timed(Part::Gate, || {
            let work = gate.values.len();
            let chunk = self.chunk(Operation::Elementwise, gate.tokens, 1, work) * gate.width;
            columns::chunks(&self.threads, &mut gate.values, chunk, |index, gate| {
                let up = &up.values[index * chunk..][..gate.len()];
                (self.kernels.gate)(gate, up, function);
                Ok(())
            })
        })?;
        self.prepare_owned(gate, preparation)
    }

    /// RMSNorm of every row of `x`, which is `tokens × width`, into new rows.
    fn normed(&self, x: &[f32], width: usize, norm: &NormWeights) -> Result<Rows> {
        let mut rows = Rows::new(&self.pool, x.len() / width.max(1), width)?;
        self.norm_into(x, norm, &mut rows.values)?;
        Ok(rows)
    }

    /// RMSNorm of every row of `x` into the rows of `out`.
    pub(super) fn norm_into(&self, x: &[f32], norm: &NormWeights, out: &mut [f32]) -> Result<()> {
        let width = norm.weight.len();
        if !x.len().is_multiple_of(width) || x.len() != out.len() {
            return Err(shape_error(&norm.name, width, x.len()));
        }
        let chunk = self.chunk(Operation::Norm, x.len() / width, 1, x.len()) * width;
        columns::chunks(&self.threads, out, chunk, |index, out| {
            let x = &x[index * chunk..][..out.len()];
            for (row, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                (self.kernels.rms_norm_into)(row, &norm.weight, norm.eps, out);
            }
            Ok(())
        })
    }

    /// RMSNorm of every row.
    pub(super) fn norm(&self, rows: &mut Rows, norm: &NormWeights) -> Result<()> {
        if norm.weight.len() != rows.width {
            return Err(shape_error(&norm.name, rows.width, norm.weight.len()));
        }
        let (width, work) = (rows.width, rows.values.len());
        let chunk = self.chunk(Operation::Norm, rows.tokens, 1, work) * width;
        columns::chunks(&self.threads, &mut rows.values, chunk, |_, piece| {
            for row in piece.chunks_exact_mut(width) {
                (self.kernels.rms_norm)(row, &norm.weight, norm.eps);
            }
            Ok(())
        })
    }

    /// Rows with their rounding to int8, if asked.
    pub(crate) fn activation(&self, rows: Rows, activations: Activations) -> Result<Activation> {
        let rounded = self.rounded(rows.view(), activations)?;
        Ok(Activation { rows, rounded })
    }

    /// Every row rounded, if asked.
    pub(super) fn rounded(
        &self,
        rows: RowView<'_>,
        activations: Activations,
    ) -> Result<Option<RoundedRows>> {
        Ok(match activations {
            Activations::Int8 => Some(RoundedRows::Int8(self.rounded_tokens(rows)?)),
            Activations::Int8Groups => Some(RoundedRows::Groups(self.rounded_groups(rows)?)),
            Activations::F32 => None,
        })
    }

    /// Every row, each group of its columns rounded by a scale of its own.
    fn rounded_groups(&self, rows: RowView<'_>) -> Result<Rows> {
        let mut rounded = Rows::of(&self.pool, rows.values, rows.width)?;
        let mut q = [0; Activations::GROUP];
        for row in rounded.values.chunks_exact_mut(rows.width) {
            for group in row.chunks_mut(Activations::GROUP) {
                let q = &mut q[..group.len()];
                let scale = (self.kernels.quantize)(group, q);
                for (value, q) in group.iter_mut().zip(q) {
                    *value = f32::from(*q) / scale;
                }
            }
        }
        Ok(rounded)
    }

    /// Every row in int8.
    fn rounded_tokens(&self, rows: RowView<'_>) -> Result<Int8Rows> {
        let stride = rows.width.next_multiple_of(Int8Rows::BLOCK);
        let runs = stride / Int8Rows::RUN;
        let mut int8 = Int8Rows {
            q: self
                .pool
                .buffer_uninit(rows.tokens.saturating_mul(stride), Tag::Activation)?,
            stride,
            scales: self.pool.buffer_uninit(rows.tokens, Tag::Activation)?,
            sums: self
                .pool
                .buffer_uninit(rows.tokens.saturating_mul(runs), Tag::Activation)?,
        };
        let chunk = self.chunk(Operation::Elementwise, rows.tokens, 1, rows.values.len());
        let pieces = (int8.q.chunks_mut(chunk * stride))
            .zip(int8.scales.chunks_mut(chunk))
            .zip(int8.sums.chunks_mut(chunk * runs));
        let round = |index: usize, ((q, scales), sums): ((&mut [i8], &mut [f32]), &mut [i32])| {
            let x = rows.values[index * chunk * rows.width..].chunks_exact(rows.width);
            let places = q.chunks_exact_mut(stride).zip(sums.chunks_exact_mut(runs));
            for ((x, scale), (q, sums)) in x.zip(scales).zip(places) {
                let (q_row, padding) = q.split_at_mut(rows.width);
                *scale = (self.kernels.quantize)(x, q_row);
                padding.fill(0);
                for (sum, q) in sums.iter_mut().zip(q.chunks_exact(Int8Rows::RUN)) {
                    *sum = q.iter().map(|q| i32::from(*q)).sum();
                }
            }
        };
        if chunk >= rows.tokens {
            // A token at a time is the rule: nothing to share, and no list of pieces to make.
            pieces.for_each(|piece| round(0, piece));
        } else {
            self.threads.each(pieces, |index, piece| {
                round(index, piece);
                Ok(())
            })?;
        }
        Ok(int8)
    }
}
