//! The exact two-stage head: the likeliest tokens without reading the whole table.
//!
//! Beside a table of floats lies its *shadow*, each row w rounded to int8: ŵ = s·q. A position's x is rounded to
//! x̂ = t·p with integers p of fifteen bits. The screen is σ = ŵ·x̂ = s·t·(q·p), whose integer part is exact. Rows whose
//! logit could be among the highest by σ and the bound below are then computed as the full head computes them.
//!
//! # The bound
//! Let ℓ be the logit as the full head computes it, n the columns, u = 2⁻²⁴ and
//! E ≥ ‖w − ŵ‖, N ≥ ‖ŵ‖, X ≥ ‖x‖, D ≥ ‖x − x̂‖ (Euclidean norms). Then |ℓ − σ| ≤ e with
//!
//! e = E·X + N·D + γ·(E + N)·X + n·2⁻¹⁴⁸, γ = k·u / (1 − k·u), k = ⌈n/16⌉ + 5.
//!
//! Proof. w·x − ŵ·x̂ = (w − ŵ)·x + ŵ·(x − x̂), at most E·X + N·D by Cauchy and Schwarz. The full head rounds each product
//! once, adds it in a lane of at most ⌈n/16⌉ products and then in a tree of four levels: each product meets at most k
//! roundings of relative size u, so that ℓ differs from w·x by at most γ·Σ|wᵢxᵢ| ≤ γ·‖w‖·X, and ‖w‖ ≤ E + N. A product
//! below the normal numbers is off by at most 2⁻¹⁵⁰ besides, a sum is not; (1 + γ) < 2 and n of these give the last
//! term. Nothing overflows: (E + N)·X is checked to be below 10³⁷, and every partial sum is at most (1 + γ) of it. ∎
//!
//! All of this is computed in f64, whose own roundings are fewer than 2¹⁷ of relative size 2⁻⁵³; where they count,
//! [`SLACK`] is added, and results that become f32 are moved outwards by one number. E comes from the row in steps of
//! 1/i, i = fl(127 / largest): with z = fl(w·i) and exact d = z − q, w = (z + ε)/i where |ε| ≤ u·|w·i| + 2⁻¹⁵⁰, and
//! s = (1 + δ)/i, |δ| ≤ u; so w − ŵ = (d + ε − δ·q)/i, of norm at most
//! (‖d‖ + 2u·(1 + 2u)·(‖d‖ + ‖q‖) + √n·2⁻¹⁵⁰)/i, and ‖d‖ and ‖q‖ come from sums in sixteen lanes, of relative error γ,
//! or of absolute 2⁻⁷⁴·√n where squares vanish. A row of hardly any size has ŵ = 0 and E = √n·largest.
//!
//! # The selection
//! Let L be the k-th highest of the σ − e of all rows (of those that may count). At least k rows have logits of at
//! least L, so the k-th highest logit is at least L, and a row with σ + e < L is not one of the k, not even among
//! equals. All others are computed, and the order of likelihood decides among them.

use super::tuning::Operation;
use super::{CpuBackend, Rows, columns};
use crate::head::{Candidate, LmHeadMode, LmHeadStats, Top};
use crate::pool::{Buffer, Movement, Tag};
use crate::simd::{DotPacked, MOST, ROWS, SMALLEST, Steps};
use crate::{Result, WeightMatrix};
use bitnet_quant::Format;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Bytes behind the codes of a shadow's row: s, E and N.
const BOUNDS: usize = 12;
/// Columns up to which the bound is proven: 2⁻²⁴ times the roundings of a sum stays small.
const MOST_COLUMNS: usize = 1 << 16;
/// A table of fewer bytes stays in the caches, and is read from there as fast as its shadow.
const WORTH_SCREENING: usize = 4 << 20;
/// Rows that are rounded, and whose pages are given back, at once.
const ROWS_AT_ONCE: usize = 256;
/// Rows read from a table whose pages were given back, until they are again. Each may have brought 64 kB.
const ROWS_TO_KEEP: usize = 256;
/// Relative room for the roundings of f64 and of f32 results: far more than they take.
const SLACK: f64 = 1.0 / (1u64 << 20) as f64;

