//! One token against packed rows, straight from the bytes of the file.
//!
//! Four rows go at a time: they share the activations, and memory is read in four streams.

use super::integer::{BASE3_PLANES, IntegerIsa};
use super::isa::widen_f16;
use super::layout::{BASE3_SPAN, PAIRS, Planes, RowLayout};

/// Rows that are multiplied together.
pub(super) const ROWS: usize = 4;

/// The sums of the widest register.
const MOST_SUMS: usize = 16;

/// Packed rows times one row of activations.
pub(super) struct Gemv<'a> {
    pub(super) layout: &'a RowLayout,
    /// As many rows as `out` has numbers.
    pub(super) rows: &'a [u8],
    pub(super) row_bytes: usize,
    /// Arranged for the width of the kernels.
    pub(super) q: &'a [i8],
    /// Σ q of each group.
    pub(super) q_sums: &'a [i32],
    /// Σ over groups of (Σ (c − 1)·q)·d.
    pub(super) out: &'a mut [f32],
}

#[inline(always)]
pub(super) fn run<I: IntegerIsa>(isa: I, job: &mut Gemv<'_>) {
    let (layout, rows, row_bytes) = (job.layout, job.rows, job.row_bytes);
    let count = job.out.len();
    for (index, out) in job.out.chunks_mut(ROWS).enumerate() {
        // Past the last row, that row stands in.
        let rows = [0, 1, 2, 3].map(|i| &rows[(ROWS * index + i).min(count - 1) * row_bytes..]);
        let totals = match layout.planes {
            Planes::Base3 => base3_rows(isa, layout, rows, row_bytes, job.q, job.q_sums),
            _ => {
                let rows = rows.map(|row| &row[..row_bytes]);
                if layout.code_bytes >= I::WIDTH {
                    wide_rows(isa, layout, rows, job.q, job.q_sums)
                } else {
                    narrow_rows(isa, layout, rows, job.q, job.q_sums)
                }
            }
        };
        out.copy_from_slice(&totals[..out.len()]);
    }
}

/// One group's share of four totals.
#[inline(always)]
fn add_group(totals: &mut [f32; ROWS], sums: [i32; ROWS], q_sum: i32, scales: [f32; ROWS]) {
    for i in 0..ROWS {
        totals[i] += (sums[i] - q_sum) as f32 * scales[i];
    }
}

/// The scale of one group of a row.
#[inline(always)]
pub(super) fn row_scale(layout: &RowLayout, row: &[u8], group: usize) -> f32 {
    match layout.scale_at {
        None => 1.0,
        Some(at) => row
            .get(group * layout.stride + at..)
            .and_then(<[u8]>::first_chunk)
            .map_or(0.0, |bytes| widen_f16(u16::from_le_bytes(*bytes))),
    }
}

/// The scales of one group of four rows.
#[inline(always)]
fn group_scales(layout: &RowLayout, rows: [&[u8]; ROWS], group: usize) -> [f32; ROWS] {
    rows.map(|row| row_scale(layout, row, group))
}

/// Four sums from registers that hold nothing else.
#[inline(always)]
fn whole_sums<I: IntegerIsa>(isa: I, sums: [I::Sums; ROWS]) -> [i32; ROWS] {
    let mut lanes = [0; MOST_SUMS];
    isa.store_sums(isa.sum_lanes(sums), &mut lanes);
    let mut total = [0; ROWS];
    for lane in lanes[..I::WIDTH / 4].as_chunks::<ROWS>().0 {
        for i in 0..ROWS {
            total[i] += lane[i];
        }
    }
    total
}

/// The dots of a register of code bytes.
#[inline(always)]
fn pair_dots<I: IntegerIsa>(
    isa: I,
    sums: I::Sums,
    codes: I::Bytes,
    q: [I::Bytes; PAIRS],
) -> I::Sums {
    let open = isa.open(sums);
    let open = isa.dot(open, isa.pair::<0>(codes), q[0]);
    let open = isa.dot(open, isa.pair::<2>(codes), q[1]);
    let open = isa.dot(open, isa.pair::<4>(codes), q[2]);
    let open = isa.dot(open, isa.pair::<6>(codes), q[3]);
    isa.close(sums, open)
}

#[inline(always)]
fn load_planes<I: IntegerIsa>(isa: I, q: &[u8]) -> [I::Bytes; PAIRS] {
    [0, 1, 2, 3].map(|plane| isa.load(&q[plane * I::WIDTH..]))
}

