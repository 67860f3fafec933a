//! The reference: portable Rust, no intrinsics.

use super::kernels::{Kernels, TILE};
use super::portable;
use crate::Result;
use bitnet_quant::Format;

pub(super) static KERNELS: Kernels = Kernels {
    dot: |a, b| portable::dot(a, b),
    dot_f16: |a, b| portable::dot_f16(a, b),
    rms_norm: |x, gain, eps| portable::rms_norm(x, gain, eps),
    quantize: |x, q| portable::quantize(x, q),
    gate: |g, u, function| portable::gate(g, u, function),
    attend: |q, kv, place, scores, out| portable::attend(q, kv, place, scores, out),
    add: |x, y| portable::add(x, y),
    packed_sums,
    tile_sums,
};

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
