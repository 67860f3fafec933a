//! One token against rows that lie side by side ([`Interleaving`]): a row in each lane, its activations in all of them.

use super::f16::widen_f16;
use super::gemv::plane_dots;
use super::integer::{BASE3_PLANES, IntegerIsa};
use super::interleave::{Interleaving, TOGETHER, WORDS};
use super::layout::{PAIRS, Planes};

/// Rows side by side times one row of activations.
pub(super) struct GemvInterleaved<'a> {
    pub(super) interleaving: &'a Interleaving,
    /// As many rows as `out` has numbers, and what is missing to whole blocks of rows side by side.
    pub(super) rows: &'a [u8],
    /// Arranged for a width of 4.
    pub(super) q: &'a [i8],
    /// Σ q of each group.
    pub(super) q_sums: &'a [i32],
    /// Σ over groups of (Σ (c − 1)·q)·d.
    pub(super) out: &'a mut [f32],
}

#[inline(always)]
pub(super) fn run<I: IntegerIsa>(isa: I, job: &mut GemvInterleaved<'_>) {
    match (job.interleaving.layout.planes, I::WIDTH) {
        (Planes::Base3(_), 64) => streams::<I, BASE3_PLANES, 1, 2>(isa, job),
        (Planes::Base3(_), 32) => streams::<I, BASE3_PLANES, 2, 1>(isa, job),
        (Planes::Base3(_), _) => streams::<I, BASE3_PLANES, 4, 1>(isa, job),
        (_, 64) => streams::<I, PAIRS, 1, 2>(isa, job),
        (_, 32) => streams::<I, PAIRS, 2, 1>(isa, job),
        _ => streams::<I, PAIRS, 4, 1>(isa, job),
    }
}

/// All blocks of rows, of `VECTORS` registers each; `STREAMS` from as many parts of the rows go together and share the
/// activations, which keeps enough sums on their way where a block has one register.
#[inline(always)]
fn streams<I: IntegerIsa, const PLANES: usize, const VECTORS: usize, const STREAMS: usize>(
    isa: I,
    job: &mut GemvInterleaved<'_>,
) {
    let bytes = job.interleaving.block_bytes();
    let blocks = job.out.len().div_ceil(TOGETHER);
    let part = blocks.div_ceil(STREAMS);
    for index in 0..part {
        let mut rows = [job.rows; STREAMS];
        for (stream, rows) in rows.iter_mut().enumerate() {
            // Past the last block, that block stands in.
            let block = (stream * part + index).min(blocks - 1);
            *rows = &job.rows[block * bytes..][..bytes];
        }
        let totals = products::<I, PLANES, VECTORS, STREAMS>(isa, job, rows);
        for (stream, totals) in totals.iter().enumerate() {
            let out = job.out.chunks_mut(TOGETHER).nth(stream * part + index);
            if let Some(out) = out {
                out.copy_from_slice(&totals[..out.len()]);
            }
        }
    }
}

/// Some blocks of rows.
#[inline(always)]
fn products<I: IntegerIsa, const PLANES: usize, const VECTORS: usize, const STREAMS: usize>(
    isa: I,
    job: &GemvInterleaved<'_>,
    blocks: [&[u8]; STREAMS],
) -> [[f32; TOGETHER]; STREAMS] {
    let interleaving = job.interleaving;
    let group_bytes = interleaving.group_bytes();
    let lanes = I::WIDTH / 4;
    // Sums of base 3 are too large by a power of two. So are what is taken from them and the inverse of what they are
    // multiplied by, which changes no bit of the products.
    let shift = if PLANES == BASE3_PLANES {
        I::BASE3_SHIFT
    } else {
        0
    };
    let unit = 1.0 / (1u32 << shift) as f32;
    let mut totals = [[0.0; TOGETHER]; STREAMS];
    let q = job.q.as_chunks::<4>().0.as_chunks::<PLANES>().0;
    let groups = q
        .chunks_exact(q.len() / interleaving.layout.groups)
        .zip(job.q_sums);
    for (group, (q, q_sum)) in groups.enumerate() {
        let mut groups = blocks;
        let mut words = [[].as_slice(); STREAMS];
        for (words, group_of) in words.iter_mut().zip(&mut groups) {
            *group_of = &group_of[group * group_bytes..][..group_bytes];
            *words = interleaving.words(group_of);
        }
        let mut sums = [[isa.zero(); VECTORS]; STREAMS];
        for (word, q) in q.iter().enumerate() {
            let mut planes = [isa.splat(&q[0]); PLANES];
            for (plane, register) in planes.iter_mut().enumerate().skip(1) {
                *register = isa.splat(&q[plane]);
            }
            for stream in 0..STREAMS {
                let codes: &[u8; WORDS] = &words[stream][word];
                for vector in 0..VECTORS {
                    let codes = isa.load(&codes[vector * I::WIDTH..]);
                    sums[stream][vector] = plane_dots(isa, sums[stream][vector], codes, planes);
                }
            }
        }
        for stream in 0..STREAMS {
            let bits = interleaving.scales(groups[stream]);
            let mut scales = [0.0; TOGETHER];
            for (scale, bits) in scales.iter_mut().zip(bits) {
                *scale = widen_f16(bits) * unit;
            }
            for (vector, sums) in sums[stream].into_iter().enumerate() {
                let at = vector * lanes;
                let totals = &mut totals[stream][at..at + lanes];
                isa.add_scaled(totals, sums, q_sum << shift, &scales[at..]);
            }
        }
    }
    totals
}
