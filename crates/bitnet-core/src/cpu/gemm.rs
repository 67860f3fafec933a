//! Many tokens against packed rows.
//!
//! A panel of rows is unpacked once, to a byte for each code, so that the i32 lanes of a register hold different rows:
//! four neighbouring codes of one row to a lane. Activations are broadcast four at a time, sums never have to be
//! added across a register, and a group's scales are applied to all rows of the panel at once.
//!
//! | what | order |
//! |---|---|
//! | panel | `[step, row, 4]`: a step is four columns, in the order of activations arranged for a width of 4; an instruction set may put it into another order of its own ([`IntegerIsa::settle`]) |
//! | activations of a tile | `[step, token, 4]` |

use super::f16::widen_f16;
use super::gemv::{ROWS, group_scales};
use super::integer::{BASE3_PLANES, IntegerIsa};
use super::interleave::{Interleaving, TOGETHER};
use super::layout::{PART, Planes, RowLayout};
use std::ops::Range;

/// The width that activations are arranged for.
pub(super) const WIDTH: usize = 4;
/// Words in a [`PART`].
const WORDS: usize = PART / 4;
/// Rows of the largest panel.
pub(super) const MOST_ROWS: usize = 64;
/// Tokens of the largest tile.
pub(super) const MOST_TOKENS: usize = 8;
/// Bytes that come from memory together.
const LINE: usize = 64;
/// Tokens that meet a group of a panel before the next group, a multiple of every tile: with it they stay near the core.
const NEAR: usize = 32;

/// Rows of tiles of at most `tile` tokens: full ones, then halves of what is left.
pub(super) fn tiles(tokens: usize, tile: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let left = tokens - first;
        let mut size = tile;
        while size > left {
            size /= 2;
        }
        let start = first;
        first += size;
        (size > 0).then_some((start, size))
    })
}

/// Activations of many tokens, tile after tile.
pub(super) struct Tiles<'a> {
    /// Bytes of one token.
    pub(super) token_bytes: usize,
    /// `[tile][step, token, 4]`.
    pub(super) q: &'a [i8],
    /// Σ q of each group: `tokens × groups`.
    pub(super) q_sums: &'a [i32],
    /// s of each token: q ≈ x·s.
    pub(super) scales: &'a [f32],
}

/// Where products go: columns of a matrix `[token, row]` that nobody else writes at the time.
pub(super) trait Products {
    /// The products of neighbouring rows with one token.
    fn put(&mut self, token: usize, row: usize, products: &[f32]);
}

/// Packed rows times many rows of activations.
pub(super) struct Gemm<'a> {
    pub(super) layout: &'a RowLayout,
    /// How the rows lie side by side, if they do.
    pub(super) interleaving: Option<&'a Interleaving>,
    /// How many rows are multiplied.
    pub(super) count: usize,
    /// These rows, and what is missing to whole blocks of rows side by side.
    pub(super) rows: &'a [u8],
    pub(super) row_bytes: usize,
    pub(super) tiles: Tiles<'a>,
    /// What every product is multiplied by in the end.
    pub(super) factor: f32,
    /// `panel rows × arranged length`.
    pub(super) codes: &'a mut [u8],
    /// `groups × panel rows`.
    pub(super) scales: &'a mut [f32],
    pub(super) products: &'a mut dyn Products,
}

