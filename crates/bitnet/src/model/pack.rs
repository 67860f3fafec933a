//! Ternary matrices that take another form in memory than in their file: I2_S rows, whatever the file holds.

use crate::file::ternary::{BLOCK, Ternary};
use crate::{Error, Result};
use bitnet_core::{HybridMemoryPool, Tag, WeightMatrix};
use bitnet_quant::{Format, I2sLayout};
use rayon::prelude::*;

const FORMAT: Format = Format::I2s(I2sLayout::A);

/// Whether threads share the rows. In WebAssembly threads belong to the kernels, and only builds for these contain their code.
const SHARED: bool = cfg!(not(target_family = "wasm"));

/// The matrix of `rows × cols` of `tensor` in `file` as I2_S rows in memory of `pool`, padded with zeros to whole
/// blocks.
///
/// # Errors
/// [`Error::Tensor`] if a code is invalid or blocks have scales of their own; [`Error::Backend`] if memory is short.
pub(super) fn pack(
    (file, tensor): (&str, &str),
    ternary: &Ternary,
    (rows, cols): (usize, usize),
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
        ternary.codes((rows, cols), row, BLOCK, &mut codes[..cols], scales)?;
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
