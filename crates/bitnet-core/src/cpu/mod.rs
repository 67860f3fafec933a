//! The backend that every machine has.
//!
//! Ternary × int8 is exact integer arithmetic; float kernels follow one order of operations on every
//! instruction set. Logits are therefore the same bits for every [`Isa`], thread count and batching.

mod attention;
mod attention_weights;
mod cache;
mod columns;
mod dense;
mod f16;
mod fork;
mod gemm;
mod gemv;
mod integer;
mod isa;
mod kernels;
mod layout;
mod linear;
mod product;
mod repack;
mod rope;
mod rows;
mod screen;
mod ternary;
mod threads;
pub mod tuning;

pub use cache::CpuCache;
pub use isa::{ISA_VARIABLE, Isa};
pub use rope::Rotations;
pub use rows::{CpuActivation, Rows};
pub use screen::CpuTable;

use crate::head::{Candidate, HeadMode, HeadStats, Top};
use crate::pool::{HybridMemoryPool, Tag};
use crate::zero_copy::Movement;
use crate::{
    Activations, Backend, Error, Gate, Heads, Input, Norm, Pending, Result, Rope, WeightMatrix,
};
use kernels::Kernels;
use rows::{Int8Rows, RowView};
use std::sync::OnceLock;
use threads::Threads;
use tuning::{Crossovers, Operation, Tuning};

fn shape_error(what: impl Into<String>, expected: usize, found: usize) -> Error {
    Error::Shape {
        what: what.into(),
        expected: format!("width {expected}"),
        found: format!("width {found}"),
    }
}

/// Bytes of weights in a piece that is read as a few streams side by side. On one machine streams of longer pieces ran into
/// each other's way and lost up to a fifth of what memory gives, on another they gained nothing.
const STREAMED: usize = 2 << 20;

/// Rows in a piece, a multiple of `grain`, if other work would be shared out `share` rows of `row_bytes` at a time: twice as
/// many, in pieces of at most about [`STREAMED`] bytes, since every piece begins streams anew, which takes as long as reading
/// some 50 kB.
fn streamed(share: usize, row_bytes: usize, grain: usize) -> usize {
    let chunk = share.saturating_mul(2);
    let pieces = chunk.saturating_mul(row_bytes).div_ceil(STREAMED).max(1);
    chunk.div_ceil(pieces).next_multiple_of(grain).max(grain)
}

/// The CPU.
pub struct CpuBackend {
    isa: Isa,
    kernels: &'static Kernels,
    threads: Threads,
    crossovers: Crossovers,
    repacks_base3: bool,
    pool: HybridMemoryPool,
}

impl CpuBackend {
    /// A backend on `threads` threads (all cores if `None`) with the kernels of `isa` (`None`: as `BITNET_ISA`
    /// says, else the ones that the machine's [`Tuning`] prefers), and a memory pool of its own.
    ///
    /// # Errors
    /// If the instruction set is missing or the threads cannot be started.
    pub fn new(threads: Option<usize>, isa: Option<Isa>) -> Result<Self> {
        Self::with_pool(threads, isa, HybridMemoryPool::default())
    }