/// Multiplies with panels of `VECTORS` registers of rows and tiles of `TOKENS` tokens.
#[inline(always)]
pub(super) fn run<I: IntegerIsa, const VECTORS: usize, const TOKENS: usize>(
    isa: I,
    job: &mut Gemm<'_>,
) {
    let panel_rows = VECTORS * I::WIDTH / 4;
    let lanes = I::WIDTH / 4;
    let row_bytes = job.row_bytes;
    let mut totals = [[0.0; MOST_ROWS]; NEAR];
    for first_row in (0..job.count).step_by(panel_rows) {
        let count = (job.count - first_row).min(panel_rows);
        match job.interleaving {
            Some(interleaving) => {
                let block = |i: usize| {
                    let bytes = interleaving.block_bytes();
                    // Past the last block, that block stands in.
                    let block = (first_row + i) / TOGETHER;
                    &job.rows[block.min(job.rows.len() / bytes - 1) * bytes..][..bytes]
                };
                let place = |i: usize| (first_row + i) % TOGETHER;
                unpack_interleaved::<I, VECTORS>(
                    isa,
                    job.layout,
                    interleaving,
                    (block, place),
                    job.codes,
                );
                for (group, scales) in job.scales.chunks_exact_mut(panel_rows).enumerate() {
                    for (i, scales) in scales.chunks_exact_mut(lanes).enumerate() {
                        let group = &block(i * lanes)[group * interleaving.group_bytes()..];
                        let bits = &interleaving.scales(group)[place(i * lanes)..];
                        for (scale, bits) in scales.iter_mut().zip(bits) {
                            *scale = widen_f16(*bits);
                        }
                    }
                }
            }
            None => {
                // Past the last row, that row stands in.
                let row =
                    |i: usize| &job.rows[(first_row + i.min(count - 1)) * row_bytes..][..row_bytes];
                unpack::<I, VECTORS>(isa, job.layout, row, job.codes);
                for (group, scales) in job.scales.chunks_exact_mut(panel_rows).enumerate() {
                    for (i, scales) in scales.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
                        let rows = [
                            row(ROWS * i),
                            row(ROWS * i + 1),
                            row(ROWS * i + 2),
                            row(ROWS * i + 3),
                        ];
                        *scales = group_scales(isa, job.layout, rows, group);
                    }
                }
            }
        }
        let group_codes = job.codes.len() / job.layout.groups;
        for codes in job.codes.chunks_exact_mut(group_codes) {
            isa.settle::<VECTORS>(codes);
        }
        let mut panel = Panel {
            layout: job.layout,
            codes: job.codes,
            scales: job.scales,
            first_row,
            count,
            factor: job.factor,
            tiles: &job.tiles,
            products: &mut *job.products,
        };
        let tokens = job.tiles.scales.len();
        let mut coming = job.rows.get((first_row + panel_rows) * row_bytes..);
        for first in (0..tokens).step_by(NEAR) {
            let near = first..(first + NEAR).min(tokens);
            let coming = coming.take().unwrap_or_default();
            let coming = &coming[..coming.len().min(panel_rows * row_bytes)];
            multiply::<I, VECTORS, TOKENS>(isa, &mut panel, near, coming, &mut totals);
        }
    }
}

/// Sixteen code bytes of each row of a register at a time are transposed to registers of a word of every row, and the planes
/// of those are steps.
#[inline(always)]
fn unpack<'a, I: IntegerIsa, const VECTORS: usize>(
    isa: I,
    layout: &RowLayout,
    row: impl Fn(usize) -> &'a [u8],
    panel: &mut [u8],
) {
    let lanes = I::WIDTH / 4;
    let step = VECTORS * I::WIDTH;
    let word_codes = layout.planes_per_byte() * step;
    let group_codes = panel.len() / layout.groups;
    for vector in 0..VECTORS {
        let mut rows = [row(vector * lanes); TOGETHER];
        for (lane, place) in rows[..lanes].iter_mut().enumerate().skip(1) {
            *place = row(vector * lanes + lane);
        }
        for (group, panel) in panel.chunks_exact_mut(group_codes).enumerate() {
            let first = group * layout.stride + layout.codes_at;
            for (part, panel) in panel.chunks_mut(WORDS * word_codes).enumerate() {
                let words = transposed(isa, &rows, first + part * PART);
                for (word, panel) in words.into_iter().zip(panel.chunks_exact_mut(word_codes)) {
                    store_planes(isa, layout, word, step, &mut panel[vector * I::WIDTH..]);
                }
            }
        }
    }
}