/// The rows of a table in int8, each followed by its bounds.
#[derive(Debug)]
pub(super) struct Shadow {
    /// `rows × (columns + BOUNDS)`.
    rows: Buffer<u8>,
    /// The greatest E + N.
    greatest: f64,
    /// Rows of the table read since its pages were given back.
    touched: AtomicUsize,
    /// Positions whose candidates were found, and logits computed for them.
    positions: AtomicU64,
    logits: AtomicU64,
}

impl Shadow {
    /// Bytes that one position reads.
    pub(super) fn bytes(&self) -> usize {
        self.rows.len()
    }

    /// Savings so far, of a table that is screened by this.
    pub(super) fn stats(&self, table: &WeightMatrix) -> LmHeadStats {
        LmHeadStats {
            positions: self.positions.load(Ordering::Relaxed),
            logits: self.logits.load(Ordering::Relaxed),
            rows: table.rows() as u64,
        }
    }

    /// Accounts for rows that were read here and there, and gives their pages back from time to time.
    pub(super) fn touched(&self, table: &WeightMatrix, rows: usize) {
        let before = self.touched.fetch_add(rows, Ordering::Relaxed);
        if before + rows > ROWS_TO_KEEP {
            self.touched.store(0, Ordering::Relaxed);
            table.give_back(0..table.rows());
        }
    }
}

/// s, E and N of a row.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    scale: f32,
    error: f32,
    norm: f32,
}

impl Bounds {
    /// What a logit is at least and at most, from the product of its shadow with `x`.
    fn span(&self, sum: i64, x: &Rounded) -> [f32; 2] {
        let middle = sum as f64 * (f64::from(self.scale) * x.step);
        let error = f64::from(self.error) * x.error + f64::from(self.norm) * x.norm + x.rest;
        [
            ((middle - error) as f32).next_down(),
            ((middle + error) as f32).next_up(),
        ]
    }

    fn new(steps: Steps, columns: usize) -> Self {
        let root = (columns as f64).sqrt();
        if steps.inverse == 0.0 {
            return Self {
                scale: 0.0,
                error: above(f64::from(steps.largest.min(SMALLEST)) * root),
                norm: 0.0,
            };
        }
        // γ is below SLACK·2⁹ for 2¹⁶ columns; a root halves it.
        let relative = 1.0 + gamma(columns);
        let error = (f64::from(steps.error) * relative).sqrt();
        let norm = (f64::from(steps.square) * relative).sqrt();
        let scale = (1.0 / f64::from(steps.inverse)) as f32;
        let ulps = 1.0 / f64::from(1 << 22) * (error + norm) + root / (1u64 << 60) as f64;
        Self {
            scale,
            error: above((error + ulps) / f64::from(steps.inverse)),
            norm: above(norm * f64::from(scale)),
        }
    }

    fn read(bytes: &[u8]) -> Self {
        let at = |i: usize| match bytes.get(4 * i..).and_then(|rest| rest.first_chunk()) {
            Some(bytes) => f32::from_le_bytes(*bytes),
            None => f32::INFINITY,
        };
        Self {
            scale: at(0),
            error: at(1),
            norm: at(2),
        }
    }

    fn write(self, bytes: &mut [u8]) {
        let values = [self.scale, self.error, self.norm];
        for (bytes, value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
            *bytes = value.to_le_bytes();
        }
    }
}

/// A number above x ≥ 0, with room for the roundings on the way to x.
fn above(x: f64) -> f32 {
    ((x * (1.0 + SLACK)) as f32).next_up()
}

/// γ of the module's proof, for `columns` up to [`MOST_COLUMNS`].
fn gamma(columns: usize) -> f64 {
    let roundings = (columns.div_ceil(16) + 5) as f64 / f64::from(1 << 24);
    roundings / (1.0 - roundings)
}

/// A position's x̂, and what turns a row's bounds into e = error·E + norm·N + rest.
pub(super) struct Rounded {
    p: Vec<i16>,
    step: f64,
    error: f64,
    norm: f64,
    rest: f64,
}

