//! One token against packed rows, straight from the bytes of the file.
//!
//! Four rows go at a time and share the activations. They come from the four quarters of the rows: memory is read in
//! four long streams, which hardware foresees; four neighbours would be short ones, and half as fast.

use super::integer::{BASE3_PLANES, IntegerIsa};
use super::layout::{PAIRS, PART, Planes, RowLayout};

/// Rows that are multiplied together.
pub(super) const ROWS: usize = 4;

/// Parts of the widest register.
const PARTS: usize = 4;

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
    let quarter = count.div_ceil(ROWS);
    let span = layout.span(I::WIDTH);
    for index in 0..quarter {
        // Past the last row, that row stands in.
        let row = |i: usize| &rows[(i * quarter + index).min(count - 1) * row_bytes..];
        let rows = [row(0), row(1), row(2), row(3)];
        let base3 = matches!(layout.planes, Planes::Base3(_));
        let totals = match (base3, span >= I::WIDTH) {
            (true, true) if span == 2 * PART => {
                base3_rows::<I, { 2 * PART }>(isa, layout, rows, job.q, job.q_sums)
            }
            (true, true) => base3_rows::<I, { 4 * PART }>(isa, layout, rows, job.q, job.q_sums),
            (true, false) => narrow_rows::<I, BASE3_PLANES>(isa, layout, rows, job.q, job.q_sums),
            (false, wide) => {
                let row = |i: usize| &rows[i][..row_bytes];
                let rows = [row(0), row(1), row(2), row(3)];
                if wide {
                    wide_rows(isa, layout, rows, job.q, job.q_sums)
                } else {
                    narrow_rows::<I, PAIRS>(isa, layout, rows, job.q, job.q_sums)
                }
            }
        };
        for (i, total) in totals.into_iter().enumerate() {
            if let Some(out) = job.out.get_mut(i * quarter + index) {
                *out = total;
            }
        }
    }
}

/// One group's share of four totals.
#[inline(always)]
fn add_group(totals: &mut [f32; ROWS], sums: [i32; ROWS], q_sum: i32, scales: [f32; ROWS]) {
    for i in 0..ROWS {
        totals[i] += (sums[i] - q_sum) as f32 * scales[i];
    }
}

/// The scale of one group of four rows.
#[inline(always)]
pub(super) fn group_scales<I: IntegerIsa>(
    isa: I,
    layout: &RowLayout,
    rows: [&[u8]; ROWS],
    group: usize,
) -> [f32; ROWS] {
    let Some(at) = layout.scale_at else {
        return [1.0; ROWS];
    };
    let at = group * layout.stride + at;
    let mut scales = [0; ROWS];
    for (scale, row) in scales.iter_mut().zip(rows) {
        if let Some(bytes) = row.get(at..at + 2) {
            *scale = u16::from_le_bytes([bytes[0], bytes[1]]);
        }
    }
    isa.widen(scales)
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

/// The dots of a register of code bytes with `PLANES` registers of activations: base 3 if there are so many, else pairs of bits.
#[inline(always)]
pub(super) fn plane_dots<I: IntegerIsa, const PLANES: usize>(
    isa: I,
    sums: I::Sums,
    codes: I::Bytes,
    q: [I::Bytes; PLANES],
) -> I::Sums {
    if let Some(q) = q.first_chunk() {
        isa.base3_dots(sums, codes, *q)
    } else if let Some(q) = q.first_chunk() {
        pair_dots(isa, sums, codes, *q)
    } else {
        sums
    }
}

/// The registers of all planes from `at`.
///
/// # Safety
/// `q` must have them.
#[inline(always)]
unsafe fn load_planes<I: IntegerIsa, const PLANES: usize>(
    isa: I,
    q: &[u8],
    at: usize,
) -> [I::Bytes; PLANES] {
    debug_assert!(at + PLANES * I::WIDTH <= q.len());
    // SAFETY: the caller's promise.
    unsafe {
        let mut planes = [isa.load_at(q, at); PLANES];
        for (plane, register) in planes.iter_mut().enumerate().skip(1) {
            *register = isa.load_at(q, at + plane * I::WIDTH);
        }
        planes
    }
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
        let first = group * layout.stride + layout.codes_at;
        let codes: [&[u8]; ROWS] = [
            &rows[0][first..][..layout.code_bytes],
            &rows[1][first..][..layout.code_bytes],
            &rows[2][first..][..layout.code_bytes],
            &rows[3][first..][..layout.code_bytes],
        ];
        let mut sums = [isa.zero(); ROWS];
        let mut at = 0;
        while at < whole {
            // SAFETY: `at` and `whole` are multiples of the width and `at` is less: a register of codes begins there in
            // every row. `q` has as many bytes as the codes have, rounded up to registers, for each of the planes.
            unsafe {
                let q = load_planes::<I, PAIRS>(isa, q, PAIRS * at);
                sums[0] = pair_dots(isa, sums[0], isa.load_at(codes[0], at), q);
                sums[1] = pair_dots(isa, sums[1], isa.load_at(codes[1], at), q);
                sums[2] = pair_dots(isa, sums[2], isa.load_at(codes[2], at), q);
                sums[3] = pair_dots(isa, sums[3], isa.load_at(codes[3], at), q);
            }
            at += I::WIDTH;
        }
        // Less than a register is left where the row ends; what fills it up meets activations of 0.
        if whole < layout.code_bytes {
            // SAFETY: as above; these are the last planes of `q`.
            let q = unsafe { load_planes::<I, PAIRS>(isa, q, PAIRS * whole) };
            for (sum, codes) in sums.iter_mut().zip(codes) {
                let mut rest = [0; 64];
                rest[..codes.len() - whole].copy_from_slice(&codes[whole..]);
                *sum = pair_dots(isa, *sum, isa.load(&rest), q);
            }
        }
        let scales = group_scales(isa, layout, rows, group);
        add_group(&mut totals, whole_sums(isa, sums), *q_sum, scales);
    }
    totals
}

