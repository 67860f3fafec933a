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

/// Rows times a matrix, and where the product goes.
pub(super) struct Product<'a> {
    /// They may be missing, but for their number and width, where the matrix multiplies rounded ones.
    pub(super) x: RowView<'a>,
    pub(super) rounded: Option<&'a RoundedRows>,
    pub(super) weights: &'a WeightMatrix,
    /// `[tokens, rows of the matrix]`.
    pub(super) out: &'a mut [f32],
}

/// int8 rows in the orders of the matrices that multiply them.
type PackedRows<'a> = (&'a Int8Rows, PackedActivations);

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
        let products = weights.iter().zip(products.iter_mut());
        let products = products.map(|(weights, out)| Product {
            x,
            rounded,
            weights,
            out,
        });
        self.linear_each(products.collect())
    }

    /// Rows times matrices, which may be others for each.
    pub(super) fn linear_each(&self, products: Vec<Product<'_>>) -> Result<()> {
        let mut packed = Vec::new();
        let places = products
            .iter()
            .map(|product| self.pack(product, &mut packed))
            .collect::<Result<Vec<_>>>()?;
        let jobs = (places.into_iter().zip(&products))
            .map(|(place, product)| match (place, product.rounded) {
                (Some(place), _) => {
                    let (int8, packed): &PackedRows<'_> = &packed[place];
                    let job = self.ternary_job(int8, product.weights, packed);
                    job.map(Job::Ternary)
                }
                (None, Some(RoundedRows::Groups(rows)))
                    if product.weights.format().is_ternary() =>
                {
                    Ok(Job::Dense(self.dense_job(rows.view(), product.weights)))
                }
                (None, _) => Ok(Job::Dense(self.dense_job(product.x, product.weights))),
            })
            .collect::<Result<Vec<_>>>()?;
        let rows: usize = products.iter().map(|product| product.weights.rows()).sum();
        let macs = products.iter().map(|Product { x, weights, .. }| {
            let rows = weights.rows().saturating_mul(x.tokens);
            rows.saturating_mul(x.width)
        });
        let macs = macs.fold(0, usize::saturating_add);
        let shared = jobs
            .iter()
            .any(|job| self.crossovers.is_parallel(job.operation(), macs));
        let share = if shared {
            self.threads.chunk(rows, 1)
        } else {
            rows
        };
        let targets = jobs.iter().zip(products).map(|(job, product)| {
            let chunk = match job {
                Job::Ternary(job) => self.ternary_chunk(job, share),
                Job::Dense(job) => self.dense_chunk(job, share),
            };
            Target {
                product: product.out,
                width: product.weights.rows(),
                chunk,
            }
        });
        split_all(&self.threads, targets, shared, |index, rows, out| {
            self.work(&jobs[index], rows, out)
        })
    }

    /// The place in `packed` of the activations in the order of a ternary matrix; they are added where no matrix before it
    /// has that order. `None` for a matrix that multiplies floats.
    fn pack<'a>(
        &self,
        Product {
            x,
            rounded,
            weights,
            ..
        }: &Product<'a>,
        packed: &mut Vec<PackedRows<'a>>,
    ) -> Result<Option<usize>> {
        if weights.cols() != x.width {
            return Err(shape_error(weights.name(), weights.cols(), x.width));
        }
        let (format, row_bytes) = (weights.format(), weights.row_bytes());
        let layout = RowLayout::new(format, weights.stored_cols(), row_bytes);
        let (Some(RoundedRows::Int8(int8)), Some(layout)) = (*rounded, layout) else {
            return Ok(None);
        };
        let way = self.way(int8, weights);
        let suits =
            |(rows, other): &PackedRows<'_>| std::ptr::eq(*rows, int8) && other.suits(&layout, way);
        let place = packed.iter().position(suits);
        if place.is_none() {
            packed.push((int8, self.pack_activations(int8, &layout, way)?));
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