    /// A backend whose activations, scratch and caches come from `pool`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_pool(
        threads: Option<usize>,
        isa: Option<Isa>,
        pool: HybridMemoryPool,
    ) -> Result<Self> {
        let isa = match isa {
            Some(isa) => isa.name().parse()?,
            None => Isa::from_environment()?,
        };
        Self::assemble((isa, isa.kernels()), threads, pool)
    }

    /// A backend on `threads` threads with the fastest kernels there are, whatever `BITNET_ISA` says: for hosts without an
    /// environment. A WebAssembly program that makes no other contains no other kernels.
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn fastest(threads: Option<usize>) -> Result<Self> {
        Self::assemble(Isa::fastest(), threads, HybridMemoryPool::default())
    }

    fn assemble(
        (isa, kernels): (Isa, &'static Kernels),
        threads: Option<usize>,
        pool: HybridMemoryPool,
    ) -> Result<Self> {
        Ok(Self {
            isa,
            kernels,
            threads: Threads::new(threads)?,
            // Without a file system nothing was measured, and nothing that reads measurements is needed.
            crossovers: if cfg!(target_arch = "wasm32") {
                Crossovers::built_in(isa)
            } else {
                Tuning::current().crossovers(isa)
            },
            repacks_base3: repack::REPACKS_BASE3,
            pool,
        })
    }

    /// The same backend on the caller's thread and those of `helpers`, for hosts where threads are not started as
    /// [`new`](Self::new) does it. Results stay the same bits.
    #[must_use]
    pub fn with_helpers(mut self, helpers: rayon::ThreadPool) -> Self {
        self.threads = Threads::with_helpers(helpers);
        self
    }

    /// The same backend, changing its ways at other sizes. Results stay the same bits.
    #[must_use]
    pub fn with_crossovers(mut self, crossovers: Crossovers) -> Self {
        self.set_crossovers(crossovers);
        self
    }

    /// The same backend, multiplying base-3 weights from the bytes of the file, or (`repacked`) from 2-bit codes made at
    /// load: a fifth more memory, and faster on x86-64, where this is the default. Results stay the same bits.
    #[must_use]
    pub fn with_base3(mut self, repacked: bool) -> Self {
        self.repacks_base3 = repacked;
        self
    }

    pub(crate) fn set_crossovers(&mut self, crossovers: Crossovers) {
        self.crossovers = crossovers;
    }

    /// How many of `items` make a piece, a multiple of `grain`, when `work` of `operation` is to be done on them: all,
    /// if the work is too small to be shared.
    fn chunk(&self, operation: Operation, items: usize, grain: usize, work: usize) -> usize {
        if self.crossovers.is_parallel(operation, work) {
            self.threads.chunk(items, grain)
        } else {
            items.max(1)
        }
    }

    /// The kernels in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The threads in use.
    pub fn threads(&self) -> usize {
        self.threads.count()
    }

    /// Accounts for `bytes` of data handed to their next user.
    fn moved(&self, movement: Movement, bytes: usize) {
        self.pool.zero_copy().record(movement, bytes);
    }

    /// Rows `tokens` of `table`: `[tokens, width]`.
    ///
    /// # Errors
    /// If a token is past the table's last row, or memory is short.
    pub fn rows(&self, table: &CpuTable, tokens: &[u32]) -> Result<Rows> {
        table.touched(tokens.len());
        let table = &table.weights;
        let mut rows = Rows::new(&self.pool, tokens.len(), table.cols())?;
        let mut stored = self.pool.buffer_uninit(table.stored_cols(), Tag::Scratch)?;
        for (out, &token) in rows.values.chunks_exact_mut(table.cols()).zip(tokens) {
            if token as usize >= table.rows() {
                return Err(Error::Value {
                    what: "token".into(),
                    expected: format!("below the vocabulary's {}", table.rows()),
                    found: token.to_string(),
                });
            }
            let row = table.row(token as usize);
            table.format().decode_row(row, table.scale(), &mut stored)?;
            out.copy_from_slice(&stored[..table.cols()]);
        }
        self.moved(Movement::Copy, size_of_val(&rows.values[..]));
        Ok(rows)
    }

    /// RMSNorm of every row of `x`, which is `tokens × width`, into new rows.
    fn normed(&self, x: &[f32], width: usize, norm: Norm<'_, Vec<f32>>) -> Result<Rows> {
        if norm.gain.len() != width {
            return Err(shape_error("norm gain", width, norm.gain.len()));
        }
        let mut rows = Rows::new(&self.pool, x.len() / width.max(1), width)?;
        let chunk = self.chunk(Operation::Norm, rows.tokens, 1, x.len()) * width;
        columns::chunks(&self.threads, &mut rows.values, chunk, |index, piece| {
            let x = &x[index * chunk..][..piece.len()];
            for (row, out) in x.chunks_exact(width).zip(piece.chunks_exact_mut(width)) {
                (self.kernels.rms_norm_into)(row, norm.gain, norm.eps, out);
            }
            Ok(())
        })?;
        Ok(rows)
    }

    /// Weights whose every number was looked at.
    fn validated(&self, weights: WeightMatrix) -> Result<WeightMatrix> {
        self.threads
            .ranges(weights.rows(), 64, |rows| weights.validate(rows))?;
        Ok(weights)
    }

    /// RMSNorm of every row.
    fn norm(&self, rows: &mut Rows, norm: Norm<'_, Vec<f32>>) -> Result<()> {
        if norm.gain.len() != rows.width {
            return Err(shape_error("norm gain", rows.width, norm.gain.len()));
        }
        let (width, work) = (rows.width, rows.values.len());
        let chunk = self.chunk(Operation::Norm, rows.tokens, 1, work) * width;
        columns::chunks(&self.threads, &mut rows.values, chunk, |_, piece| {
            for row in piece.chunks_exact_mut(width) {
                (self.kernels.rms_norm)(row, norm.gain, norm.eps);
            }
            Ok(())
        })
    }

    /// Rows with their rounding to int8, if asked.
    fn activation(&self, rows: Rows, activations: Activations) -> Result<CpuActivation> {
        let int8 = self.rounded(rows.view(), activations)?;
        Ok(CpuActivation { rows, int8 })
    }

    /// Every row in int8, if asked.
    fn rounded(&self, rows: RowView<'_>, activations: Activations) -> Result<Option<Int8Rows>> {
        if activations == Activations::F32 {
            return Ok(None);
        }
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
            arranged: OnceLock::new(),
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
        Ok(Some(int8))
    }
}

