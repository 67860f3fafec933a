//! Rows of activations times a packed matrix.
//!
//! A weight row's product with a token is Σ over groups of columns of (Σ (c − 1)·q) · d, divided by the token's
//! scale: the inner sum exact in i32, the outer one in f32 from the first group to the last (one group, and d = 1,
//! where the scale belongs to the tensor).

use super::{CpuActivation, CpuBackend, Int8Rows, Rows, shape_error};
use crate::device::Operation;
use crate::{Result, WeightMatrix};
use bitnet_quant::Format;

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
        // Few tokens are multiplied straight from the packed row; more share one unpacking.
        let direct = tokens <= self.crossovers.direct_up_to(weights.format());
        self.by_weight_row(Operation::TernaryMatmul, tokens, weights, |first, out| {
            if direct {
                self.ternary_direct(&job, first, out)
            } else {
                self.ternary_tiled(&job, first, out)
            }
        })
    }

    /// Few tokens: every packed row is read once for each of them.
    fn ternary_direct(&self, job: &TernaryJob<'_>, first: usize, out: &mut [f32]) -> Result<()> {
        let tokens = job.a.scales.len();
        let mut sums = vec![0; job.groups];
        let mut scales = vec![1.0; job.groups];
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
        let mut codes = vec![0i8; TILE * cols];
        let mut scales = vec![1.0; TILE * job.groups];
        let mut sums = vec![0; TILE * job.groups];
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
        if weights.cols() != x.width {
            return Err(shape_error(weights.name(), weights.cols(), x.width));
        }
        let factor = weights.output_scale();
        let format = weights.format();
        let direct = format == Format::F16 && x.tokens <= self.crossovers.direct_up_to(format);
        self.by_weight_row(Operation::DenseMatmul, x.tokens, weights, |first, out| {
            let mut decoded = vec![0.0; weights.stored_cols()];
            let rows = weights.row_range(first, out.len() / x.tokens);
            for (row, out) in rows.zip(out.chunks_exact_mut(x.tokens)) {
                if !direct {
                    format.decode_row(row, weights.scale(), &mut decoded)?;
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
    /// result is `[tokens, rows]`.
    fn by_weight_row(
        &self,
        operation: Operation,
        tokens: usize,
        weights: &WeightMatrix,
        work: impl Fn(usize, &mut [f32]) -> Result<()> + Sync + Send,
    ) -> Result<Rows> {
        let mut product = Rows::zeros(tokens, weights.rows())?;
        if tokens == 0 {
            return Ok(product);
        }
        let macs = product.values.len().saturating_mul(weights.cols());
        let chunk = self.chunk(operation, weights.rows(), TILE, macs);
        self.threads
            .chunks(&mut product.values, chunk * tokens, |index, out| {
                work(index * chunk, out)
            })?;
        if tokens == 1 {
            return Ok(product);
        }
        let mut transposed = Rows::zeros(tokens, weights.rows())?;
        let elements = transposed.values.len();
        let chunk = self.chunk(Operation::Elementwise, tokens, 1, elements);
        self.threads.chunks(
            &mut transposed.values,
            chunk * weights.rows(),
            |index, out| {
                let first = index * chunk;
                for (token, out) in (first..).zip(out.chunks_exact_mut(weights.rows())) {
                    let column = product.values[token..].iter().step_by(tokens);
                    out.iter_mut().zip(column).for_each(|(out, x)| *out = *x);
                }
                Ok(())
            },
        )?;
        Ok(transposed)
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
