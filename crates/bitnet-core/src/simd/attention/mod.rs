//! Attention of the query heads that share a head of keys and values: softmax(q·kⱼ / √dim), then the values by those
//! weights, in one pass over blocks of positions.
//!
//! A score is summed from the first column to the last, the values from the first position to the last. Each query keeps
//! the largest score so far, the sum of weights and the weighted sum of values; where a block has a larger score, both sums
//! are scaled down before it is added. All of that is one order for a query, whatever other queries are at work: a block
//! is read once for all of them, in tiles of a few queries by a few registers, and while one half of a block is at work
//! the next half comes nearer. Many queries widen a block to f32 once; few do it in registers, in every tile.

mod load;
mod softmax;
mod tile;

use super::keys_values::{HeadBlock, KeysValues, POSITIONS, with_stored};
use crate::KvType;
use half::f16;
use load::Load;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};
use softmax::Running;
use std::ops::Range;

/// From so many queries on a block is widened to f32 before they read it: it costs as much as two tiles that widen it in
/// their registers.
const WIDENED_FROM: usize = 16;

/// Query heads of some neighbouring tokens that share a head of keys and values.
pub(crate) struct Attend<'a> {
    /// `[token, query head, dim]`.
    pub(crate) queries: &'a [f32],
    /// Query heads of a token.
    pub(crate) group: usize,
    /// The positions that the first token attends to; each token after it attends to one more.
    pub(crate) keys_values: KeysValues<'a>,
    /// Room for [`Attend::scratch`] numbers, of any value.
    pub(crate) scratch: &'a mut [f32],
    /// Becomes the sums of values, `[token, query head, dim]`.
    pub(crate) out: &'a mut [f32],
}

impl Attend<'_> {
    /// Numbers of scratch that so many queries need.
    pub(crate) fn scratch(queries: usize, keys_values: &KeysValues<'_>) -> usize {
        let weights = queries * (POSITIONS + Running::FLOATS);
        weights + widened_floats(queries, keys_values)
    }
}

/// Numbers of a block that is widened, if it is.
fn widened_floats(queries: usize, keys_values: &KeysValues<'_>) -> usize {
    if queries >= WIDENED_FROM && keys_values.kv != KvType::F32 {
        2 * keys_values.dim * POSITIONS
    } else {
        0
    }
}

impl SimdOp for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        attend(isa, self);
    }
}

/// Queries at work on a block.
struct Queries<'a> {
    /// `[query, dim]`.
    queries: &'a [f32],
    group: usize,
    dim: usize,
    /// Positions of the first token.
    positions: usize,
    /// Positions that each token attends to at most.
    window: usize,
    /// `[query, POSITIONS]`.
    weights: &'a mut [f32],
    running: &'a mut [f32],
    /// `[query, dim]`.
    out: &'a mut [f32],
}

impl Queries<'_> {
    fn len(&self) -> usize {
        self.queries.len() / self.dim
    }

    /// How many positions of a block a query attends to.
    #[inline(always)]
    fn count(&self, query: usize, block: usize) -> usize {
        let positions = self.positions + query / self.group;
        positions.saturating_sub(block * POSITIONS).min(POSITIONS)
    }

    /// The first position of a block that a query attends to.
    #[inline(always)]
    fn start(&self, query: usize, block: usize) -> usize {
        if !HAS_WINDOWS {
            return 0;
        }
        let first = (self.positions + query / self.group).saturating_sub(self.window);
        first.saturating_sub(block * POSITIONS).min(POSITIONS)
    }

    /// The block of the first position that any query attends to.
    #[inline(always)]
    fn first_block(&self) -> usize {
        if HAS_WINDOWS {
            self.positions.saturating_sub(self.window) / POSITIONS
        } else {
            0
        }
    }

    /// Those that attend to positions of a block: not tokens whose positions end before it, nor those whose windows begin
    /// behind it.
    #[inline(always)]
    fn at_work(&self, block: usize) -> Range<usize> {
        let ended = (block * POSITIONS + 1).saturating_sub(self.positions) * self.group;
        let end = (block + 1) * POSITIONS;
        let begun = end.saturating_add(self.window) - self.positions.min(end);
        if HAS_WINDOWS {
            ended..begun.saturating_mul(self.group).min(self.len())
        } else {
            ended..self.len()
        }
    }
}

/// Whether any layer has a window: not in a browser, for which models of such layers are too large.
const HAS_WINDOWS: bool = !cfg!(target_arch = "wasm32");

