//! Matrices and tables on the device, brought there a few rows at a time in the layout of the kernels.
//!
//! Ternary formats, base 3 included, become 2-bit codes that unpack by a shift and a mask (`gemv.wgsl`); other formats keep
//! their bytes, moved so that words are aligned (`table_*.wgsl`). A matrix that is larger than a binding is split by rows
//! into shards. On the host there is never more than one piece of [`STAGED`] bytes. Tables of floats in a mapped file are
//! used where they lie, if the device shares the host's memory.

use super::GpuBackend;
use super::device::Gpu;
use super::kernel::{TableKind, TablePlace, TernaryRow};
use super::memory::GpuBuffer;
use super::rows::NormParams;
use crate::pool::Buffer;
use crate::pool::Movement;
use crate::{Error, HybridMemoryPool, NormWeights, Result, Tag, WeightMatrix};
use bitnet_quant::{Encoding, Format, ScaleOwner};
use rayon::prelude::*;
use std::sync::Arc;

/// Bytes that are brought to the device at a time.
const STAGED: usize = 4 << 20;
/// Bytes after which the host waits for the device to have them.
const FLUSHED: usize = 4 * STAGED;
/// Bytes before the rows of a buffer: what products and what weights are multiplied by, and room.
const HEADER: usize = 16;

/// A matrix on the device.
pub(super) struct Matrix {
    pub(super) name: String,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Columns of a stored row.
    pub(super) stored: usize,
    /// Vectors or words of a row, as its kind counts.
    pub(super) stride: usize,
    pub(super) kind: TableKind,
    /// What the header of a buffer says, where the rows are used where they lie and have none.
    factors: Option<[u32; 2]>,
    pub(super) shards: Vec<Shard>,
}

/// Some rows of a matrix.
pub(super) struct Shard {
    pub(super) buffer: Arc<GpuBuffer>,
    pub(super) first: usize,
    pub(super) rows: usize,
}

impl std::fmt::Debug for Matrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Matrix")
            .field("name", &self.name)
            .field("rows", &self.rows)
            .field("cols", &self.cols)
            .field("kind", &self.kind)
            .field("shards", &self.shards.len())
            .finish()
    }
}

impl Matrix {
    /// How kernels find the rows of one of its shards.
    pub(super) fn place(&self, shard: &Shard) -> TablePlace {
        TablePlace {
            kind: self.kind,
            cols: self.cols as u32,
            stored: self.stored as u32,
            stride: self.stride as u32,
            rows: shard.rows as u32,
            factors: self.factors,
        }
    }

    /// Bytes on the device.
    pub(super) fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.buffer.bytes()).sum()
    }
}

/// How the rows of a matrix lie on the device.
struct Layout {
    kind: TableKind,
    stride: usize,
    /// Bytes of a row's own numbers.
    row_bytes: usize,
    /// Bytes of a row's scales, which lie behind all rows.
    scale_bytes: usize,
}

impl Layout {
    fn new(format: Format, stored: usize) -> Self {
        let plain = |kind, stride, row_bytes| Self {
            kind,
            stride,
            row_bytes,
            scale_bytes: 0,
        };
        let words = |kind, words: usize| plain(kind, words, 4 * words);
        let scales = (stored / 32).div_ceil(2);
        match format.encoding() {
            // Decoded, for want of kernels.
            Encoding::F32 | Encoding::Q4K => {
                plain(TableKind::F32, stored.div_ceil(4), stored.div_ceil(4) * 16)
            }
            Encoding::F16 => plain(TableKind::F16, stored.div_ceil(8), stored.div_ceil(8) * 16),
            Encoding::Bf16 => plain(TableKind::Bf16, stored.div_ceil(8), stored.div_ceil(8) * 16),
            Encoding::Q8_0 => words(TableKind::Q8_0, stored / 4 + scales),
            Encoding::Q4_0 => words(TableKind::Q4_0, stored / 8 + scales),
            Encoding::Q6K => words(TableKind::Q6K, stored / 256 * 53),
            Encoding::Ternary(owner) => {
                let group = match owner {
                    ScaleOwner::Tensor => 0,
                    ScaleOwner::Block => format.block_len() as u32,
                };
                let row = TernaryRow {
                    words: (stored.next_multiple_of(64) / 16) as u32,
                    group,
                };
                Self {
                    kind: TableKind::Ternary(row),
                    stride: row.words as usize,
                    row_bytes: 4 * row.words as usize,
                    scale_bytes: 4 * row.groups() as usize,
                }
            }
        }
    }
}

