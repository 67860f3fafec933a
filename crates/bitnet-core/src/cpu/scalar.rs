//! The reference: portable Rust, no intrinsics.

use super::kernels::Kernels;
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
    code_sums,
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

fn code_sums(codes: [&[u8]; 4], q: &[i8], group: usize, out: &mut [i32]) {
    for (row, codes) in codes.iter().enumerate() {
        for (index, (codes, q)) in codes.chunks(group).zip(q.chunks(group)).enumerate() {
            let products = codes
                .iter()
                .zip(q)
                .map(|(c, q)| i32::from(*c) * i32::from(*q));
            out[4 * index + row] = products.sum();
        }
    }
}
