//! Rows rounded to int8 times a ternary matrix.
//!
//! A weight row's product with a token is Σ over groups of columns of (Σ (c − 1)·q) · d, divided by the token's
//! scale: the inner sum exact in i32, the outer one in f32 from the first group to the last (one group, and d = 1,
//! where the scale belongs to the tensor). Few tokens are multiplied straight from the packed rows ([`gemv`],
//! [`gemv_interleaved`](super::gemv_interleaved) where rows lie side by side); more share the unpacking of a panel of rows
//! ([`gemm`]).

use super::columns::{self, Piece};
use super::gemm::{self, Gemm, Products, Tiles};
use super::gemv::{self, Gemv};
use super::gemv_interleaved::GemvInterleaved;
use super::interleave::{Interleaving, TOGETHER, interleaving_of};
use super::layout::RowLayout;
use super::order::Order;
use super::{CpuBackend, Int8Rows, streamed};
use crate::pool::Buffer;
use crate::pool::Movement;
use crate::{Result, Tag, WeightMatrix};
use std::ops::Range;

impl CpuBackend {
    /// How rows meet a matrix: so few that each meets the weights itself, or more.
    pub(super) fn way(&self, a: &Int8Rows, weights: &WeightMatrix) -> Way {
        let few = a.scales.len() <= self.crossovers.gemv_max_tokens(weights.format());
        match (few, weights.is_interleaved()) {
            (true, false) => Way::Packed,
            (true, true) => Way::Interleaved,
            (false, _) => Way::Tiles,
        }
    }

    /// int8 rows times a ternary matrix, whose order `packed` has.
    pub(super) fn ternary_job<'a>(
        &self,
        a: &'a Int8Rows,
        weights: &'a WeightMatrix,
        packed: &'a PackedActivations,
    ) -> Result<TernaryJob<'a>> {
        if packed.way == Way::Tiles {
            self.moved(Movement::Copy, weights.rows() * weights.stored_cols());
        } else {
            self.moved(Movement::ZeroCopy, weights.data().len());
        }
        let interleaving = weights.is_interleaved().then(|| interleaving_of(weights));
        Ok(TernaryJob {
            a,
            weights,
            packed,
            interleaving: interleaving.transpose()?,
            factor: weights.scale() * weights.output_scale(),
        })
    }

    /// Rows in a piece, of about `share`.
    pub(super) fn ternary_chunk(&self, job: &TernaryJob<'_>, share: usize) -> usize {
        match job.packed.way {
            Way::Packed => streamed(share, job.weights.row_bytes(), gemv::ROWS),
            Way::Interleaved => streamed(share, job.weights.row_bytes(), TOGETHER),
            Way::Tiles => share.next_multiple_of(self.kernels.integer.panel.max(TOGETHER)),
        }
    }

    /// Some rows of the product.
    pub(super) fn ternary_piece(
        &self,
        job: &TernaryJob<'_>,
        rows: Range<usize>,
        out: &mut Piece<'_>,
    ) -> Result<()> {
        match (job.packed.way, &job.interleaving) {
            (Way::Tiles, _) => return self.many_tokens(job, rows, out),
            (_, None) => self.few_tokens(job, rows, out),
            (_, Some(interleaving)) => self.few_tokens_interleaved(job, interleaving, rows, out),
        }
        Ok(())
    }

    /// Activations in the order in which the kernels of `way` unpack codes of `layout`.
    pub(super) fn pack_activations(
        &self,
        a: &Int8Rows,
        layout: &RowLayout,
        way: Way,
    ) -> Result<PackedActivations> {
        Ok(PackedActivations {
            layout: *layout,
            way,
            q: self.permute_activations(a, layout, way)?,
            sums: group_sums(a, layout),
        })
    }

    fn permute_activations(
        &self,
        a: &Int8Rows,
        layout: &RowLayout,
        way: Way,
    ) -> Result<Buffer<i8>> {
        let tokens = a.scales.len();
        let row = |token: usize| &a.q[token * a.stride..][..layout.cols];
        let width = match way {
            Way::Packed => self.kernels.integer.width,
            Way::Interleaved | Way::Tiles => gemm::WIDTH,
        };
        let token_bytes = layout.arranged_len(width);
        let len = tokens.saturating_mul(token_bytes);
        let mut arranged = self.pool.buffer_uninit(len, Tag::Scratch)?;
        if way != Way::Tiles {
            let outs = arranged.chunks_exact_mut(token_bytes);
            outs.enumerate()
                .for_each(|(token, out)| layout.arrange(width, row(token), out));
            return Ok(arranged);
        }
        let tile = self.kernels.integer.tile;
        let pieces = tile * token_bytes;
        let order = Order::new(layout);
        columns::chunks(&self.threads, &mut arranged, pieces, |index, out| {
            let mut rows = [row(0); gemm::MOST_TOKENS];
            for (first, size) in gemm::tiles(out.len() / token_bytes, tile) {
                for (token, place) in (index * tile + first..).zip(&mut rows[..size]) {
                    *place = row(token);
                }
                let out = &mut out[first * token_bytes..][..size * token_bytes];
                order.arrange(&rows[..size], out);
            }
            Ok(())
        })?;
        Ok(arranged)
    }

    fn few_tokens(&self, job: &TernaryJob<'_>, rows: Range<usize>, out: &mut Piece<'_>) {
        let groups = job.packed.layout.groups;
        let packed = job.packed;
        let tokens = (packed.q).chunks_exact(packed.q.len() / job.a.scales.len());
        let tokens = tokens.zip(packed.sums.chunks_exact(groups));
        for (token, ((q, q_sums), scale)) in tokens.zip(job.a.scales.iter()).enumerate() {
            let out = out.token(token);
            (self.kernels.integer.gemv)(&mut Gemv {
                layout: &job.packed.layout,
                rows: job.rows(&rows),
                row_bytes: job.weights.row_bytes(),
                q,
                q_sums,
                out,
            });
            for out in out {
                *out = *out / scale * job.factor;
            }
        }
    }

    fn few_tokens_interleaved(
        &self,
        job: &TernaryJob<'_>,
        interleaving: &Interleaving,
        rows: Range<usize>,
        out: &mut Piece<'_>,
    ) {
        /// Bytes of rows that every token meets before the next rows: what stays near the core.
        const NEAR: usize = 128 << 10;
        let packed = job.packed;
        let tokens = job.a.scales.len();
        let near = match tokens {
            1 => rows.len(),
            _ => (NEAR / interleaving.block_bytes()).max(2) * TOGETHER,
        };
        for first in rows.clone().step_by(near.max(TOGETHER)) {
            let some = first..(first + near).min(rows.end);
            let activations = (packed.q.chunks_exact(packed.q.len() / tokens))
                .zip(packed.sums.chunks_exact(interleaving.layout.groups))
                .zip(job.a.scales.iter());
            for (token, ((q, q_sums), scale)) in activations.enumerate() {
                let out = &mut out.token(token)[first - rows.start..][..some.len()];
                (self.kernels.integer.gemv_interleaved)(&mut GemvInterleaved {
                    interleaving,
                    rows: job.rows(&some),
                    q,
                    q_sums,
                    out,
                });
                for out in out {
                    *out = *out / scale * job.factor;
                }
            }
        }
    }

    fn many_tokens(
        &self,
        job: &TernaryJob<'_>,
        rows: Range<usize>,
        out: &mut Piece<'_>,
    ) -> Result<()> {
        let panel = self.kernels.integer.panel;
        let token_bytes = job.packed.layout.arranged_len(gemm::WIDTH);
        let mut codes = self.pool.buffer_uninit(panel * token_bytes, Tag::Scratch)?;
        let scales = panel * job.packed.layout.groups;
        let mut scales = self.pool.buffer_uninit(scales, Tag::Scratch)?;
        (self.kernels.integer.gemm)(&mut Gemm {
            layout: &job.packed.layout,
            interleaving: job.interleaving.as_ref(),
            count: rows.len(),
            rows: job.rows(&rows),
            row_bytes: job.weights.row_bytes(),
            tiles: Tiles {
                token_bytes,
                q: &job.packed.q,
                q_sums: &job.packed.sums,
                scales: &job.a.scales,
            },
            factor: job.factor,
            codes: &mut codes,
            scales: &mut scales,
            products: out,
        });
        Ok(())
    }
}

