//! Stored numbers into registers of f32, exactly.

use super::super::convert::widen_halves;
use super::super::keys_values::{HeadBlock, POSITIONS, Stored};
use half::f16;
use rten_simd::Isa;
use rten_simd::ops::{BitOps, NumOps};

/// Bytes that the processor fetches at a time.
const LINE: usize = 64;
/// The most floats in a register.
const WIDEST: usize = 16;

/// Stored numbers that can be loaded.
pub(super) trait Load: Stored {
    /// `R` registers, an even number, from the front of `row`, but for their scale.
    fn load<I: Isa, const R: usize>(isa: I, row: &[Self]) -> [I::F32; R];
}

impl Load for f32 {
    #[inline(always)]
    fn load<I: Isa, const R: usize>(isa: I, row: &[f32]) -> [I::F32; R] {
        let ops = isa.f32();
        let mut out = [ops.zero(); R];
        for (out, x) in out.iter_mut().zip(row.chunks_exact(ops.len())) {
            *out = ops.load(x);
        }
        out
    }
}

impl Load for f16 {
    #[inline(always)]
    fn load<I: Isa, const R: usize>(isa: I, row: &[f16]) -> [I::F32; R] {
        let row: &[u16] = bytemuck::cast_slice(row);
        let mut out = [isa.f32().zero(); R];
        let pairs = out.as_chunks_mut::<2>().0;
        for (pair, x) in pairs.iter_mut().zip(row.chunks_exact(isa.u16().len())) {
            *pair = widen_halves(isa, isa.u16().load(x));
        }
        out
    }
}

impl Load for i8 {
    /// The compiler makes a widening of the loop.
    #[inline(always)]
    fn load<I: Isa, const R: usize>(isa: I, row: &[i8]) -> [I::F32; R] {
        let ops = isa.f32();
        let mut out = [ops.zero(); R];
        for (out, x) in out.iter_mut().zip(row.chunks_exact(ops.len())) {
            let mut floats = [0.0; WIDEST];
            for i in 0..ops.len() {
                floats[i] = f32::from(x[i]);
            }
            *out = ops.load(&floats);
        }
        out
    }
}

/// Fetches `row`, which is soon to be read.
#[inline(always)]
pub(super) fn prefetch<I: Isa, T: Stored>(isa: I, row: &[T]) {
    for line in row.chunks(LINE / size_of::<T>()) {
        isa.f32().prefetch(line.as_ptr().cast());
    }
}

/// Widens the keys of a block and the values of its first `count` positions, and fetches what comes `next`.
#[inline(always)]
pub(super) fn widen<I: Isa, T: Load>(
    isa: I,
    head: &HeadBlock<'_, T>,
    count: usize,
    next: &[T],
    (keys, values): (&mut [f32], &mut [f32]),
) {
    let ops = isa.f32();
    let step = 2 * ops.len();
    let dim = head.values.len() / POSITIONS;
    let rows = head
        .keys
        .chunks_exact(POSITIONS)
        .zip(keys.chunks_exact_mut(POSITIONS));
    for (d, (row, out)) in rows.enumerate() {
        if !next.is_empty() {
            prefetch(isa, &next[d * POSITIONS..][..POSITIONS]);
        }
        for start in (0..POSITIONS).step_by(step) {
            let mut pair = T::load::<I, 2>(isa, &row[start..start + step]);
            if T::SCALED {
                let scales = f32::load::<I, 2>(isa, &head.scales[0][start..start + step]);
                for i in 0..2 {
                    pair[i] = ops.mul(pair[i], scales[i]);
                }
            }
            for (x, out) in pair
                .into_iter()
                .zip(out[start..].chunks_exact_mut(ops.len()))
            {
                ops.store(x, out);
            }
        }
    }
    let whole = dim - dim % step;
    let rows = head
        .values
        .chunks_exact(dim)
        .zip(values.chunks_exact_mut(dim));
    for (position, (row, out)) in rows.enumerate().take(count) {
        let scale = head.scale(1, position);
        for start in (0..whole).step_by(step) {
            let pair = T::load::<I, 2>(isa, &row[start..start + step]);
            for (mut x, out) in pair
                .into_iter()
                .zip(out[start..].chunks_exact_mut(ops.len()))
            {
                if T::SCALED {
                    x = ops.mul(x, ops.splat(scale));
                }
                ops.store(x, out);
            }
        }
        for (x, out) in row[whole..].iter().zip(&mut out[whole..]) {
            *out = x.widen() * scale;
        }
    }
}
