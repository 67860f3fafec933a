//! Matrices and tables in MLX's formats, every weight the number that the file has.
//!
//! | file | MLX | |
//! |---|---|---|
//! | ternary, base 3 included | 2-bit codes 0, 1, 2 (and 3), 16 of them in a word | code·d − d for a group of 128 or 64 |
//! | Q8_0 | 8-bit codes | code·d − 128·d for 32 |
//! | Q4_0 | 4-bit codes | code·d − 8·d for 32 |
//! | F32, F16, BF16 | the bytes of the file | lent where MLX takes them so |
//! | Q4_K | f32 | its minimums have codes of their own |
//! | Q6_K | f32 | its groups of 16 are shorter than MLX's |
//!
//! Words hold their first code in their lowest bits. Where the scale belongs to the whole tensor (I2_S), d is 1 here and
//! products are multiplied by the scale: with int8 activations their sums are whole numbers, exact in f32 to 2²⁴.

use super::lend::lend;
use super::thread::{MlxThreadToken, Tensor, Thread};
use crate::pool::{Alignment, Block, Movement};
use crate::{Error, HybridMemoryPool, Result, Tag, WeightMatrix};
use bitnet_quant::{Encoding, Format, ScaleOwner};
use bytes::Bytes;
use half::f16;
use mlx_rs::Dtype;
use rayon::prelude::*;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A resident matrix.
#[derive(Debug)]
pub(super) struct Matrix {
    pub(super) name: String,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Columns of a stored row; those past `cols` are zeros.
    pub(super) stored: usize,
    pub(super) ternary: bool,
    /// Factor on the weights: the tensor's scale.
    pub(super) scale: f32,
    /// Factor on products.
    pub(super) output_scale: f32,
    pub(super) weights: Weights,
    /// Bytes that a product reads.
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) enum Weights {
    /// `[rows, stored]` floats.
    Dense(Tensor),
    /// code·scale + bias.
    Affine(Affine),
}

#[derive(Debug)]
pub(super) struct Affine {
    /// `[rows, stored · bits / 32]` words.
    pub(super) codes: Tensor,
    pub(super) groups: Arc<Groups>,
    /// Columns of a group.
    pub(super) group: usize,
    pub(super) bits: usize,
}

/// The factor on the codes of each group and its bias, `[rows, groups]` each.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) scales: Tensor,
    pub(super) biases: Tensor,
    /// Whether all scales are 1.
    #[cfg(target_os = "macos")]
    pub(super) ones: bool,
}

/// Makes matrices resident.
pub(super) struct Loader {
    pub(super) thread: Thread,
    pub(super) pool: HybridMemoryPool,
    /// Scales of 1, by the shape of `[rows, groups]`: matrices of one shape share them.
    ones: Mutex<HashMap<[usize; 2], Arc<Groups>>>,
}

/// Columns of the longest group that MLX has.
const LONGEST: usize = 128;

/// How the rows of an affine matrix lie.
#[derive(Clone, Copy)]
struct Layout {
    bits: usize,
    group: usize,
    /// The code of a zero weight.
    zero: u32,
}

impl Layout {
    fn of(format: Format, stored: usize) -> Option<Self> {
        let (bits, group, zero) = match format.encoding() {
            Encoding::F32 | Encoding::F16 | Encoding::Bf16 | Encoding::Q4K | Encoding::Q6K => {
                return None;
            }
            Encoding::Q8_0 => (8, 32, 128),
            Encoding::Q4_0 => (4, 32, 8),
            // No longer than what shares a scale.
            Encoding::Ternary(ScaleOwner::Block) => (2, format.block_len().min(LONGEST), 1),
            Encoding::Ternary(ScaleOwner::Tensor) if stored.is_multiple_of(LONGEST) => {
                (2, LONGEST, 1)
            }
            Encoding::Ternary(ScaleOwner::Tensor) => (2, 64, 1),
        };
        Some(Self { bits, group, zero })
    }
}

/// Whether the scale belongs to the tensor.
fn has_one_scale(format: Format) -> bool {
    format.encoding() == Encoding::Ternary(ScaleOwner::Tensor)
}

impl Loader {
    pub(super) fn new(thread: Thread, pool: HybridMemoryPool) -> Self {
        Self {
            thread,
            pool,
            ones: Mutex::default(),
        }
    }