/// The parts of a row from these places, zeros where the row ends: they meet activations of 0.
#[cold]
fn last_parts(row: &[u8], at: [usize; PARTS]) -> [[u8; PART]; PARTS] {
    at.map(|at| {
        let rest = row.get(at..).unwrap_or_default();
        let rest = &rest[..rest.len().min(PART)];
        let mut part = [0; PART];
        part[..rest.len()].copy_from_slice(rest);
        part
    })
}

/// Groups of 16 or 32 code bytes, or nearly 32 of base 3, several of them in a register. `rows` of base 3 go on past their
/// end, if the matrix does.
#[inline(always)]
fn narrow_rows<I: IntegerIsa, const PLANES: usize>(
    isa: I,
    layout: &RowLayout,
    rows: [&[u8]; ROWS],
    q: &[i8],
    q_sums: &[i32],
) -> [f32; ROWS] {
    static NOTHING: [u8; PART] = [0; PART];
    let q: &[u8] = bytemuck::cast_slice(q);
    let mut totals = [0.0; ROWS];
    let span = layout.span(I::WIDTH);
    let per_register = I::WIDTH / span;
    let lanes_per_group = span / PART;
    // Groups of 48 bytes leave a part of a 64-byte register that no group of the row has.
    let fills_register = per_register * span == I::WIDTH;
    let shortest = rows.iter().map(|row| row.len()).min().unwrap_or(0);
    for (index, q) in q.chunks_exact(PLANES * I::WIDTH).enumerate() {
        let first = index * per_register;
        // SAFETY: a chunk is the registers of all planes.
        let q = unsafe { load_planes::<I, PLANES>(isa, q, 0) };
        let mut at = [0; PARTS];
        for (part, at) in at.iter_mut().enumerate() {
            let group = first + part / lanes_per_group;
            *at = group * layout.stride + layout.codes_at + part % lanes_per_group * PART;
        }
        let mut sums = [isa.zero(); ROWS];
        let all = fills_register
            && first + per_register <= layout.groups
            && at[I::WIDTH / PART - 1] + PART <= shortest;
        for (sum, row) in sums.iter_mut().zip(rows) {
            let mut parts = [&NOTHING; PARTS];
            let ends;
            if all {
                for (part, at) in parts.iter_mut().zip(at).take(I::WIDTH / PART) {
                    // SAFETY: the last part ends within the shortest row, and the others lie before it.
                    *part = unsafe { &*row.as_ptr().add(at).cast() };
                }
            } else {
                ends = last_parts(row, at);
                for (part, end) in parts.iter_mut().zip(&ends) {
                    *part = end;
                }
            }
            *sum = plane_dots(isa, *sum, isa.load_parts(parts), q);
        }
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
            if PLANES == BASE3_PLANES {
                for sum in &mut sums {
                    *sum >>= I::BASE3_SHIFT;
                }
            }
            let scales = group_scales(isa, layout, rows, group);
            add_group(&mut totals, sums, *q_sum, scales);
        }
    }
    totals
}

/// Base-3 blocks that are read as `SPAN` bytes, whole registers. `rows` go on past their end, if the matrix does.
#[inline(always)]
fn base3_rows<I: IntegerIsa, const SPAN: usize>(
    isa: I,
    layout: &RowLayout,
    rows: [&[u8]; ROWS],
    q: &[i8],
    q_sums: &[i32],
) -> [f32; ROWS] {
    let q: &[u8] = bytemuck::cast_slice(q);
    let mut totals = [0.0; ROWS];
    let mut ends = [[0; SPAN]; ROWS];
    let groups = q.chunks_exact(BASE3_PLANES * SPAN);
    for ((group, q), q_sum) in groups.enumerate().zip(q_sums) {
        let at = group * layout.stride;
        // What follows a block's digits meets activations of 0. At the end of the matrix nothing may follow.
        let mut blocks = [&[0; SPAN]; ROWS];
        for ((block, end), row) in blocks.iter_mut().zip(&mut ends).zip(rows) {
            *block = match row[at..].first_chunk() {
                Some(bytes) => bytes,
                None => {
                    end[..row.len() - at].copy_from_slice(&row[at..]);
                    end
                }
            };
        }
        let mut sums = [isa.zero(); ROWS];
        for at in (0..SPAN).step_by(I::WIDTH) {
            // SAFETY: `at` is a multiple of the width below `SPAN`, so a register begins there in every block, and five in
            // the planes before it and after, of which `q` has as many as blocks have registers.
            unsafe {
                let planes = load_planes::<I, BASE3_PLANES>(isa, q, BASE3_PLANES * at);
                sums[0] = isa.base3_dots(sums[0], isa.load_at(blocks[0], at), planes);
                sums[1] = isa.base3_dots(sums[1], isa.load_at(blocks[1], at), planes);
                sums[2] = isa.base3_dots(sums[2], isa.load_at(blocks[2], at), planes);
                sums[3] = isa.base3_dots(sums[3], isa.load_at(blocks[3], at), planes);
            }
        }
        let mut sums = whole_sums(isa, sums);
        for sum in &mut sums {
            *sum >>= I::BASE3_SHIFT;
        }
        let scales = group_scales(isa, layout, rows, group);
        add_group(&mut totals, sums, *q_sum, scales);
    }
    totals
}
