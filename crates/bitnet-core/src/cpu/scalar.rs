//! The reference: portable Rust, no intrinsics.

use super::kernels::{FloatIsa, Kernels, TILE};
use crate::Result;
use crate::math::tree_sum;
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

pub(super) static KERNELS: Kernels = Kernels::new::<Portable>(dot_f16, packed_sums, tile_sums);

/// Widens an IEEE binary16.
#[inline(always)]
pub(super) fn widen_f16(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff) << 13;
    // 2¹¹² moves the exponent's bias from 15 to 127 and normalises subnormals.
    let finite = (f32::from_bits(magnitude) * f32::from_bits(0x7780_0000)).to_bits();
    let special = magnitude | 0x7f80_0000;
    let value = if bits & 0x7c00 == 0x7c00 {
        special
    } else {
        finite
    };
    f32::from_bits(value | (u32::from(bits & 0x8000) << 16))
}

/// Σ aᵢ·bᵢ with `b` in little-endian binary16.
fn dot_f16(a: &[f32], b: &[u8]) -> f32 {
    let (pairs, _) = b.as_chunks::<2>();
    let n = a.len().min(pairs.len());
    let (a, a_rest) = a[..n].as_chunks::<16>();
    let (b, b_rest) = pairs[..n].as_chunks::<16>();
    let mut lanes = [0.0; 16];
    for (x, y) in a.iter().zip(b) {
        for i in 0..16 {
            lanes[i] += x[i] * widen_f16(u16::from_le_bytes(y[i]));
        }
    }
    for (lane, (x, y)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane += x * widen_f16(u16::from_le_bytes(*y));
    }
    tree_sum(lanes)
}

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
