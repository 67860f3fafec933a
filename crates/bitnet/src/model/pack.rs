//! Ternary matrices that take another form in memory than in their file: I2_S rows, whatever the file holds.

use super::value_heads::ValueHeads;
use crate::file::Bytes;
use crate::file::ternary::{BLOCK, Ternary};
use crate::{Error, Result};
use bitnet_core::{HybridMemoryPool, Tag, WeightMatrix};
use bitnet_quant::{Format, I2sLayout};
use rayon::prelude::*;

const FORMAT: Format = Format::I2s(I2sLayout::A);

/// Whether threads share the rows. In WebAssembly threads belong to the kernels, and only builds for these contain their code.
const SHARED: bool = cfg!(not(target_family = "wasm"));

/// Where rows and columns of a matrix are in its file, where they have another order than here.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Order {
    pub(super) rows: Option<ValueHeads>,
    pub(super) columns: Option<ValueHeads>,
}

impl Order {
    fn row(&self, row: usize) -> usize {
        self.rows.map_or(row, |rows| rows.source(row))
    }
}

/// The matrix of `rows × cols` of `tensor` in `file` as I2_S rows in memory of `pool`, padded with zeros to whole
/// blocks. `order` says which of the file's rows and columns come where.
///
/// # Errors
/// [`Error::Tensor`] if a code is invalid or blocks have scales of their own; [`Error::Backend`] if memory is short.
pub(super) fn pack(
    (file, tensor): (&str, &str),
    ternary: &Ternary,
    (rows, cols): (usize, usize),
    order: Order,
    pool: &HybridMemoryPool,
) -> Result<WeightMatrix> {
    let scale = ternary.whole_scale().ok_or_else(|| {
        let expected = "one scale for the whole matrix";
        Error::tensor(file, tensor, expected, "one for each block")
    })?;
    let stored = cols.next_multiple_of(FORMAT.block_len());
    let row_bytes = FORMAT.row_bytes(stored)?;
    let bytes = rows.saturating_mul(row_bytes);
    let mut data = pool.buffer::<u8>(bytes, Tag::Weights)?;
    let scratch = || (vec![0; stored], vec![0.0; cols.div_ceil(BLOCK)]);
    let pack = |(codes, scales): &mut (Vec<i8>, Vec<f32>), (row, out): (usize, &mut [u8])| {
        let source = order.row(row);
        ternary.codes((rows, cols), source, BLOCK, &mut codes[..cols], scales)?;
        if let Some(columns) = order.columns {
            let reordered = columns.reordered(&codes[..cols], 1);
            codes[..cols].copy_from_slice(&reordered);
        }
        FORMAT.encode_codes(codes, &[], out)
    };
    let packed = if SHARED {
        let rows = data.par_chunks_mut(row_bytes).enumerate();
        rows.try_for_each_init(scratch, pack)
    } else {
        let mut scratch = scratch();
        let mut rows = data.chunks_mut(row_bytes).enumerate();
        rows.try_for_each(|row| pack(&mut scratch, row))
    };
    packed.map_err(|error| Error::tensor(file, tensor, "ternary weights", error))?;
    let shape = (rows, cols, stored);
    Ok(WeightMatrix::new(
        tensor,
        FORMAT,
        shape,
        scale,
        data.into_bytes(),
    )?)
}

/// The bytes of a matrix of `rows` rows of `size` bytes an element in `order`, in memory of `pool`.
///
/// # Errors
/// [`Error::Backend`] if memory is short.
pub(super) fn reorder(
    bytes: &[u8],
    (rows, size): (usize, usize),
    order: Order,
    pool: &HybridMemoryPool,
) -> Result<Bytes> {
    let row_bytes = bytes.len() / rows.max(1);
    let mut data = pool.buffer::<u8>(row_bytes * rows, Tag::Weights)?;
    for (row, out) in data.chunks_exact_mut(row_bytes.max(1)).enumerate() {
        let row = &bytes[order.row(row) * row_bytes..][..row_bytes];
        match order.columns {
            None => out.copy_from_slice(row),
            Some(columns) => out.copy_from_slice(&columns.reordered(row, size)),
        }
    }
    Ok(data.into_bytes())
}