/// Whether there are 32 registers, so that larger tiles stay in them.
#[inline(always)]
fn has_many_registers<I: Isa>(isa: I) -> bool {
    isa.f32().len() == 16 || cfg!(target_arch = "aarch64")
}

/// Calls `$function::<I, T, QUERIES, REGISTERS>` for tiles of the queries of `$range`, of which `$from` is a tile's first,
/// and after each tile `$then` for its queries, `$tile`.
macro_rules! for_each_tile {
    (
        $isa:ident, $range:expr, $function:ident::<$i:ident, $t:ident>($from:ident => $($arg:expr),*),
        $tile:ident => $then:block
    ) => {{
        let Range { start: mut $from, end } = $range;
        while $from < end {
            let left = end - $from;
            let count = if has_many_registers($isa) {
                match left {
                    6.. => { $function::<$i, $t, 6, 4>($($arg),*); 6 }
                    4.. => { $function::<$i, $t, 4, 4>($($arg),*); 4 }
                    3 => { $function::<$i, $t, 3, 4>($($arg),*); 3 }
                    2 => { $function::<$i, $t, 2, 4>($($arg),*); 2 }
                    _ => { $function::<$i, $t, 1, 4>($($arg),*); 1 }
                }
            } else {
                match left {
                    4.. => { $function::<$i, $t, 4, 2>($($arg),*); 4 }
                    2.. if !cfg!(target_arch = "wasm32") => { $function::<$i, $t, 2, 2>($($arg),*); 2 }
                    _ => { $function::<$i, $t, 1, 2>($($arg),*); 1 }
                }
            };
            let $tile = $from..$from + count;
            $then
            $from += count;
        }
    }};
}

#[inline(always)]
fn attend<I: Isa>(isa: I, op: Attend<'_>) {
    let Attend {
        queries,
        group,
        keys_values,
        scratch,
        out,
    } = op;
    let KeysValues { dim, positions, .. } = keys_values;
    let count = queries.len() / dim;
    let (weights, scratch) = scratch.split_at_mut(count * POSITIONS);
    let (running, scratch) = scratch.split_at_mut(count * Running::FLOATS);
    let widened = widened_floats(count, &keys_values);
    let (wide_keys, wide_values) = scratch[..widened].split_at_mut(widened / 2);
    Running::begin(running);
    out.fill(0.0);
    let mut all = Queries {
        queries,
        group,
        dim,
        positions,
        window: keys_values.window,
        weights,
        running,
        out,
    };
    let blocks = (positions + (count - 1) / group).div_ceil(POSITIONS);
    for block in all.first_block()..blocks {
        let rest = block..blocks;
        // One place for f32, so that its kernels are compiled once.
        let (head, ahead) = match keys_values.kv {
            KvType::F16 if widened == 0 => {
                let (head, ahead) = head_and_ahead::<f16>(&keys_values, rest);
                one_block(isa, &mut all, block, &head, ahead);
                continue;
            }
            KvType::Int8 if widened == 0 => {
                let (head, ahead) = head_and_ahead::<i8>(&keys_values, rest);
                one_block(isa, &mut all, block, &head, ahead);
                continue;
            }
            KvType::F32 => head_and_ahead::<f32>(&keys_values, rest),
            kv => {
                let most = all.count(count - 1, block);
                with_stored!(kv, T => {
                    let (head, [_, next]) = head_and_ahead::<T>(&keys_values, rest);
                    load::widen(isa, &head, most, next, (&mut *wide_keys, &mut *wide_values));
                });
                let head = HeadBlock {
                    keys: &*wide_keys,
                    values: &*wide_values,
                    scales: [&[]; 2],
                };
                (head, [&[][..]; 2])
            }
        };
        one_block(isa, &mut all, block, &head, ahead);
    }
    for query in 0..count {
        let inverse = 1.0 / Running::read(all.running, query).sum;
        let out = &mut all.out[query * dim..][..dim];
        super::lanes::map_in_place(
            isa,
            out,
            #[inline(always)]
            |x| isa.f32().mul(x, isa.f32().splat(inverse)),
        );
    }
}

/// The first block of `blocks`, and what will be read after its keys and after its values.
#[inline(always)]
fn head_and_ahead<'a, T: Load>(
    keys_values: &KeysValues<'a>,
    blocks: Range<usize>,
) -> (HeadBlock<'a, T>, [&'a [T]; 2]) {
    let head = keys_values.block::<T>(blocks.start);
    let next = if blocks.len() > 1 {
        keys_values.block::<T>(blocks.start + 1).keys
    } else {
        &[]
    };
    (head, [head.values, next])
}

