//! Products of packed rows: one row of floats with four, or four with four, which share the decoding.

use super::*;
use crate::simd::lanes::padded;

/// Σ xᵢ·wᵢ of four rows of a dense format, over the shorter length; 0 for any other format.
#[derive(Clone, Copy)]
pub(crate) struct DotPacked<'a> {
    pub(crate) format: Format,
    pub(crate) x: &'a [f32],
    pub(crate) rows: [&'a [u8]; ROWS],
}

impl SimdOp for DotPacked<'_> {
    type Output = [f32; ROWS];

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) -> [f32; ROWS] {
        let Self { format, x, rows } = self;
        with_packed!(format, dot_one::<I>(isa, x, rows), else [0.0; ROWS])
    }
}

/// The products of four rows of a dense format with the first `tokens` of four of floats, `[row][token]`: each weight is
/// decoded once or twice. Sums are over the shortest length; 0 for any other format.
#[derive(Clone, Copy)]
pub(crate) struct DotTile<'a> {
    pub(crate) format: Format,
    pub(crate) x: [&'a [f32]; ROWS],
    pub(crate) tokens: usize,
    pub(crate) rows: [&'a [u8]; ROWS],
}

impl SimdOp for DotTile<'_> {
    type Output = [[f32; ROWS]; ROWS];

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) -> [[f32; ROWS]; ROWS] {
        let Self {
            format,
            x,
            tokens,
            rows,
        } = self;
        let none = [[0.0; ROWS]; ROWS];
        with_packed!(format, dot_four::<I>(isa, x, tokens, rows), else none)
    }
}

/// x times four rows.
#[inline(always)]
fn dot_one<I: Isa, P: Packed<BYTES>, const BYTES: usize>(
    isa: I,
    x: &[f32],
    rows: [&[u8]; ROWS],
) -> [f32; ROWS] {
    dot_rows::<I, P, BYTES, ROWS, 1>(isa, [x], rows).map(|[sum]| sum)
}

/// The first `tokens` of x times four rows.
#[inline(always)]
fn dot_four<I: Isa, P: Packed<BYTES>, const BYTES: usize>(
    isa: I,
    x: [&[f32]; ROWS],
    tokens: usize,
    rows: [&[u8]; ROWS],
) -> [[f32; ROWS]; ROWS] {
    if registers(isa) == 1 {
        return dot_rows::<I, P, BYTES, ROWS, ROWS>(isa, x, rows);
    }
    let mut out = [[0.0; ROWS]; ROWS];
    if cfg!(target_arch = "wasm32") {
        // A page is smaller without tiles of each format, and multiplies its head by one token at a time.
        for token in 0..tokens {
            let sums = dot_rows::<I, P, BYTES, ROWS, 1>(isa, [x[token]], rows);
            for (out, sums) in out.iter_mut().zip(sums) {
                out[token] = sums[0];
            }
        }
        return out;
    }
    // Sixteen lanes fill several registers: a quarter of the tile at a time stays in them.
    for (row, token) in [(0, 0), (2, 0), (0, 2), (2, 2)] {
        if token < tokens {
            let x = [x[token], x[token + 1]];
            let rows = [rows[row], rows[row + 1]];
            let sums = dot_rows::<I, P, BYTES, 2, 2>(isa, x, rows);
            for (out, sums) in out[row..].iter_mut().zip(sums) {
                out[token..token + 2].copy_from_slice(&sums);
            }
        }
    }
    out
}

/// Rows of floats times packed rows, `[row][token]`. Lanes that the last columns do not reach add 0, which changes no lane:
/// none is ever −0.
///
/// Registers stay out of closures given to the standard library, which are compiled without the target's features.
///
/// WebAssembly has no features to lose by a call, and keeps one copy of the loops instead of one for each quarter of a tile.
#[cfg_attr(target_arch = "wasm32", inline(never))]
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
fn dot_rows<I: Isa, P: Packed<BYTES>, const BYTES: usize, const R: usize, const T: usize>(
    isa: I,
    x: [&[f32]; T],
    rows: [&[u8]; R],
) -> [[f32; T]; R] {
    let width = P::TURNS * P::STEPS * LANES;
    let bytes = rows.iter().fold(usize::MAX, |least, r| least.min(r.len()));
    let most = bytes * width / BYTES;
    let columns = x.iter().fold(most, |least, x| least.min(x.len()));
    let count = columns / width;
    let blocks = rows.map(|row| &row.as_chunks::<BYTES>().0[..count]);
    let whole = x.map(|x| x[..count * width].as_chunks::<LANES>().0);
    let mut lanes = [[zeros(isa); T]; R];
    let mut open = [P::closed(isa); R];
    for i in 0..count {
        let blocks = blocks.map(|row| &row[i]);
        for row in 0..R {
            if P::FAR {
                prefetch_ahead::<R, I>(isa, blocks[row]);
            }
            P::open(isa, blocks[row], &mut open[row]);
        }
        for turn in 0..P::TURNS {
            let first = (i * P::TURNS + turn) * P::STEPS;
            let whole = whole.map(|x| &x[first..first + P::STEPS]);
            for_each_step!(P, STEP => {
                let mut x = [zeros(isa); T];
                for token in 0..T {
                    x[token] = load(isa, &whole[token][STEP]);
                }
                for row in 0..R {
                    let w = P::sixteen::<I, STEP>(isa, blocks[row], &open[row], turn);
                    for token in 0..T {
                        multiply_add(isa, &mut lanes[row][token], &x[token], &w);
                    }
                }
            });
        }
    }
    let mut sums = [[0.0; T]; R];
    let rest = count * width..columns;
    for row in 0..R {
        // Blocks of at most 256.
        let mut w = [0.0; 256];
        let w = &mut w[..rest.len()];
        if !rest.is_empty() {
            unpack::<I, P, BYTES>(isa, &rows[row][count * BYTES..], w);
        }
        for token in 0..T {
            let x = x[token][rest.clone()].chunks(LANES);
            for (x, w) in x.zip(w.chunks(LANES)) {
                let (x, w) = (load(isa, &padded(x, 0.0)), load(isa, &padded(w, 0.0)));
                multiply_add(isa, &mut lanes[row][token], &x, &w);
            }
            sums[row][token] = finish(isa, &lanes[row][token]);
        }
    }
    sums
}
