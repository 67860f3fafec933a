//! Rows of activations times a packed matrix.
//!
//! A weight row's product with a token is Σ over groups of columns of (Σ (c − 1)·q) · d, divided by the token's
//! scale: the inner sum exact in i32, the outer one in f32 from the first group to the last (one group, and d = 1,
//! where the scale belongs to the tensor).

use super::{CpuActivation, CpuBackend, Int8Rows, Rows, shape_error};
use crate::{Result, Tag, WeightMatrix};
use bitnet_quant::Format;

/// Up to this many tokens are multiplied straight from the packed row; more share one unpacking.
const DIRECT_TOKENS: usize = 3;
/// Weight rows that share a pass over the activations.
const TILE: usize = 4;

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
        let mut product = Rows::new(&self.pool, tokens, weights.rows())?;
        self.by_weight_row(tokens, weights, &mut product.values, |first, out| {
            if tokens <= DIRECT_TOKENS {
                self.ternary_direct(&job, first, out)
            } else {
                self.ternary_tiled(&job, first, out)
            }
        })?;
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
                *out = job.finish(token, sums.iter().copied(), &scales);
            }
        }
        Ok(())
    }

    /// Many tokens: [`TILE`] rows are unpacked to bytes once, then meet every token.
    fn ternary_tiled(&self, job: &TernaryJob<'_>, first: usize, out: &mut [f32]) -> Result<()> {
        let tokens = job.a.scales.len();
        let cols = job.weights.stored_cols();
        let mut codes = self.pool.buffer_uninit::<i8>(TILE * cols, Tag::Scratch)?;
        let mut scales = self.pool.buffer_uninit(TILE * job.groups, Tag::Scratch)?;
        let mut sums = self.pool.buffer_uninit(TILE * job.groups, Tag::Scratch)?;
        scales.fill(1.0);
        for (tile, out) in out.chunks_mut(TILE * tokens).enumerate() {
            let count = out.len() / tokens;
            let rows = job.weights.row_range(first + tile * TILE, count);
            let unpacked = codes
                .chunks_exact_mut(cols)
                .zip(scales.chunks_exact_mut(job.groups));
            for (row, (codes, scales)) in rows.zip(unpacked) {
                job.weights.format().decode_codes(row, codes)?;
                codes.iter_mut().for_each(|t| *t += 1);
                job.row_scales(row, scales)?;
            }
            let codes: &[u8] = bytemuck::cast_slice(&codes);
            // A tile at the end of the matrix repeats its first row in place of the missing ones.
            let rows = [0, 1, 2, 3].map(|row| {
                let row = if row < count { row } else { 0 };
                &codes[row * cols..][..cols]
            });
            for token in 0..tokens {
                (self.kernels.code_sums)(rows, job.q(token), cols / job.groups, &mut sums);
                for row in 0..count {
                    let sums = sums.iter().skip(row).step_by(TILE).copied();
                    let scales = &scales[row * job.groups..][..job.groups];
                    out[row * tokens + token] = job.finish(token, sums, scales);
                }
            }
        }
        Ok(())
    }

    /// f32 rows times any matrix, each weight decoded to f32.
    pub(super) fn dense(&self, x: &Rows, weights: &WeightMatrix) -> Result<Rows> {
        let mut product = Rows::new(&self.pool, x.tokens, weights.rows())?;
        self.dense_into(x, weights, &mut product.values)?;
        Ok(product)
    }

    /// [`dense`](Self::dense) into `[tokens, rows]` floats.
    pub(super) fn dense_into(
        &self,
        x: &Rows,
        weights: &WeightMatrix,
        product: &mut [f32],
    ) -> Result<()> {
        if weights.cols() != x.width {
            return Err(shape_error(weights.name(), weights.cols(), x.width));
        }
        let factor = weights.output_scale();
        self.by_weight_row(x.tokens, weights, product, |first, out| {
            let mut decoded = self
                .pool
                .buffer_uninit(weights.stored_cols(), Tag::Scratch)?;
            let rows = weights.row_range(first, out.len() / x.tokens);
            for (row, out) in rows.zip(out.chunks_exact_mut(x.tokens)) {
                let direct = weights.format() == Format::F16 && x.tokens <= DIRECT_TOKENS;
                if !direct {
                    weights
                        .format()
                        .decode_row(row, weights.scale(), &mut decoded)?;
                }
                for (out, x) in out.iter_mut().zip(x.values.chunks_exact(x.width)) {
                    let sum = if direct {
                        (self.kernels.dot_f16)(x, row)
                    } else {
                        (self.kernels.dot)(x, &decoded[..x.len()])
                    };
                    *out = sum * factor;
                }
            }
            Ok(())
        })
    }

    /// Splits the rows of `weights` over the threads. `work` gets a first row and fills `[rows, tokens]`; the
    /// product is `[tokens, rows]`.
    fn by_weight_row(
        &self,
        tokens: usize,
        weights: &WeightMatrix,
        product: &mut [f32],
        work: impl Fn(usize, &mut [f32]) -> Result<()> + Sync + Send,
    ) -> Result<()> {
        if tokens == 0 {
            return Ok(());
        }
        let chunk = self.threads.chunk(weights.rows(), TILE);
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
        self.threads.chunks(product, weights.rows(), |token, out| {
            let column = columns[token..].iter().step_by(tokens);
            out.iter_mut().zip(column).for_each(|(out, x)| *out = *x);
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
    /// Runs of [`Int8Rows::RUN`] columns in a group; the last group may be shorter.
    runs: usize,
    factor: f32,
}

impl<'a> TernaryJob<'a> {
    fn new(a: &'a Int8Rows, weights: &'a WeightMatrix) -> Self {
        let cols = weights.stored_cols();
        let groups = match weights.format() {
            Format::I2s(_) => 1,
            format => cols / format.block_len(),
        };
        let runs = (cols / groups).div_ceil(Int8Rows::RUN);
        Self {
            a,
            weights,
            groups,
            runs,
            factor: weights.scale() * weights.output_scale(),
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
    fn finish(&self, token: usize, sums: impl Iterator<Item = i32>, scales: &[f32]) -> f32 {
        let per_token = self.a.stride / Int8Rows::RUN;
        let q_sums = self.a.sums[token * per_token..][..per_token].chunks(self.runs);
        let mut total = 0.0;
        for ((sum, q_sums), scale) in sums.zip(q_sums).zip(scales) {
            let q_sum: i32 = q_sums.iter().sum();
            total += (sum - q_sum) as f32 * scale;
        }
        total / self.a.scales[token] * self.factor
    }
}