/// Groups that fill registers.
#[inline(always)]
fn wide_rows<I: IntegerIsa>(
    isa: I,
    layout: &RowLayout,
    rows: [&[u8]; ROWS],
    q: &[i8],
    q_sums: &[i32],
) -> [f32; ROWS] {
    let q: &[u8] = bytemuck::cast_slice(q);
    let mut totals = [0.0; ROWS];
    let whole = layout.code_bytes / I::WIDTH * I::WIDTH;
    let group_q = layout.code_bytes.next_multiple_of(I::WIDTH) * PAIRS;
    for ((group, q), q_sum) in q.chunks_exact(group_q).enumerate().zip(q_sums) {
        let codes = rows.map(|row| {
            let codes = &row[group * layout.stride + layout.codes_at..];
            &codes[..layout.code_bytes]
        });
        let mut sums = [isa.zero(); ROWS];
        let mut planes = q.chunks_exact(PAIRS * I::WIDTH);
        let [mut a, mut b, mut c, mut d] = codes.map(|codes| codes[..whole].chunks_exact(I::WIDTH));
        while let (Some(a), Some(b), Some(c), Some(d)) = (a.next(), b.next(), c.next(), d.next()) {
            let Some(q) = planes.next() else { break };
            let q = load_planes(isa, q);
            sums[0] = pair_dots(isa, sums[0], isa.load(a), q);
            sums[1] = pair_dots(isa, sums[1], isa.load(b), q);
            sums[2] = pair_dots(isa, sums[2], isa.load(c), q);
            sums[3] = pair_dots(isa, sums[3], isa.load(d), q);
        }
        // Less than a register is left where the row ends; what fills it up meets activations of 0.
        if let Some(q) = planes.next() {
            let q = load_planes(isa, q);
            for (sum, codes) in sums.iter_mut().zip(codes) {
                let mut rest = [0; 64];
                rest[..codes.len() - whole].copy_from_slice(&codes[whole..]);
                *sum = pair_dots(isa, *sum, isa.load(&rest), q);
            }
        }
        let scales = group_scales(layout, rows, group);
        add_group(&mut totals, whole_sums(isa, sums), *q_sum, scales);
    }
    totals
}

/// Groups of 16 or 32 code bytes, several of them in a register.
#[inline(always)]
fn narrow_rows<I: IntegerIsa>(
    isa: I,
    layout: &RowLayout,
    rows: [&[u8]; ROWS],
    q: &[i8],
    q_sums: &[i32],
) -> [f32; ROWS] {
    const PART: usize = 16;
    static NOTHING: [u8; PART] = [0; PART];
    let q: &[u8] = bytemuck::cast_slice(q);
    let mut totals = [0.0; ROWS];
    let per_register = I::WIDTH / layout.code_bytes;
    let lanes_per_group = layout.code_bytes / PART;
    for (index, q) in q.chunks_exact(PAIRS * I::WIDTH).enumerate() {
        let first = index * per_register;
        let q = load_planes(isa, q);
        let sums = rows.map(|row| {
            let codes = isa.load_parts(|part| {
                let group = first + part / lanes_per_group;
                let at = group * layout.stride + layout.codes_at + part % lanes_per_group * PART;
                row.get(at..)
                    .and_then(<[u8]>::first_chunk)
                    .unwrap_or(&NOTHING)
            });
            pair_dots(isa, isa.zero(), codes, q)
        });
        let mut lanes = [0; MOST_SUMS];
        isa.store_sums(isa.sum_lanes(sums), &mut lanes);
        let lanes = lanes[..I::WIDTH / 4].chunks_exact(ROWS * lanes_per_group);
        for ((lanes, group), q_sum) in lanes.zip(first..).zip(&q_sums[first.min(q_sums.len())..]) {
            let mut sums = [0; ROWS];
            for lane in lanes.as_chunks::<ROWS>().0 {
                for i in 0..ROWS {
                    sums[i] += lane[i];
                }
            }
            add_group(&mut totals, sums, *q_sum, group_scales(layout, rows, group));
        }
    }
    totals
}

/// Base-3 blocks. `rows` go on past their end, if the matrix does.
#[inline(always)]
fn base3_rows<I: IntegerIsa>(
    isa: I,
    layout: &RowLayout,
    rows: [&[u8]; ROWS],
    row_bytes: usize,
    q: &[i8],
    q_sums: &[i32],
) -> [f32; ROWS] {
    let q: &[u8] = bytemuck::cast_slice(q);
    let mut totals = [0.0; ROWS];
    for ((group, q), q_sum) in q
        .chunks_exact(BASE3_PLANES * BASE3_SPAN)
        .enumerate()
        .zip(q_sums)
    {
        let sums = rows.map(|row| {
            let block = &row[group * layout.stride..];
            let mut last = [0; BASE3_SPAN];
            // What follows a block's digits meets activations of 0; at the end of the matrix nothing may follow.
            let span = block.first_chunk::<BASE3_SPAN>().unwrap_or_else(|| {
                last[..block.len()].copy_from_slice(block);
                &last
            });
            let mut sums = isa.zero();
            let vectors = span.chunks_exact(I::WIDTH);
            for (bytes, q) in vectors.zip(q.chunks_exact(BASE3_PLANES * I::WIDTH)) {
                let bytes = isa.load(bytes);
                sums = isa.base3_dots(sums, bytes, |plane| isa.load(&q[plane * I::WIDTH..]));
            }
            sums
        });
        let sums = whole_sums(isa, sums).map(|sum| sum >> I::BASE3_SHIFT);
        let scales = group_scales(layout, rows.map(|row| &row[..row_bytes]), group);
        add_group(&mut totals, sums, *q_sum, scales);
    }
    totals
}
