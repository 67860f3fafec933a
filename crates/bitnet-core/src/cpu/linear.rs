//! Rows of activations times matrices: in int8 or otherwise rounded where the weights are ternary, else in f32.
//!
//! The matrices that share an activation are multiplied together: one piece of work for all threads, not one for each.

use super::columns::{Piece, Target, split_all};
use super::dense::DenseJob;
use super::layout::RowLayout;
use super::rows::RoundedRows;
use super::ternary::{PackedActivations, TernaryJob};
use super::tuning::Operation;
use super::{Activation, CpuBackend, Int8Rows, RowView, Rows, shape_error};
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
    pub(crate) fn linear<const N: usize>(
        &self,
        a: &Activation,
        weights: [&WeightMatrix; N],
    ) -> Result<[Rows; N]> {
        self.linear_all(a, &weights)?
            .try_into()
            .map_err(|products: Vec<Rows>| shape_error("products", N, products.len()))
    }

    /// [`linear`](Self::linear) of any number of matrices.
    pub(super) fn linear_all(
        &self,
        a: &Activation,
        weights: &[&WeightMatrix],
    ) -> Result<Vec<Rows>> {
        let mut products = Vec::with_capacity(weights.len());
        for weights in weights {
            products.push(Rows::new(&self.pool, a.rows.tokens, weights.rows())?);
        }
        let mut out: Vec<_> = products
            .iter_mut()
            .map(|rows| &mut rows.values[..])
            .collect();
        self.linear_into(a.rows.view(), a.rounded.as_ref(), weights, &mut out)?;
        Ok(products)
    }

    /// [`linear`](Self::linear) into `[tokens, rows]` floats.
    pub(super) fn linear_into(
        &self,
        x: RowView<'_>,
        rounded: Option<&RoundedRows>,
        weights: &[&WeightMatrix],
        products: &mut [&mut [f32]],
    ) -> Result<()> {
        let mut packed = Vec::new();
        let int8 = match rounded {
            Some(RoundedRows::Int8(int8)) => Some(int8),
            _ => None,
        };
        let places = weights
            .iter()
            .map(|weights| self.pack(x.width, int8, weights, &mut packed))
            .collect::<Result<Vec<_>>>()?;
        let jobs = (places.into_iter().zip(weights))
            .map(|(place, weights)| match (place, rounded) {
                (Some(place), Some(RoundedRows::Int8(int8))) => self
                    .ternary_job(int8, weights, &packed[place])
                    .map(Job::Ternary),
                (_, Some(RoundedRows::Groups(rows))) if weights.format().is_ternary() => {
                    Ok(Job::Dense(self.dense_job(rows.view(), weights)))
                }
                _ => Ok(Job::Dense(self.dense_job(x, weights))),
            })
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

    /// The place in `packed` of the activations in the order of a ternary matrix; they are added where no matrix before it
    /// has that order. `None` for a matrix that multiplies floats.
    fn pack(
        &self,
        width: usize,
        int8: Option<&Int8Rows>,
        weights: &WeightMatrix,
        packed: &mut Vec<PackedActivations>,
    ) -> Result<Option<usize>> {
        if weights.cols() != width {
            return Err(shape_error(weights.name(), weights.cols(), width));
        }
        let (format, row_bytes) = (weights.format(), weights.row_bytes());
        let layout = RowLayout::new(format, weights.stored_cols(), row_bytes);
        let (Some(int8), Some(layout)) = (int8, layout) else {
            return Ok(None);
        };
        let way = self.way(int8, weights);
        let place = packed.iter().position(|other| other.suits(&layout, way));
        if place.is_none() {
            packed.push(self.pack_activations(int8, &layout, way)?);
        }
        Ok(Some(place.unwrap_or(packed.len() - 1)))
    }

    fn work(&self, job: &Job<'_>, rows: Range<usize>, out: &mut Piece<'_>) -> Result<()> {
        match job {
            Job::Ternary(job) => self.ternary_piece(job, rows, out),
            Job::Dense(job) => self.dense_piece(job, rows, out),
        }
    }
}