impl Gpu {
    /// Brings a matrix to the device, every number looked at on the way.
    ///
    /// # Errors
    /// If a weight is no ternary code or finite number; [`Error::Unavailable`] if a row is larger than a binding;
    /// [`Error::OutOfMemory`], [`Error::DeviceLost`].
    pub(super) fn resident(
        &self,
        weights: &WeightMatrix,
        pool: &HybridMemoryPool,
    ) -> Result<Matrix> {
        let stored = weights.stored_cols();
        let layout = Layout::new(weights.format(), stored);
        let whole = layout.row_bytes + layout.scale_bytes;
        let most = self.limits.binding.saturating_sub(HEADER) / whole.max(1);
        // A workgroup of a kernel takes at least two rows: `product::direct` sees to it.
        let most = most.min(2 * self.limits.workgroups as usize);
        if most == 0 {
            return Err(Error::Unavailable {
                what: format!("{}: rows of {whole} bytes", weights.name()),
                why: format!(
                    "the GPU binds at most {} bytes at once",
                    self.limits.binding
                ),
            });
        }
        let scale = weights.scale();
        let header = [scale * weights.output_scale(), scale, 0.0, 0.0];
        let matrix = |factors, shards| Matrix {
            name: weights.name().into(),
            rows: weights.rows(),
            cols: weights.cols(),
            stored,
            stride: layout.stride,
            kind: layout.kind,
            factors,
            shards,
        };
        if weights.rows() <= most
            && let Some(buffer) = self.lent(weights, &layout)?
        {
            let movement = pool.zero_copy();
            movement.record(Movement::ZeroCopy, weights.data().len());
            let shard = Shard {
                buffer,
                first: 0,
                rows: weights.rows(),
            };
            let factors = [header[0].to_bits(), header[1].to_bits()];
            return Ok(matrix(Some(factors), vec![shard]));
        }
        let mut shards = Vec::new();
        for first in (0..weights.rows()).step_by(most) {
            let rows = most.min(weights.rows() - first);
            let buffer = self.memory.take(HEADER + rows * whole, Tag::Weights)?;
            self.write(&buffer, 0, bytemuck::cast_slice(&header))?;
            self.fill(weights, pool, &layout, (first, rows), &buffer)?;
            shards.push(Shard {
                buffer,
                first,
                rows,
            });
        }
        pool.zero_copy()
            .record(Movement::Copy, weights.rows() * whole);
        self.flush()?;
        Ok(matrix(None, shards))
    }

    /// All rows where they lie, every number looked at: for formats that kernels read as they are in the file, if the device
    /// sees the file's memory.
    fn lent(&self, weights: &WeightMatrix, layout: &Layout) -> Result<Option<Arc<GpuBuffer>>> {
        let plain = matches!(
            layout.kind,
            TableKind::F32 | TableKind::F16 | TableKind::Bf16
        );
        if !plain || !weights.is_mapped() || layout.row_bytes != weights.row_bytes() {
            return Ok(None);
        }
        let Some(buffer) = self.driver.borrow(weights.data()) else {
            return Ok(None);
        };
        weights.validate(0..weights.rows())?;
        Ok(Some(self.memory.lent(buffer)))
    }

    fn fill(
        &self,
        weights: &WeightMatrix,
        pool: &HybridMemoryPool,
        layout: &Layout,
        (first, rows): (usize, usize),
        buffer: &GpuBuffer,
    ) -> Result<()> {
        let whole = layout.row_bytes + layout.scale_bytes;
        let at_once = (STAGED / whole).clamp(1, rows);
        let mut codes: Buffer<u8> = pool.buffer(at_once * layout.row_bytes, Tag::Scratch)?;
        let mut scales: Buffer<u8> = pool.buffer(at_once * layout.scale_bytes, Tag::Scratch)?;
        let mut waiting = 0;
        for start in (0..rows).step_by(at_once) {
            let count = at_once.min(rows - start);
            let range = first + start..first + start + count;
            weights.validate(range.clone())?;
            let packed = weights.row_range(range.start, count);
            let packed: Vec<&[u8]> = packed.collect();
            let codes = &mut codes[..count * layout.row_bytes];
            let scales = &mut scales[..count * layout.scale_bytes];
            let rows_of_codes = codes.par_chunks_exact_mut(layout.row_bytes);
            if layout.scale_bytes == 0 {
                rows_of_codes
                    .zip(packed)
                    .try_for_each(|(out, packed)| arrange(weights, packed, out, &mut []))?;
            } else {
                rows_of_codes
                    .zip(scales.par_chunks_exact_mut(layout.scale_bytes))
                    .zip(packed)
                    .try_for_each(|((out, scales), packed)| {
                        arrange(weights, packed, out, scales)
                    })?;
            }
            self.write(buffer, HEADER + start * layout.row_bytes, codes)?;
            if layout.scale_bytes > 0 {
                let at = HEADER + rows * layout.row_bytes + start * layout.scale_bytes;
                self.write(buffer, at, scales)?;
            }
            weights.give_back(range);
            waiting += count * whole;
            if waiting >= FLUSHED {
                self.flush()?;
                waiting = 0;
            }
        }
        Ok(())
    }
}

