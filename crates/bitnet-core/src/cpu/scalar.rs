//! The reference: portable Rust, no intrinsics.

use super::kernels::{FloatIsa, Kernels, TILE};
use crate::Result;
use bitnet_quant::Format;
use rten_simd::SimdOp;
use rten_simd::isa::GenericIsa;

/// The fallback of the SIMD library: arrays of four, no intrinsics.
struct Portable;

impl FloatIsa for Portable {
    fn run<Op: SimdOp>(op: Op) -> Op::Output {
        op.eval(GenericIsa::new())
    }
}

pub(super) static KERNELS: Kernels = Kernels::new::<Portable>(packed_sums, tile_sums);

fn packed_sums(format: Format, row: &[u8], q: &[i8], out: &mut [i32]) -> Result<()> {
    let cols = row.len() / format.block_bytes() * format.block_len();
    let mut codes = vec![0i8; cols];
    format.decode_codes(row, &mut codes)?;
    let group = cols / out.len();
    for ((sum, codes), q) in out
        .iter_mut()
        .zip(codes.chunks_exact(group))
        .zip(q.chunks(group))
    {
        *sum = codes
            .iter()
            .zip(q)
            .map(|(t, q)| (i32::from(*t) + 1) * i32::from(*q))
            .sum();
    }
    Ok(())
}

fn tile_sums(codes: [&[u8]; TILE], q: [&[i8]; TILE], group: usize, out: &mut [i32]) {
    for (index, out) in out.chunks_exact_mut(TILE * TILE).enumerate() {
        let columns = index * group..(index + 1) * group;
        for (row, codes) in codes.iter().enumerate() {
            for (token, q) in q.iter().enumerate() {
                let codes = codes.iter().take(columns.end).skip(columns.start);
                let products = codes.zip(q.iter().skip(columns.start));
                out[TILE * row + token] =
                    products.map(|(c, q)| i32::from(*c) * i32::from(*q)).sum();
            }
        }
    }
}
