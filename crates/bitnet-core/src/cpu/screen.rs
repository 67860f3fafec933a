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
use crate::simd::{DotPacked, MOST, ROWS, SMALLEST, Steps, WIDE_ROWS, WideTile};
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
/// Rows of a shadow that all positions meet before the next: they stay near the core.
const NEAR: usize = 64;
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
    /// About the value of a logit, from the product of its prefilter row with `x`, and how far it may be from that.
    #[inline]
    fn span(&self, sum: i64, x: &Rounded) -> (f64, f64) {
        let middle = sum as f64 * (f64::from(self.scale) * x.step);
        let error = f64::from(self.error) * x.error + f64::from(self.norm) * x.norm + x.rest;
        (middle, error)
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

/// The least and the most that a span holds, in f32.
fn outwards(middle: f64, error: f64) -> [f32; 2] {
    [
        ((middle - error) as f32).next_down(),
        ((middle + error) as f32).next_up(),
    ]
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
        let work = rows.saturating_mul(columns).saturating_mul(tokens);
        let chunk = self.chunk(Operation::DenseMatmul, rows, NEAR, work);
        self.moved(Movement::ZeroCopy, shadow.rows.len());
        let pieces = rows.div_ceil(chunk);
        let mut likeliest: Vec<_> = (0..pieces)
            .flat_map(|_| tops.iter().map(Likeliest::new))
            .collect();
        columns::chunks(&self.threads, &mut likeliest, tokens, |index, likeliest| {
            let mut sums = self.pool.buffer_uninit(NEAR * tokens, Tag::Scratch)?;
            let range = index * chunk..((index + 1) * chunk).min(rows);
            for first in range.clone().step_by(NEAR) {
                let near = &shadow.rows[first * stride..(first + NEAR).min(range.end) * stride];
                self.shadow_sums(near, columns, rounded, &mut sums);
                let near = near.chunks_exact(stride).zip(sums.chunks_exact(tokens));
                for (id, (row, sums)) in (first as u32..).zip(near) {
                    let bounds = Bounds::read(&row[columns..]);
                    let tokens = rounded.iter().zip(&mut *likeliest);
                    for ((x, likeliest), sum) in tokens.zip(sums) {
                        likeliest.see(id, &bounds, *sum, x);
                    }
                }
            }
            Ok(())
        })?;
        let (mut found, mut ends) = (Vec::new(), Vec::with_capacity(tokens));
        for (token, top) in tops.iter().enumerate() {
            let pieces = likeliest[token..].iter().step_by(tokens);
            let also = top.also.iter().filter(|id| (**id as usize) < rows);
            let ids = together(pieces, top.count).chain(also.copied());
            found.extend(ids.map(|id| (token, Candidate { id, logit: 0.0 })));
            ends.push(found.len());
        }
        self.full_logits(x, weights, &mut found)?;
        shadow.positions.fetch_add(tokens as u64, Ordering::Relaxed);
        shadow
            .logits
            .fetch_add(found.len() as u64, Ordering::Relaxed);
        if !weights.copies_rows() {
            shadow.touched(weights, found.len());
        }
        let mut first = 0;
        let answers = ends.into_iter().zip(tops).map(|(end, top)| {
            let found = found[first..end].iter().map(|(_, found)| *found);
            first = end;
            let (also, mut others): (Vec<_>, Vec<_>) =
                found.partition(|found| top.also.binary_search(&found.id).is_ok());
            top.keep(&mut others);
            others.extend(also);
            others
        });
        Ok(answers.collect())
    }

    /// Σ q·p of some rows of a shadow with every position: `[rows, positions]`. A few positions stay near the core while all
    /// of the rows meet them.
    fn shadow_sums(&self, rows: &[u8], columns: usize, rounded: &[Rounded], sums: &mut [i64]) {
        let stride = columns + BOUNDS;
        let count = rows.len() / stride;
        let row = |index: usize| bytemuck::cast_slice(&rows[index * stride..][..columns]);
        for token in (0..rounded.len()).step_by(ROWS) {
            let last = rounded.len() - 1;
            let x = [0, 1, 2, 3].map(|i| &rounded[(token + i).min(last)].p[..]);
            let tokens = (rounded.len() - token).min(ROWS);
            for index in (0..count).step_by(WIDE_ROWS) {
                // Past the last row, that row stands in.
                let q = [row(index), row((index + 1).min(count - 1))];
                let count = tokens;
                let found = (self.kernels.wide_tile)(WideTile { q, x, count });
                let places = sums[index * rounded.len()..].chunks_mut(rounded.len());
                for (sums, found) in places.zip(found) {
                    sums[token..][..tokens].copy_from_slice(&found[..tokens]);
                }
            }
        }
    }

    /// The logits of candidates, each beside the row of `x` that it belongs to, as the full head computes them.
    fn full_logits(
        &self,
        x: &Rows,
        weights: &WeightMatrix,
        found: &mut [(usize, Candidate)],
    ) -> Result<()> {
        let work = found.len() * weights.cols();
        let chunk = self.chunk(Operation::DenseMatmul, found.len(), ROWS, work);
        let (format, row_bytes) = (weights.format(), weights.row_bytes());
        columns::chunks(&self.threads, found, chunk, |_, found| {
            // The table's pages were given back.
            let mut copies = self.pool.buffer_uninit(ROWS * row_bytes, Tag::Scratch)?;
            for found in found.chunk_by_mut(|(one, _), (other, _)| one == other) {
                let x = x.range(found[0].0..found[0].0 + 1);
                for found in found.chunks_mut(ROWS) {
                    let last = found.len() - 1;
                    let mut rows = [&[][..]; ROWS];
                    let places = copies.chunks_exact_mut(row_bytes).enumerate();
                    for ((i, place), row) in places.zip(&mut rows) {
                        let (_, found) = found[i.min(last)];
                        *row = weights.row_at(found.id as usize, place);
                    }
                    let logits = (self.kernels.dot_packed)(DotPacked { format, x, rows });
                    for ((_, found), logit) in found.iter_mut().zip(logits) {
                        found.logit = logit;
                    }
                }
            }
            Ok(())
        })
    }
}

