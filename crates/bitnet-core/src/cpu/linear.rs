//! Rows of activations times matrices: in int8 where the weights are ternary, else in f32.
//!
//! The matrices that share an activation are multiplied together: one piece of work for all threads, not one for each.

use super::columns::{Piece, Target, split_all};
use super::dense::DenseJob;
use super::layout::RowLayout;
use super::ternary::TernaryJob;
use super::tuning::Operation;
use super::{CpuActivation, CpuBackend, Int8Rows, RowView, Rows, shape_error};
use crate::{Result, WeightMatrix};
use std::ops::Range;

/// Rows times one matrix.
enum Job<'a> {
    Ternary(TernaryJob<'a>),
    Dense(DenseJob<'a>),
}

impl Job<'_> {
    fn operation(&self) -> Operation {
        match self {
            Self::Ternary(_) => Operation::TernaryMatmul,
            Self::Dense(_) => Operation::DenseMatmul,
        }
    }
}

impl CpuBackend {
    /// `[tokens, rows]` for each of `weights`.
    pub(super) fn linear(&self, a: &CpuActivation, weights: &[&WeightMatrix]) -> Result<Vec<Rows>> {
        let mut products = weights
            .iter()
            .map(|weights| Rows::new(&self.pool, a.rows.tokens, weights.rows()))
            .collect::<Result<Vec<_>>>()?;
        let mut out: Vec<_> = products
            .iter_mut()
            .map(|rows| &mut rows.values[..])
            .collect();
        self.linear_into(a.rows.view(), a.int8.as_ref(), weights, &mut out)?;
        Ok(products)
    }

    /// [`linear`](Self::linear) into `[tokens, rows]` floats.
    pub(super) fn linear_into(
        &self,
        x: RowView<'_>,
        int8: Option<&Int8Rows>,
        weights: &[&WeightMatrix],
        products: &mut [&mut [f32]],
    ) -> Result<()> {
        let jobs = weights
            .iter()
            .map(|weights| self.job(x, int8, weights))
            .collect::<Result<Vec<_>>>()?;
        let rows: usize = weights.iter().map(|weights| weights.rows()).sum();
        let macs = rows.saturating_mul(x.values.len());
        let shared = jobs
            .iter()
            .any(|job| self.crossovers.is_parallel(job.operation(), macs));
        let share = if shared {
            self.threads.chunk(rows, 1)
        } else {
            rows
        };
        let targets = (jobs.iter().zip(weights).zip(products)).map(|((job, weights), product)| {
            let chunk = match job {
                Job::Ternary(job) => self.ternary_chunk(job, share),
                Job::Dense(job) => self.dense_chunk(job, share),
            };
            Target {
                product,
                width: weights.rows(),
                chunk,
            }
        });
        split_all(&self.threads, targets, shared, |index, rows, out| {
            self.work(&jobs[index], rows, out)
        })
    }

    fn job<'a>(
        &self,
        x: RowView<'a>,
        int8: Option<&'a Int8Rows>,
        weights: &'a WeightMatrix,
    ) -> Result<Job<'a>> {
        if weights.cols() != x.width {
            return Err(shape_error(weights.name(), weights.cols(), x.width));
        }
        let (format, row_bytes) = (weights.format(), weights.row_bytes());
        let layout = RowLayout::new(format, weights.stored_cols(), row_bytes);
        Ok(match (int8, layout) {
            (Some(int8), Some(layout)) => Job::Ternary(self.ternary_job(int8, weights, layout)?),
            _ => Job::Dense(self.dense_job(x, weights)),
        })
    }

    fn work(&self, job: &Job<'_>, rows: Range<usize>, out: &mut Piece<'_>) -> Result<()> {
        match job {
            Job::Ternary(job) => self.ternary_piece(job, rows, out),
            Job::Dense(job) => self.dense_piece(job, rows, out),
        }
    }
}