/// One packed row in the layout of the kernels. `out` is zeros, or a row that was arranged before.
fn arrange(weights: &WeightMatrix, packed: &[u8], out: &mut [u8], scales: &mut [u8]) -> Result<()> {
    let format = weights.format();
    match format.encoding() {
        Encoding::F32 | Encoding::F16 | Encoding::Bf16 => {
            out[..packed.len()].copy_from_slice(packed);
        }
        Encoding::Q4K => {
            let mut values = vec![0.0; weights.stored_cols()];
            format.decode_row(packed, 1.0, &mut values)?;
            let bytes: &[u8] = bytemuck::cast_slice(&values);
            out[..bytes.len()].copy_from_slice(bytes);
        }
        Encoding::Q8_0 => scales_behind::<34>(packed, out),
        Encoding::Q4_0 => scales_behind::<18>(packed, out),
        Encoding::Q6K => {
            let blocks = packed.as_chunks::<210>().0;
            for (block, out) in blocks.iter().zip(out.as_chunks_mut::<212>().0) {
                out[..210].copy_from_slice(block);
            }
        }
        Encoding::Ternary(_) => {
            let stored = weights.stored_cols();
            let mut codes = vec![0i8; stored.next_multiple_of(64)];
            format.decode_codes(packed, &mut codes[..stored])?;
            let words = codes.as_chunks::<16>().0.iter();
            for (word, out) in words.zip(out.as_chunks_mut::<4>().0) {
                *out = ternary_word(word).to_le_bytes();
            }
            if !scales.is_empty() {
                let mut values = vec![0.0f32; scales.len() / 4];
                format.block_scales(packed, &mut values)?;
                scales.copy_from_slice(bytemuck::cast_slice(&values));
            }
        }
    }
    Ok(())
}

/// Sixteen codes of −1 to 2, one more each, in two bits: code 4j + b at bits 8b + 2j.
fn ternary_word(codes: &[i8; 16]) -> u32 {
    let mut word = 0;
    for (j, codes) in codes.as_chunks::<4>().0.iter().enumerate() {
        let bytes = codes.map(|code| (code + 1) as u8);
        word |= u32::from_le_bytes(bytes) << (2 * j);
    }
    word
}

/// Blocks of an f16 scale and bytes: all the bytes, then all the scales.
fn scales_behind<const BLOCK: usize>(packed: &[u8], out: &mut [u8]) {
    let blocks = packed.as_chunks::<BLOCK>().0;
    let (bytes, scales) = out.split_at_mut(blocks.len() * (BLOCK - 2));
    let parts = bytes
        .chunks_exact_mut(BLOCK - 2)
        .zip(scales.as_chunks_mut::<2>().0);
    for (block, (bytes, scale)) in blocks.iter().zip(parts) {
        scale.copy_from_slice(&block[..2]);
        bytes.copy_from_slice(&block[2..]);
    }
}

impl GpuBackend {
    /// Brings a matrix to the device.
    pub(super) fn matrix(&self, weights: &WeightMatrix) -> Result<Matrix> {
        self.gpu.resident(weights, &self.pool)
    }

    /// Brings a norm's weights, which were checked, to the device.
    pub(super) fn norm(&self, norm: NormWeights) -> Result<NormParams> {
        let bytes = bytemuck::cast_slice(&norm.weight);
        Ok(NormParams {
            weight: self.gpu.upload(bytes, Tag::Weights)?,
            eps: norm.eps,
        })
    }
}