/// The rows of a part of the table that may be among a position's likeliest.
struct Likeliest<'a> {
    top: &'a Top<'a>,
    /// The highest of what logits are at least, in falling order: as many as are wanted, or less of fewer rows.
    highest: Vec<f32>,
    /// A row whose logit is at most less than this is none of them.
    limit: f64,
    /// Rows in their order, and what their logits are at most.
    found: Vec<(u32, f32)>,
}

impl<'a> Likeliest<'a> {
    fn new(top: &'a Top<'a>) -> Self {
        Self {
            top,
            highest: Vec::new(),
            limit: f64::NEG_INFINITY,
            found: Vec::new(),
        }
    }

    /// Looks at the next row, whose product with x̂ is `sum`. Those that are wanted anyhow do not count.
    #[inline]
    fn see(&mut self, id: u32, bounds: &Bounds, sum: i64, x: &Rounded) {
        let (middle, error) = bounds.span(sum, x);
        if middle + error < self.limit || self.top.also.binary_search(&id).is_ok() {
            return;
        }
        let [least, most] = outwards(middle, error);
        self.found.push((id, most));
        let count = self.top.count.max(1);
        if self.highest.len() == count {
            if self.highest.last().is_some_and(|last| *last >= least) {
                return;
            }
            self.highest.pop();
        }
        let place = self.highest.partition_point(|other| *other >= least);
        self.highest.insert(place, least);
        if let Some(last) = self.highest.get(count - 1) {
            // What becomes f32 moves up by at most two numbers.
            self.limit = f64::from(last.next_down().next_down());
        }
    }
}

/// The rows that are among the likeliest `count` of all parts, or may be.
fn together<'a>(
    parts: impl Iterator<Item = &'a Likeliest<'a>> + Clone,
    count: usize,
) -> impl Iterator<Item = u32> {
    let mut highest: Vec<f32> = parts
        .clone()
        .flat_map(|part| part.highest.iter().copied())
        .collect();
    highest.sort_unstable_by(|a, b| b.total_cmp(a));
    let limit = highest.get(count.max(1) - 1).copied();
    let limit = limit.unwrap_or(f32::NEG_INFINITY);
    let found = parts.flat_map(|part| part.found.iter());
    found
        .filter(move |(_, most)| *most >= limit)
        .map(|(id, _)| *id)
}

#[cfg(test)]
mod tests;