/// Attends to the positions of a block. What is ahead will be read after the keys and after the values.
#[inline(always)]
fn one_block<I: Isa, T: Load>(
    isa: I,
    all: &mut Queries<'_>,
    block: usize,
    head: &HeadBlock<'_, T>,
    [values, next]: [&[T]; 2],
) {
    let at_work = all.at_work(block);
    let mut ahead = values;
    for_each_tile!(
        isa, at_work.clone(), scores::<I, T>(from => isa, all, from, head, &mut ahead), _tile => {}
    );
    let scale = 1.0 / (all.dim as f32).sqrt();
    for query in at_work.clone() {
        let (start, count) = (all.start(query, block), all.count(query, block));
        let weights = &mut all.weights[query * POSITIONS..][..count];
        // Of a tile some may attend to positions that others do not: times 0 they add nothing.
        weights[..start].fill(0.0);
        softmax::weigh(
            isa,
            &mut weights[start..],
            scale,
            (&mut *all.running, query),
            &mut all.out[query * all.dim..][..all.dim],
        );
    }
    ahead = next;
    for_each_tile!(
        isa, at_work, add_values::<I, T>(from => isa, all, block, from, head, &mut ahead),
        tile => { add_rest(isa, all, block, tile, head); }
    );
}

/// Scores of a tile. The first tile fetches what is `ahead`.
#[inline(always)]
fn scores<I: Isa, T: Load, const Q: usize, const R: usize>(
    isa: I,
    all: &mut Queries<'_>,
    from: usize,
    head: &HeadBlock<'_, T>,
    ahead: &mut &[T],
) {
    let queries = &all.queries[from * all.dim..][..Q * all.dim];
    let scores = &mut all.weights[from * POSITIONS..][..Q * POSITIONS];
    tile::scores::<I, T, Q, R>(isa, queries, head, std::mem::take(ahead), scores);
}

/// Columns of a head that tiles add up; the others are few.
#[inline(always)]
fn tiled_columns<I: Isa>(isa: I, dim: usize) -> usize {
    let registers = if has_many_registers(isa) { 4 } else { 2 };
    dim - dim % (registers * isa.f32().len())
}

/// Adds the values of a tile, of the positions that all its queries attend to. The first tile fetches what is `ahead`.
#[inline(always)]
fn add_values<I: Isa, T: Load, const Q: usize, const R: usize>(
    isa: I,
    all: &mut Queries<'_>,
    block: usize,
    from: usize,
    head: &HeadBlock<'_, T>,
    ahead: &mut &[T],
) {
    let positions = all.start(from, block)..all.count(from, block);
    let weights = &all.weights[from * POSITIONS..][..Q * POSITIONS];
    let out = &mut all.out[from * all.dim..][..Q * all.dim];
    let mut ahead = std::mem::take(ahead);
    for column in (0..tiled_columns(isa, all.dim)).step_by(R * isa.f32().len()) {
        tile::add_values::<I, T, Q, R>(isa, weights, head, positions.clone(), ahead, column, out);
        ahead = &[];
    }
}

/// Adds what [`add_values`] leaves, query by query: positions that the first of a tile does not attend to, and the last
/// columns.
#[inline(always)]
fn add_rest<I: Isa, T: Load>(
    isa: I,
    all: &mut Queries<'_>,
    block: usize,
    tile: Range<usize>,
    head: &HeadBlock<'_, T>,
) {
    let width = isa.f32().len();
    let tiled = tiled_columns(isa, all.dim);
    let pairs = all.dim - all.dim % (2 * width);
    let common = all.count(tile.start, block);
    if tiled == all.dim && all.count(tile.end - 1, block) == common {
        return;
    }
    for query in tile {
        let (start, count) = (all.start(query, block), all.count(query, block));
        let weights = &all.weights[query * POSITIONS..][..POSITIONS];
        let out = &mut all.out[query * all.dim..][..all.dim];
        for column in (0..pairs).step_by(2 * width) {
            let from = if column < tiled { common } else { start };
            tile::add_values::<I, T, 1, 2>(isa, weights, head, from..count, &[], column, out);
        }
        tile::add_last_columns(weights, head, count, pairs, out);
    }
}