    /// Makes a matrix resident and checks every number of it.
    ///
    /// # Errors
    /// If a weight is no ternary code or finite number, memory is short, or MLX refuses.
    pub(super) fn load(&self, weights: &WeightMatrix) -> Result<Matrix> {
        let rows = weights.rows();
        (0..rows.div_ceil(CHECKED))
            .into_par_iter()
            .try_for_each(|piece| {
                let first = piece * CHECKED;
                weights.validate(first..rows.min(first + CHECKED))
            })?;
        let stored = weights.stored_cols();
        let (kind, bytes) = match Layout::of(weights.format(), stored) {
            Some(layout) => self.affine(weights, layout)?,
            None => self.dense(weights)?,
        };
        Ok(Matrix {
            name: weights.name().into(),
            rows,
            cols: weights.cols(),
            stored,
            ternary: weights.format().is_ternary(),
            scale: if has_one_scale(weights.format()) {
                weights.scale()
            } else {
                1.0
            },
            output_scale: weights.output_scale(),
            weights: kind,
            bytes,
        })
    }

    fn dense(&self, weights: &WeightMatrix) -> Result<(Weights, usize)> {
        let (rows, stored) = (weights.rows(), weights.stored_cols());
        let file = || (weights.data().clone(), weights.is_mapped());
        let (bytes, dtype) = match weights.format() {
            Format::F32 => (file(), Dtype::Float32),
            Format::F16 => (file(), Dtype::Float16),
            Format::Bf16 => (file(), Dtype::Bfloat16),
            format => {
                let mut block = self.block(rows * stored * size_of::<f32>())?;
                let floats: &mut [f32] = bytemuck::cast_slice_mut(&mut block);
                floats
                    .par_chunks_exact_mut(stored)
                    .enumerate()
                    .try_for_each(|(row, out)| {
                        format.decode_row(weights.row(row), weights.scale(), out)
                    })?;
                (pages(block), Dtype::Float32)
            }
        };
        let size = bytes.0.len();
        let shape = [rows, stored];
        let lent = self.thread.run(|mlx| self.lent(mlx, bytes, dtype, shape));
        let (tensor, movement) = lent?;
        if movement == Movement::Copy || matches!(weights.format(), Format::Q4K | Format::Q6K) {
            weights.give_back(0..rows);
        }
        Ok((Weights::Dense(tensor), size))
    }

    fn affine(&self, weights: &WeightMatrix, layout: Layout) -> Result<(Weights, usize)> {
        let (rows, stored) = (weights.rows(), weights.stored_cols());
        let words = stored * layout.bits / 32;
        let groups = stored / layout.group;
        let mut codes = self.block(rows * words * size_of::<u32>())?;
        let out: &mut [u32] = bytemuck::cast_slice_mut(&mut codes);
        out.par_chunks_exact_mut(words)
            .enumerate()
            .try_for_each_init(
                || vec![0u32; stored],
                |codes, (row, out)| {
                    unpack(weights.format(), weights.row(row), layout, codes)?;
                    let in_a_word = codes.chunks_exact(32 / layout.bits);
                    for (out, codes) in out.iter_mut().zip(in_a_word) {
                        let codes = codes.iter().rev();
                        *out = codes.fold(0, |word, code| word << layout.bits | code);
                    }
                    Ok::<_, Error>(())
                },
            )?;
        let groups = if has_one_scale(weights.format()) {
            self.ones([rows, groups])?
        } else {
            let mut scales = self.block(rows * groups * size_of::<f32>())?;
            let out: &mut [f32] = bytemuck::cast_slice_mut(&mut scales);
            out.par_chunks_exact_mut(groups)
                .enumerate()
                .try_for_each(|(row, out)| group_scales(weights.format(), weights.row(row), out))?;
            let zero = layout.zero as f32;
            Arc::new(self.groups(scales, [rows, groups], zero)?)
        };
        let bytes = codes.len() + 2 * rows * (stored / layout.group) * size_of::<f32>();
        let codes = self
            .thread
            .run(|mlx| self.lent(mlx, pages(codes), Dtype::Uint32, [rows, words]));
        let (codes, _) = codes?;
        weights.give_back(0..rows);
        let affine = Affine {
            codes,
            groups,
            group: layout.group,
            bits: layout.bits,
        };
        Ok((Weights::Affine(affine), bytes))
    }

