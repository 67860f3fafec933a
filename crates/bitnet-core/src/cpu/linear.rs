//! Rows of activations times a packed matrix.
//!
//! A weight row's product with a token is Σ over groups of columns of (Σ (c − 1)·q) · d, divided by the token's
//! scale: the inner sum exact in i32, the outer one in f32 from the first group to the last (one group, and d = 1,
//! where the scale belongs to the tensor).

use super::kernels::TILE;
use super::{CpuActivation, CpuBackend, Int8Rows, Rows, shape_error};
use crate::device::Operation;
use crate::zero_copy::Movement;
use crate::{Result, Tag, WeightMatrix};
use bitnet_quant::Format;

/// Weight rows that are unpacked together: their codes, and the activations of one tile, stay near the core.
const PANEL: usize = 4 * TILE;
/// Tokens whose products are transposed together: a cache line of them.
const STRIP: usize = 16;

impl CpuBackend {
    /// `[tokens, rows]`: in int8 where the weights are ternary and activations are quantized, else in f32.
    pub(super) fn linear(&self, a: &CpuActivation, weights: &WeightMatrix) -> Result<Rows> {
        if weights.cols() != a.rows.width {
            return Err(shape_error(weights.name(), weights.cols(), a.rows.width));
        }
        match &a.int8 {
            Some(int8) if weights.format().is_ternary() => self.ternary(int8, weights),
            _ => self.dense(&a.rows, weights),
        }
    }

    fn ternary(&self, a: &Int8Rows, weights: &WeightMatrix) -> Result<Rows> {
        let tokens = a.scales.len();
        let job = TernaryJob::new(a, weights);
        // Few tokens are multiplied straight from the packed row; more share one unpacking.
        let direct = tokens <= self.crossovers.direct_up_to(weights.format());
        if direct {
            self.moved(Movement::ZeroCopy, weights.data().len());
        } else {
            self.moved(Movement::Copy, weights.rows() * weights.stored_cols());
        }
        let work = |first: usize, out: &mut [f32]| {
            if direct {
                self.ternary_direct(&job, first, out)
            } else {
                self.ternary_tiled(&job, first, out)
            }
        };
        let mut product = Rows::new(&self.pool, tokens, weights.rows())?;
        let operation = Operation::TernaryMatmul;
        self.by_weight_row(operation, tokens, weights, &mut product.values, work)?;
        Ok(product)
    }

    /// Few tokens: every packed row is read once for each of them.
    fn ternary_direct(&self, job: &TernaryJob<'_>, first: usize, out: &mut [f32]) -> Result<()> {
        let tokens = job.a.scales.len();
        let mut sums = self.pool.buffer_uninit(job.groups, Tag::Scratch)?;
        let mut scales = self.pool.buffer_uninit(job.groups, Tag::Scratch)?;
        scales.fill(1.0);
        let rows = job.weights.row_range(first, out.len() / tokens);
        for (row, out) in rows.zip(out.chunks_exact_mut(tokens)) {
            job.row_scales(row, &mut scales)?;
            for (token, out) in out.iter_mut().enumerate() {
                let format = job.weights.format();
                (self.kernels.packed_sums)(format, row, job.q(token), &mut sums)?;
                *out = job.finish(token, &sums, &scales);
            }
        }
        Ok(())
    }

    /// Many tokens: a panel of rows is unpacked to bytes once, then meets [`TILE`] tokens at a time.
    fn ternary_tiled(&self, job: &TernaryJob<'_>, first: usize, out: &mut [f32]) -> Result<()> {
        let tokens = job.a.scales.len();
        let cols = job.weights.stored_cols();
        let mut codes = self.pool.buffer::<i8>(PANEL * cols, Tag::Scratch)?;
        let mut scales = self.pool.buffer_uninit(PANEL * job.groups, Tag::Scratch)?;
        scales.fill(1.0);
        let mut sums = self.pool.buffer(TILE * TILE * job.groups, Tag::Scratch)?;
        for (panel, out) in out.chunks_mut(PANEL * tokens).enumerate() {
            let rows = job
                .weights
                .row_range(first + panel * PANEL, out.len() / tokens);
            let unpacked = codes
                .chunks_exact_mut(cols)
                .zip(scales.chunks_exact_mut(job.groups));
            for (row, (codes, scales)) in rows.zip(unpacked) {
                job.weights.format().decode_codes(row, codes)?;
                codes.iter_mut().for_each(|t| *t += 1);
                job.row_scales(row, scales)?;
            }
            for start in (0..tokens).step_by(TILE) {
                let tile = job.tile(start);
                let panel = codes.chunks_exact(TILE * cols);
                let panel = panel.zip(scales.chunks_exact(TILE * job.groups));
                for ((codes, scales), out) in panel.zip(out.chunks_mut(TILE * tokens)) {
                    let codes: &[u8] = bytemuck::cast_slice(codes);
                    let rows = [0, 1, 2, 3].map(|row| &codes[row * cols..][..cols]);
                    (self.kernels.tile_sums)(rows, tile.q, cols / job.groups, &mut sums);
                    let products = job.finish_tile(&tile, &sums, scales);
                    for (out, products) in out.chunks_mut(tokens).zip(products.chunks(TILE)) {
                        let out = out[start..].iter_mut().zip(products);
                        out.for_each(|(out, product)| *out = *product);
                    }
                }
            }
        }
        Ok(())
    }