/// The four words from byte `at` of the rows of a register, zeros past their ends: a register for each word.
#[inline(always)]
fn transposed<I: IntegerIsa>(isa: I, rows: &[&[u8]; TOGETHER], at: usize) -> [I::Bytes; WORDS] {
    let lanes = I::WIDTH / 4;
    let whole = rows[..lanes].iter().all(|row| at + PART <= row.len());
    let ends = if whole {
        [[0; PART]; TOGETHER]
    } else {
        last_parts(rows, at)
    };
    let mut registers = [isa.splat(&[0; 4]); WORDS];
    for (word, register) in registers.iter_mut().enumerate() {
        let mut parts = [&ends[word]; 4];
        for (quarter, part) in parts[..lanes / WORDS].iter_mut().enumerate() {
            let row = quarter * WORDS + word;
            *part = if whole {
                // SAFETY: every row of the register has a part from `at` on.
                unsafe { &*rows[row].as_ptr().add(at).cast() }
            } else {
                &ends[row]
            };
        }
        *register = isa.load_parts(parts);
    }
    isa.transpose(registers)
}

/// The rest of rows from byte `at` on, and zeros.
#[cold]
fn last_parts(rows: &[&[u8]; TOGETHER], at: usize) -> [[u8; PART]; TOGETHER] {
    rows.map(|row| {
        let rest = &row[at.min(row.len())..];
        let rest = &rest[..rest.len().min(PART)];
        let mut part = [0; PART];
        part[..rest.len()].copy_from_slice(rest);
        part
    })
}

/// The words of rows that lie side by side are registers as they are.
#[inline(always)]
fn unpack_interleaved<'a, I: IntegerIsa, const VECTORS: usize>(
    isa: I,
    layout: &RowLayout,
    interleaving: &Interleaving,
    (block, place): (impl Fn(usize) -> &'a [u8], impl Fn(usize) -> usize),
    panel: &mut [u8],
) {
    let step = VECTORS * I::WIDTH;
    let group_bytes = interleaving.group_bytes();
    let group_codes = panel.len() / layout.groups;
    for vector in 0..VECTORS {
        let row = vector * I::WIDTH / 4;
        let groups = block(row).chunks_exact(group_bytes);
        for (group, panel) in groups.zip(panel.chunks_exact_mut(group_codes)) {
            let panel = panel.chunks_exact_mut(layout.planes_per_byte() * step);
            for (words, panel) in interleaving.words(group).iter().zip(panel) {
                let bytes = isa.load(&words[4 * place(row)..]);
                store_planes(isa, layout, bytes, step, &mut panel[vector * I::WIDTH..]);
            }
        }
    }
}

/// The codes of a register of code bytes, `step` bytes from one plane to the next.
#[inline(always)]
fn store_planes<I: IntegerIsa>(
    isa: I,
    layout: &RowLayout,
    mut bytes: I::Bytes,
    step: usize,
    panel: &mut [u8],
) {
    if matches!(layout.planes, Planes::Base3(_)) {
        for plane in 0..BASE3_PLANES {
            isa.store(isa.digit(bytes), &mut panel[plane * step..]);
            bytes = isa.triple(bytes);
        }
    } else {
        isa.store(isa.pair::<0>(bytes), panel);
        isa.store(isa.pair::<2>(bytes), &mut panel[step..]);
        isa.store(isa.pair::<4>(bytes), &mut panel[2 * step..]);
        isa.store(isa.pair::<6>(bytes), &mut panel[3 * step..]);
    }
}

/// Unpacked rows, and all they are to be multiplied by.
struct Panel<'a> {
    layout: &'a RowLayout,
    codes: &'a [u8],
    scales: &'a [f32],
    first_row: usize,
    /// Rows that are wanted.
    count: usize,
    factor: f32,
    tiles: &'a Tiles<'a>,
    products: &'a mut dyn Products,
}