impl Rounded {
    /// `None` if x is not finite.
    pub(super) fn new(x: &[f32]) -> Option<Self> {
        let largest = x
            .iter()
            .fold(0.0f64, |most, x| most.max(f64::from(x.abs())));
        if x.iter().any(|x| !x.is_finite()) {
            return None;
        }
        let step = largest / f64::from(MOST);
        let (mut square, mut difference) = (0.0f64, 0.0f64);
        let mut p = Vec::with_capacity(x.len());
        for x in x {
            let x = f64::from(*x);
            let rounded = if step > 0.0 {
                (x / step).round_ties_even() as i16
            } else {
                0
            };
            let rounded = rounded.clamp(-MOST, MOST);
            let left = x - step * f64::from(rounded);
            square += x * x;
            difference += left * left;
            p.push(rounded);
        }
        let (square, difference) = (square.sqrt(), difference.sqrt());
        let (gamma, tiny) = (gamma(x.len()), 1.0 / (1u64 << 40) as f64);
        let room = 1.0 + SLACK;
        Some(Self {
            error: square * (1.0 + gamma) * room,
            // `tiny` of ‖ŵ‖·(‖x‖ + ‖x − x̂‖), which is no less than |σ|, holds the roundings of σ itself.
            norm: (difference + gamma * square + tiny * (square + difference)) * room,
            rest: x.len() as f64 * f64::from(f32::from_bits(2)),
            p,
            step,
        })
    }

    /// Whether nothing overflows.
    pub(super) fn fits(&self, shadow: &Shadow) -> bool {
        shadow.greatest * (self.error + self.norm) < 1e37
    }
}

impl CpuBackend {
    /// The shadow of a table, if `mode` asks for one and it can have one; every number of the table is checked.
    pub(super) fn shadow_of(
        &self,
        weights: &WeightMatrix,
        mode: LmHeadMode,
    ) -> Result<Option<Shadow>> {
        // Floats have more bytes than their shadow. Q4_K and Q6_K have fewer, but decoding them takes one core twice the time that
        // reading a shadow does. A browser has no map whose pages could be given back for the shadow's.
        let slower = matches!(
            weights.format(),
            Format::F32 | Format::F16 | Format::Bf16 | Format::Q4K | Format::Q6K
        ) && cfg!(not(target_arch = "wasm32"));
        let wanted = match mode {
            LmHeadMode::Full => false,
            LmHeadMode::Screened => true,
            LmHeadMode::Auto => slower && weights.data().len() >= WORTH_SCREENING,
        };
        // A factor on every logit could round two of them to one, in another order than before.
        let possible = weights.output_scale() == 1.0 && weights.cols() <= MOST_COLUMNS;
        if !wanted || !possible {
            if mode == LmHeadMode::Screened {
                tracing::warn!(
                    "{}: cannot be screened, so all of it is read",
                    weights.name()
                );
            }
            self.validate(weights)?;
            return Ok(None);
        }
        let (columns, stride) = (weights.cols(), weights.cols() + BOUNDS);
        let len = weights.rows().saturating_mul(stride);
        let mut rows = self.pool.buffer_uninit::<u8>(len, Tag::Weights)?;
        columns::chunks(
            &self.threads,
            &mut rows,
            ROWS_AT_ONCE * stride,
            |index, shadow| {
                let first = index * ROWS_AT_ONCE;
                let range = first..first + shadow.len() / stride;
                weights.validate(range.clone())?;
                let mut decoded = self
                    .pool
                    .buffer_uninit(weights.stored_cols(), Tag::Scratch)?;
                let packed = weights.row_range(range.start, range.len());
                for (packed, row) in packed.zip(shadow.chunks_exact_mut(stride)) {
                    self.unpack(weights, packed, &mut decoded)?;
                    let (q, bounds) = row.split_at_mut(columns);
                    let q = bytemuck::cast_slice_mut(q);
                    let steps = (self.kernels.round_row)(&decoded[..columns], q);
                    Bounds::new(steps, columns).write(bounds);
                }
                weights.give_back(range);
                Ok(())
            },
        )?;
        weights.give_back(0..weights.rows());
        self.moved(Movement::Copy, rows.len());
        let greatest = rows.chunks_exact(stride).fold(0.0f64, |most, row| {
            let bounds = Bounds::read(&row[columns..]);
            most.max(f64::from(bounds.error) + f64::from(bounds.norm))
        });
        Ok(Some(Shadow {
            rows,
            greatest,
            touched: AtomicUsize::new(0),
            positions: AtomicU64::new(0),
            logits: AtomicU64::new(0),
        }))
    }