    /// Splits the rows of `weights` over the threads. `work` gets a first row and fills `[rows, tokens]`; the
    /// product is `[tokens, rows]`.
    pub(super) fn by_weight_row(
        &self,
        operation: Operation,
        tokens: usize,
        weights: &WeightMatrix,
        product: &mut [f32],
        work: impl Fn(usize, &mut [f32]) -> Result<()> + Sync + Send,
    ) -> Result<()> {
        if tokens == 0 {
            return Ok(());
        }
        let macs = product.len().saturating_mul(weights.cols());
        let chunk = self.chunk(operation, weights.rows(), TILE, macs);
        let fill = |columns: &mut [f32]| {
            self.threads.chunks(columns, chunk * tokens, |index, out| {
                work(index * chunk, out)
            })
        };
        if tokens == 1 {
            return fill(product);
        }
        let mut columns = self.pool.buffer_uninit(product.len(), Tag::Scratch)?;
        fill(&mut columns)?;
        let strip = STRIP * weights.rows();
        self.threads.chunks(product, strip, |index, out| {
            for (row, product) in columns.chunks_exact(tokens).enumerate() {
                let column = out[row..].iter_mut().step_by(weights.rows());
                let product = &product[index * STRIP..];
                column
                    .zip(product)
                    .for_each(|(out, product)| *out = *product);
            }
            Ok(())
        })
    }
}

/// One product of quantized rows and a ternary matrix.
struct TernaryJob<'a> {
    a: &'a Int8Rows,
    weights: &'a WeightMatrix,
    /// Groups of columns with a scale of their own.
    groups: usize,
    /// Σ q over each group: `tokens × groups`.
    q_sums: Vec<i32>,
    factor: f32,
}

impl<'a> TernaryJob<'a> {
    fn new(a: &'a Int8Rows, weights: &'a WeightMatrix) -> Self {
        let cols = weights.stored_cols();
        let groups = match weights.format() {
            Format::I2s(_) => 1,
            format => cols / format.block_len(),
        };
        // The last run of a row may reach into the padding, which adds nothing.
        let runs = (cols / groups).div_ceil(Int8Rows::RUN);
        let tokens = a.sums.chunks_exact(a.stride / Int8Rows::RUN);
        let q_sums = tokens
            .flat_map(|sums| sums.chunks(runs).take(groups))
            .map(|runs| runs.iter().sum())
            .collect();
        let factor = weights.scale() * weights.output_scale();
        Self {
            a,
            weights,
            groups,
            q_sums,
            factor,
        }
    }

    /// The activations of `token`, as many as a stored row has columns.
    fn q(&self, token: usize) -> &'a [i8] {
        &self.a.q[token * self.a.stride..][..self.weights.stored_cols()]
    }

    fn row_scales(&self, row: &[u8], scales: &mut [f32]) -> Result<()> {
        match self.weights.format() {
            Format::I2s(_) => Ok(()),
            format => Ok(format.block_scales(row, scales)?),
        }
    }

    /// From Σ c·q of each group to the product.
    fn finish(&self, token: usize, sums: &[i32], scales: &[f32]) -> f32 {
        let q_sums = &self.q_sums[token * self.groups..][..self.groups];
        let mut total = 0.0;
        for ((sum, q_sum), scale) in sums.iter().zip(q_sums).zip(scales) {
            total += (sum - q_sum) as f32 * scale;
        }
        total / self.a.scales[token] * self.factor
    }

    /// The activations of [`TILE`] tokens from `start`. Past the last token the first of them stands in.
    fn tile(&self, start: usize) -> TokenTile<'a> {
        let tokens = self.a.scales.len();
        let tokens = [0, 1, 2, 3].map(|i| if start + i < tokens { start + i } else { start });
        TokenTile {
            tokens,
            q: tokens.map(|token| self.q(token)),
        }
    }

    /// [`finish`](Self::finish) for a tile: `sums` as the kernel lays them out, `scales` of four rows; the result is
    /// `[row, token]`.
    fn finish_tile(
        &self,
        tile: &TokenTile<'_>,
        sums: &[i32],
        scales: &[f32],
    ) -> [f32; TILE * TILE] {
        let mut totals = [0.0; TILE * TILE];
        for (group, sums) in sums.as_chunks::<{ TILE * TILE }>().0.iter().enumerate() {
            let q_sums = tile
                .tokens
                .map(|token| self.q_sums[token * self.groups + group]);
            let scales = [0, 1, 2, 3].map(|row| scales[row * self.groups + group]);
            for i in 0..TILE * TILE {
                totals[i] += (sums[i] - q_sums[i % TILE]) as f32 * scales[i / TILE];
            }
        }
        let token_scales = tile.tokens.map(|token| self.a.scales[token]);
        for (i, total) in totals.iter_mut().enumerate() {
            *total = *total / token_scales[i % TILE] * self.factor;
        }
        totals
    }
}

/// Some tokens and their activations.
struct TokenTile<'a> {
    tokens: [usize; TILE],
    q: [&'a [i8]; TILE],
}