/// Some tokens, whole tiles but for the last ones, against a panel: a group of it after the other, so that its codes stay
/// near while all of them meet it. Meanwhile the rows of the next panel come nearer.
#[inline(always)]
fn multiply<I: IntegerIsa, const VECTORS: usize, const TOKENS: usize>(
    isa: I,
    panel: &mut Panel<'_>,
    tokens: Range<usize>,
    coming: &[u8],
    totals: &mut [[f32; MOST_ROWS]; NEAR],
) {
    let panel_rows = VECTORS * I::WIDTH / 4;
    let totals = &mut totals[..tokens.len()];
    for totals in totals.iter_mut() {
        totals[..panel_rows].fill(0.0);
    }
    let share = coming.len().div_ceil(panel.layout.groups).max(1);
    let mut coming = coming.chunks(share);
    for group in 0..panel.layout.groups {
        for line in coming.next().unwrap_or_default().chunks(LINE) {
            isa.prefetch(line);
        }
        for (place, size) in tiles(tokens.len(), TOKENS) {
            let first = tokens.start + place;
            let totals = &mut totals[place..];
            match size {
                8 => tile::<I, VECTORS, 8>(isa, panel, group, first, totals),
                4 => tile::<I, VECTORS, 4>(isa, panel, group, first, totals),
                2 => tile::<I, VECTORS, 2>(isa, panel, group, first, totals),
                _ => tile::<I, VECTORS, 1>(isa, panel, group, first, totals),
            }
        }
    }
    for (token, totals) in tokens.zip(totals) {
        let token_scale = panel.tiles.scales[token];
        let totals = &mut totals[..panel_rows];
        for total in totals.iter_mut() {
            *total = *total / token_scale * panel.factor;
        }
        let wanted = &totals[..panel.count];
        panel.products.put(token, panel.first_row, wanted);
    }
}

/// Adds the products of one group of a panel with `TOKENS` tokens from `first`.
#[inline(always)]
fn tile<I: IntegerIsa, const VECTORS: usize, const TOKENS: usize>(
    isa: I,
    panel: &Panel<'_>,
    group: usize,
    first: usize,
    totals: &mut [[f32; MOST_ROWS]],
) {
    let lanes = I::WIDTH / 4;
    let panel_rows = VECTORS * lanes;
    let (groups, tiles) = (panel.layout.groups, panel.tiles);
    let codes = panel.codes.len() / groups;
    let codes = &panel.codes[group * codes..][..codes];
    let q = tiles.token_bytes / groups;
    let q = &tiles.q[first * tiles.token_bytes + group * TOKENS * q..][..TOKENS * q];
    let scales = &panel.scales[group * panel_rows..][..panel_rows];
    let sums = isa.panel_sums::<VECTORS, TOKENS>(codes, q);
    for (token, totals) in totals[..TOKENS].iter_mut().enumerate() {
        let q_sum = tiles.q_sums[(first + token) * groups + group];
        for vector in 0..VECTORS {
            let scales = &scales[vector * lanes..][..lanes];
            let totals = &mut totals[vector * lanes..];
            isa.add_scaled(totals, sums[token][vector], q_sum, scales);
        }
    }
}

/// Σ code·q of one group, `[token][register of rows]`, from dots.
#[inline(always)]
pub(super) fn group_sums<I: IntegerIsa, const VECTORS: usize, const TOKENS: usize>(
    isa: I,
    codes: &[u8],
    q: &[i8],
) -> [[I::Sums; VECTORS]; TOKENS] {
    let step = VECTORS * I::WIDTH;
    let mut sums = [[isa.zero(); VECTORS]; TOKENS];
    let q = q.as_chunks::<4>().0;
    // Where dots go straight to i32 there is one run.
    let run = I::RUN.min(codes.len() / step).max(1);
    for (codes, q) in codes.chunks(run * step).zip(q.chunks(run * TOKENS)) {
        let mut open = [[isa.open(sums[0][0]); VECTORS]; TOKENS];
        for token in 0..TOKENS {
            for vector in 0..VECTORS {
                open[token][vector] = isa.open(sums[token][vector]);
            }
        }
        for (codes, q) in codes.chunks_exact(step).zip(q.as_chunks::<TOKENS>().0) {
            let mut registers = [isa.load(codes); VECTORS];
            for (vector, register) in registers.iter_mut().enumerate().skip(1) {
                *register = isa.load(&codes[vector * I::WIDTH..]);
            }
            for token in 0..TOKENS {
                let q = isa.splat(&q[token]);
                for vector in 0..VECTORS {
                    open[token][vector] = isa.dot(open[token][vector], registers[vector], q);
                }
            }
        }
        for token in 0..TOKENS {
            for vector in 0..VECTORS {
                sums[token][vector] = isa.close(sums[token][vector], open[token][vector]);
            }
        }
    }
    sums
}