impl Backend for CpuBackend {
    type Matrix = WeightMatrix;
    type Table = CpuTable;
    type Gain = Vec<f32>;
    type Hidden = Rows;
    type Activation = CpuActivation;
    type Cache = CpuCache;
    type Rotations = Rotations;

    fn describe(&self) -> String {
        let threads = self.threads();
        format!(
            "cpu ({}, {threads} thread{})",
            self.isa,
            if threads == 1 { "" } else { "s" }
        )
    }

    fn pool(&self) -> &HybridMemoryPool {
        &self.pool
    }

    fn scope<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.threads.enter(work)
    }

    fn matrix(&self, weights: WeightMatrix) -> Result<WeightMatrix> {
        self.repacked(weights)
    }

    fn table(&self, weights: WeightMatrix) -> Result<CpuTable> {
        self.screened(weights, HeadMode::Full)
    }

    fn head_table(&self, weights: WeightMatrix, mode: HeadMode) -> Result<CpuTable> {
        self.screened(weights, mode)
    }

    fn gain(&self, values: Vec<f32>) -> Result<Vec<f32>> {
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(index) => Err(Error::Value {
                what: format!("norm gain {index}"),
                expected: "a finite number".into(),
                found: values[index].to_string(),
            }),
        }
    }

    fn cache(&self, layers: usize, heads: Heads, capacity: usize) -> Result<CpuCache> {
        CpuCache::new(&self.pool, layers, heads, capacity)
    }

    fn truncate(&self, cache: &mut CpuCache, len: usize) {
        cache.truncate(len);
    }

    fn cache_bytes(&self, cache: &CpuCache) -> usize {
        cache.bytes()
    }

    fn read_layer(&self, cache: &CpuCache, layer: usize) -> Result<[Vec<f32>; 2]> {
        cache.rows(layer)
    }

    fn restore_layer(
        &self,
        cache: &mut CpuCache,
        layer: usize,
        keys: &[f32],
        values: &[f32],
    ) -> Result<()> {
        cache.append(&self.threads, layer, keys, values)
    }

    fn rotations(&self, rope: &Rope, first: usize, count: usize) -> Result<Rotations> {
        Rotations::new(&self.pool, rope, first, count)
    }

    fn embed(&self, table: &CpuTable, input: Input<'_>, _: &CpuCache) -> Result<Rows> {
        match input {
            Input::Tokens(tokens) => self.rows(table, tokens),
            Input::Chosen => Err(Error::Unavailable {
                what: "a token that nobody has read".into(),
                why: "a CPU gives every token at once".into(),
            }),
        }
    }

    fn norm_quantize(
        &self,
        x: &Rows,
        norm: Option<Norm<'_, Vec<f32>>>,
        activations: Activations,
    ) -> Result<CpuActivation> {
        let rows = match norm {
            Some(norm) => self.normed(&x.values, x.width, norm)?,
            None => {
                self.moved(Movement::Copy, size_of_val(&x.values[..]));
                x.copy(&self.pool)?
            }
        };
        self.activation(rows, activations)
    }

    fn matmul(&self, a: &CpuActivation, weights: &[&WeightMatrix]) -> Result<Vec<Rows>> {
        self.linear(a, weights)
    }

    fn matmul_add(
        &self,
        a: &CpuActivation,
        weights: &WeightMatrix,
        residual: &mut Rows,
    ) -> Result<()> {
        let mut product = Rows::new(&self.pool, a.rows.tokens, weights.rows())?;
        let out = &mut [&mut product.values[..]];
        self.linear_into(a.rows.view(), a.int8.as_ref(), &[weights], out)?;
        if product.width != residual.width || product.tokens != residual.tokens {
            return Err(shape_error(weights.name(), residual.width, product.width));
        }
        let (len, grain) = (product.values.len(), 1024);
        let chunk = self.chunk(Operation::Elementwise, len, grain, len);
        columns::chunks(
            &self.threads,
            &mut residual.values,
            chunk,
            |index, piece| {
                (self.kernels.add)(piece, &product.values[index * chunk..][..piece.len()]);
                Ok(())
            },
        )
    }

    fn rope_append(
        &self,
        q: &mut Rows,
        mut k: Rows,
        v: Rows,
        head_norms: Option<[Norm<'_, Vec<f32>>; 2]>,
        rotations: &Rotations,
        cache: &mut CpuCache,
        layer: usize,
    ) -> Result<()> {
        let heads = cache.heads();
        for (rows, count) in [(&*q, heads.query), (&k, heads.kv), (&v, heads.kv)] {
            if rows.width != count * heads.dim {
                return Err(shape_error(
                    "attention projection",
                    count * heads.dim,
                    rows.width,
                ));
            }
        }
        for (index, rows) in [q, &mut k].into_iter().enumerate() {
            let norm = head_norms.map(|norms| norms[index]);
            if let Some(norm) = norm.filter(|norm| norm.gain.len() != heads.dim) {
                return Err(shape_error("head norm gain", heads.dim, norm.gain.len()));
            }
            let (width, work) = (rows.width, rows.values.len());
            let chunk = self.chunk(Operation::Elementwise, rows.tokens, 1, work);
            columns::chunks(
                &self.threads,
                &mut rows.values,
                chunk * width,
                |index, piece| {
                    for (i, row) in piece.chunks_exact_mut(width).enumerate() {
                        for head in row.chunks_exact_mut(heads.dim) {
                            if let Some(norm) = norm {
                                (self.kernels.rms_norm)(head, norm.gain, norm.eps);
                            }
                            rotations.apply(index * chunk + i, head);
                        }
                    }
                    Ok(())
                },
            )?;
        }
        self.moved(Movement::Copy, 2 * size_of_val(&k.values[..]));
        cache.append(&self.threads, layer, &k.values, &v.values)
    }

    fn attention(&self, q: &Rows, cache: &CpuCache, layer: usize) -> Result<Rows> {
        self.attend(q, cache, layer)
    }

    fn attention_weights(&self, q: &Rows, cache: &CpuCache, layer: usize) -> Result<Vec<f32>> {
        attention_weights::of_last(q, cache, layer)
    }

    fn gate_norm_quantize(
        &self,
        mut gate: Rows,
        up: Rows,
        function: Gate,
        norm: Option<Norm<'_, Vec<f32>>>,
        activations: Activations,
    ) -> Result<CpuActivation> {
        if gate.values.len() != up.values.len() {
            return Err(shape_error("up projection", gate.width, up.width));
        }
        let work = gate.values.len();
        let chunk = self.chunk(Operation::Elementwise, gate.tokens, 1, work) * gate.width;
        columns::chunks(&self.threads, &mut gate.values, chunk, |index, gate| {
            let up = &up.values[index * chunk..][..gate.len()];
            (self.kernels.gate)(gate, up, function);
            Ok(())
        })?;
        if let Some(norm) = norm {
            self.norm(&mut gate, norm)?;
        }
        self.activation(gate, activations)
    }

    fn head(
        &self,
        x: &Rows,
        first: usize,
        norm: Norm<'_, Vec<f32>>,
        table: &CpuTable,
    ) -> Result<Pending<Vec<f32>>> {
        let logits = self.logits(&self.head_rows(x, first, norm)?, table)?;
        Ok(Pending::ready(logits))
    }

    fn head_top(
        &self,
        x: &Rows,
        first: usize,
        norm: Norm<'_, Vec<f32>>,
        table: &CpuTable,
        top: &Top<'_>,
        _: &mut CpuCache,
    ) -> Result<Pending<Vec<Vec<Candidate>>>> {
        let candidates = self.candidates(&self.head_rows(x, first, norm)?, table, top)?;
        Ok(Pending::ready(candidates))
    }

    fn matrix_bytes(&self, matrix: &WeightMatrix) -> usize {
        matrix.data().len()
    }

    fn head_bytes(&self, table: &CpuTable) -> usize {
        table.head_bytes()
    }

    fn head_stats(&self, table: &CpuTable) -> Option<HeadStats> {
        table.head_stats()
    }
}