    /// Scales of 1 for ternary codes.
    fn ones(&self, shape: [usize; 2]) -> Result<Arc<Groups>> {
        let mut known = self.ones.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ones) = known.get(&shape) {
            return Ok(Arc::clone(ones));
        }
        let mut scales = self.block(shape[0] * shape[1] * size_of::<f32>())?;
        bytemuck::cast_slice_mut::<u8, f32>(&mut scales).fill(1.0);
        let ones = Arc::new(self.groups(scales, shape, 1.0)?);
        known.insert(shape, Arc::clone(&ones));
        Ok(ones)
    }

    /// Scales, and biases that make the code `zero` a zero.
    fn groups(&self, scales: Block, shape: [usize; 2], zero: f32) -> Result<Groups> {
        let mut biases = self.block(scales.len())?;
        let pairs = bytemuck::cast_slice_mut::<u8, f32>(&mut biases).iter_mut();
        let pairs = pairs.zip(bytemuck::cast_slice::<u8, f32>(&scales));
        pairs.for_each(|(bias, scale)| *bias = -zero * scale);
        #[cfg(target_os = "macos")]
        let ones = bytemuck::cast_slice::<u8, f32>(&scales)
            .iter()
            .all(|scale| *scale == 1.0);
        self.thread.run(|mlx| {
            let [scales, biases] =
                [scales, biases].map(|block| self.lent(mlx, pages(block), Dtype::Float32, shape));
            Ok(Groups {
                scales: scales?.0,
                biases: biases?.0,
                #[cfg(target_os = "macos")]
                ones,
            })
        })
    }

    /// Memory that begins a page.
    fn block(&self, bytes: usize) -> Result<Block> {
        self.pool
            .allocate_uninit(bytes, Alignment::PAGE, Tag::Weights)
    }

    /// Lends memory to MLX and counts that.
    fn lent(
        &self,
        mlx: &MlxThreadToken,
        bytes: (Bytes, bool),
        dtype: Dtype,
        shape: [usize; 2],
    ) -> Result<(Tensor, Movement)> {
        let size = bytes.0.len();
        let (array, movement) = lend(mlx, bytes, dtype, &shape)?;
        self.pool.zero_copy().record(movement, size);
        Ok((Tensor::new(array), movement))
    }
}

/// A block that [`lend`] may share whole pages of.
fn pages(block: Block) -> (Bytes, bool) {
    (Bytes::from_owner(block), true)
}

/// Rows that are checked at once.
const CHECKED: usize = 64;

/// The codes of a packed row, one for each column.
fn unpack(format: Format, packed: &[u8], layout: Layout, out: &mut [u32]) -> Result<()> {
    match format.encoding() {
        Encoding::Q8_0 => {
            let blocks = packed.as_chunks::<34>().0.iter();
            for (block, out) in blocks.zip(out.as_chunks_mut::<32>().0) {
                let codes = block[2..].iter().map(|code| code.cast_signed());
                for (out, code) in out.iter_mut().zip(codes) {
                    *out = (i32::from(code) + layout.zero as i32) as u32;
                }
            }
        }
        Encoding::Q4_0 => {
            let blocks = packed.as_chunks::<18>().0.iter();
            for (block, out) in blocks.zip(out.as_chunks_mut::<32>().0) {
                for (i, byte) in block[2..].iter().enumerate() {
                    out[i] = u32::from(byte & 15);
                    out[i + 16] = u32::from(byte >> 4);
                }
            }
        }
        // Formats without codes are refused.
        Encoding::F32
        | Encoding::F16
        | Encoding::Bf16
        | Encoding::Q4K
        | Encoding::Q6K
        | Encoding::Ternary(_) => {
            let mut codes = vec![0i8; out.len()];
            format.decode_codes(packed, &mut codes)?;
            for (out, code) in out.iter_mut().zip(codes) {
                *out = (i32::from(code) + layout.zero as i32) as u32;
            }
        }
    }
    Ok(())
}

/// The scale of each of `out.len()` groups of a packed row.
fn group_scales(format: Format, packed: &[u8], out: &mut [f32]) -> Result<()> {
    let blocks = packed.len() / format.block_bytes();
    if format.is_ternary() {
        let mut scales = vec![0.0; blocks];
        format.block_scales(packed, &mut scales)?;
        // Blocks of 256 are two groups.
        let in_a_block = out.len() / blocks;
        for (out, scale) in out.chunks_exact_mut(in_a_block).zip(scales) {
            out.fill(scale);
        }
    } else {
        for (out, block) in out
            .iter_mut()
            .zip(packed.chunks_exact(format.block_bytes()))
        {
            *out = f16::from_le_bytes([block[0], block[1]]).to_f32();
        }
    }
    Ok(())
}
