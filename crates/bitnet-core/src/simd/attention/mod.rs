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
use load::Load;
use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};
use softmax::Running;

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
    if queries >= WIDENED_FROM && keys_values.kv != crate::KvType::F32 {
        2 * keys_values.dim * POSITIONS
    } else {
        0
    }
}

impl SimdOp for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        with_stored!(self.keys_values.kv, T => attend::<I, T>(isa, self));
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
}

/// Whether there are 32 registers, so that larger tiles stay in them.
#[inline(always)]
fn has_many_registers<I: Isa>(isa: I) -> bool {
    isa.f32().len() == 16 || cfg!(target_arch = "aarch64")
}

/// Calls `$function::<I, T, QUERIES, REGISTERS>` with `$from` for tiles of the queries of `$range`.
macro_rules! for_each_tile {
    ($isa:ident, $range:expr, $function:ident::<$i:ident, $t:ident>($from:ident => $($arg:expr),*)) => {{
        let std::ops::Range { start: mut $from, end } = $range;
        while $from < end {
            let left = end - $from;
            if has_many_registers($isa) {
                $from += match left {
                    6.. => { $function::<$i, $t, 6, 4>($($arg),*); 6 }
                    4.. => { $function::<$i, $t, 4, 4>($($arg),*); 4 }
                    3 => { $function::<$i, $t, 3, 4>($($arg),*); 3 }
                    2 => { $function::<$i, $t, 2, 4>($($arg),*); 2 }
                    _ => { $function::<$i, $t, 1, 4>($($arg),*); 1 }
                };
            } else {
                $from += match left {
                    4.. => { $function::<$i, $t, 4, 2>($($arg),*); 4 }
                    3 => { $function::<$i, $t, 3, 2>($($arg),*); 3 }
                    2 => { $function::<$i, $t, 2, 2>($($arg),*); 2 }
                    _ => { $function::<$i, $t, 1, 2>($($arg),*); 1 }
                };
            }
        }
    }};
}

#[inline(always)]
fn attend<I: Isa, T: Load>(isa: I, op: Attend<'_>) {
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
        weights,
        running,
        out,
    };
    let blocks = (positions + (count - 1) / group).div_ceil(POSITIONS);
    for block in 0..blocks {
        let head = keys_values.block::<T>(block);
        let next = if block + 1 < blocks {
            keys_values.block::<T>(block + 1).keys
        } else {
            &[]
        };
        if widened > 0 {
            let most = all.count(count - 1, block);
            load::widen(isa, &head, most, next, (&mut *wide_keys, &mut *wide_values));
            let head = HeadBlock {
                keys: &*wide_keys,
                values: &*wide_values,
                scales: [&[]; 2],
            };
            one_block::<I, f32>(isa, &mut all, block, &head, &[], &[]);
        } else {
            one_block::<I, T>(isa, &mut all, block, &head, head.values, next);
        }
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

/// Attends to the positions of a block. `values` and `next` are what will be read after the keys and after the values.
#[inline(always)]
fn one_block<I: Isa, T: Load>(
    isa: I,
    all: &mut Queries<'_>,
    block: usize,
    head: &HeadBlock<'_, T>,
    values: &[T],
    next: &[T],
) {
    // Tokens whose positions end before the block.
    let ended = (block * POSITIONS + 1).saturating_sub(all.positions) * all.group;
    let at_work = ended..all.len();
    let mut ahead = values;
    for_each_tile!(isa, at_work.clone(), scores::<I, T>(from => isa, all, from, head, &mut ahead));
    let scale = 1.0 / (all.dim as f32).sqrt();
    for query in at_work.clone() {
        let count = all.count(query, block);
        softmax::weigh(
            isa,
            &mut all.weights[query * POSITIONS..][..count],
            scale,
            (&mut *all.running, query),
            &mut all.out[query * all.dim..][..all.dim],
        );
    }
    ahead = next;
    for_each_tile!(isa, at_work, add_values::<I, T>(from => isa, all, from, block, head, &mut ahead));
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

/// Adds the values of a tile: of the positions that all its queries attend to together, of the others for each query.
#[inline(always)]
fn add_values<I: Isa, T: Load, const Q: usize, const R: usize>(
    isa: I,
    all: &mut Queries<'_>,
    from: usize,
    block: usize,
    head: &HeadBlock<'_, T>,
    ahead: &mut &[T],
) {
    let common = all.count(from, block);
    let weights = &all.weights[from * POSITIONS..][..Q * POSITIONS];
    let out = &mut all.out[from * all.dim..][..Q * all.dim];
    let ahead = std::mem::take(ahead);
    tile::add_values::<I, T, Q, R>(isa, weights, head, 0..common, ahead, out);
    if all.count(from + Q - 1, block) == common {
        return;
    }
    for query in from..from + Q {
        let positions = common..all.count(query, block);
        let weights = &all.weights[query * POSITIONS..][..POSITIONS];
        let out = &mut all.out[query * all.dim..][..all.dim];
        tile::add_values::<I, T, 1, R>(isa, weights, head, positions, &[], out);
    }
}