    /// The candidates of each row of `x`, by estimates first.
    pub(super) fn screen(
        &self,
        x: &Rows,
        weights: &WeightMatrix,
        shadow: &Shadow,
        rounded: &[Rounded],
        tops: &[Top<'_>],
    ) -> Result<Vec<Vec<Candidate>>> {
        let (rows, columns) = (weights.rows(), weights.cols());
        let (tokens, stride) = (rounded.len(), columns + BOUNDS);
        if tokens == 0 {
            return Ok(Vec::new());
        }
        // What a logit is at least and at most, [rows, tokens].
        let mut spans = self
            .pool
            .buffer_uninit::<[f32; 2]>(rows.saturating_mul(tokens), Tag::Scratch)?;
        let work = rows.saturating_mul(columns).saturating_mul(tokens);
        let chunk = self.chunk(Operation::DenseMatmul, rows, ROWS, work);
        self.moved(Movement::ZeroCopy, shadow.rows.len());
        columns::chunks(&self.threads, &mut spans, chunk * tokens, |index, spans| {
            let shadows = shadow.rows[index * chunk * stride..].chunks_exact(stride);
            for (row, spans) in shadows.zip(spans.chunks_exact_mut(tokens)) {
                let (q, bounds) = row.split_at(columns);
                let (q, bounds) = (bytemuck::cast_slice(q), Bounds::read(bounds));
                for (x, span) in rounded.iter().zip(spans) {
                    *span = bounds.span((self.kernels.wide_dot)(q, &x.p), x);
                }
            }
            Ok(())
        })?;
        let values = x.values.chunks_exact(x.width);
        let mut answers = Vec::with_capacity(tokens);
        for ((token, x), top) in values.enumerate().zip(tops) {
            let mut found = select(&mut spans, (token, tokens), top);
            shadow.positions.fetch_add(1, Ordering::Relaxed);
            let computed = found.len() as u64;
            shadow.logits.fetch_add(computed, Ordering::Relaxed);
            let work = found.len() * columns;
            let chunk = self.chunk(Operation::DenseMatmul, found.len(), ROWS, work);
            columns::chunks(&self.threads, &mut found, chunk, |_, found| {
                for found in found.chunks_mut(ROWS) {
                    let last = found.len() - 1;
                    let rows = [0, 1, 2, 3].map(|i: usize| {
                        let id = found[i.min(last)].id;
                        weights.row(id as usize)
                    });
                    let format = weights.format();
                    let logits = (self.kernels.dot_packed)(DotPacked { format, x, rows });
                    for (found, logit) in found.iter_mut().zip(logits) {
                        found.logit = logit;
                    }
                }
                Ok(())
            })?;
            shadow.touched(weights, found.len());
            let (also, mut others): (Vec<_>, Vec<_>) = found
                .into_iter()
                .partition(|found| top.also.binary_search(&found.id).is_ok());
            top.keep(&mut others);
            others.extend(also);
            answers.push(others);
        }
        Ok(answers)
    }
}

/// The rows of one token that must be computed, in their order. `spans` is `[rows, tokens]`; those of `also` are made
/// to count for nothing and to be chosen.
fn select(
    spans: &mut [[f32; 2]],
    (token, tokens): (usize, usize),
    top: &Top<'_>,
) -> Vec<Candidate> {
    for &id in top.also {
        if let Some(span) = spans.get_mut(id as usize * tokens + token) {
            *span = [f32::NEG_INFINITY, f32::INFINITY];
        }
    }
    let spans = || spans[token..].iter().step_by(tokens);
    // The highest of the least, in falling order; the last of them is the limit.
    let count = top.count.clamp(1, spans().len());
    let mut highest = vec![f32::NEG_INFINITY; count];
    let mut limit = f32::NEG_INFINITY;
    for [least, _] in spans() {
        if *least > limit {
            let place = highest.partition_point(|other| other >= least);
            highest[place..].rotate_right(1);
            highest[place] = *least;
            limit = highest[count - 1];
        }
    }
    let rows = spans().zip(0u32..);
    rows.filter(|([_, most], _)| *most >= limit)
        .map(|(_, id)| Candidate { id, logit: 0.0 })
        .collect()
}

#[cfg(test)]
mod tests;