impl Products for Piece<'_> {
    fn put(&mut self, token: usize, row: usize, products: &[f32]) {
        self.token(token)[row..][..products.len()].copy_from_slice(products);
    }
}

/// Σ q of each group of columns: `tokens × groups`.
fn group_sums(a: &Int8Rows, layout: &RowLayout) -> Vec<i32> {
    // The last run of a row may reach into the padding, which adds nothing.
    let runs = (layout.cols / layout.groups).div_ceil(Int8Rows::RUN);
    let tokens = a.sums.chunks_exact(a.stride / Int8Rows::RUN);
    tokens
        .flat_map(|sums| sums.chunks(runs).take(layout.groups))
        .map(|runs| runs.iter().sum())
        .collect()
}

/// How activations meet weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Each token meets packed rows, registers of a row at a time.
    Packed,
    /// Each token meets rows that lie side by side, a word of each at a time.
    Interleaved,
    /// Tiles of tokens meet panels of unpacked rows.
    Tiles,
}

/// Activations in the order in which the kernels unpack codes.
#[derive(Debug)]
pub(super) struct PackedActivations {
    layout: RowLayout,
    way: Way,
    /// Token after token, or in tiles.
    q: Buffer<i8>,
    /// Σ q of each group: `tokens × groups`.
    sums: Vec<i32>,
}

impl PackedActivations {
    /// Whether a matrix of that layout can be multiplied by it.
    pub(super) fn suits(&self, layout: &RowLayout, way: Way) -> bool {
        self.layout == *layout && self.way == way
    }
}

/// One product.
pub(super) struct TernaryJob<'a> {
    a: &'a Int8Rows,
    weights: &'a WeightMatrix,
    packed: &'a PackedActivations,
    interleaving: Option<Interleaving>,
    factor: f32,
}

impl TernaryJob<'_> {
    /// The bytes of a range of rows; of whole blocks of rows, if these lie side by side.
    fn rows(&self, rows: &Range<usize>) -> &[u8] {
        let bytes = self.weights.row_bytes();
        let end = match self.interleaving {
            Some(_) => rows.end.next_multiple_of(TOGETHER),
            None => rows.end,
        };
        &self.weights.data()[rows.start * bytes..end * bytes]
    }
}
