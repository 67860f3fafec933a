//! Tiles of products: four rows of floats with four others, each sum in the fixed order.

use super::lanes::{LANES, padded};
use super::packed::{ROWS, finish, load, multiply_add, registers, zeros};
use rten_simd::{Isa, SimdOp};

/// Products of four rows of floats with four others, row of `w` by row of `x`: `out[4·w + x]`. As many columns count
/// as the shortest row has.
pub(crate) struct DotTile<'a> {
    pub(crate) x: [&'a [f32]; ROWS],
    pub(crate) w: [&'a [f32]; ROWS],
}

impl SimdOp for DotTile<'_> {
    type Output = [f32; ROWS * ROWS];

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) -> [f32; ROWS * ROWS] {
        let Self { x, w } = self;
        if registers(isa) == 1 {
            return tile::<I, ROWS, { ROWS * ROWS }>(isa, x, w);
        }
        let mut out = [0.0; ROWS * ROWS];
        // Sixteen lanes fill several registers: a quarter of the tile at a time stays in them.
        for (row, token) in [(0, 0), (0, 2), (2, 0), (2, 2)] {
            let x = [x[token], x[token + 1]];
            let w = [w[row], w[row + 1]];
            for (i, value) in tile::<I, 2, 4>(isa, x, w).into_iter().enumerate() {
                out[ROWS * (row + i / 2) + token + i % 2] = value;
            }
        }
        out
    }
}

/// `SIDE × SIDE` products, `AREA` of them.
#[inline(always)]
fn tile<I: Isa, const SIDE: usize, const AREA: usize>(
    isa: I,
    x: [&[f32]; SIDE],
    w: [&[f32]; SIDE],
) -> [f32; AREA] {
    let columns = x
        .iter()
        .chain(&w)
        .fold(usize::MAX, |n, row| n.min(row.len()));
    let count = columns / LANES;
    let xs = x.map(|row| &row.as_chunks::<LANES>().0[..count]);
    let ws = w.map(|row| &row.as_chunks::<LANES>().0[..count]);
    let mut lanes = [zeros(isa); AREA];
    for i in 0..count {
        let mut x = [zeros(isa); SIDE];
        for token in 0..SIDE {
            x[token] = load(isa, &xs[token][i]);
        }
        for row in 0..SIDE {
            let w = load(isa, &ws[row][i]);
            for token in 0..SIDE {
                multiply_add(isa, &mut lanes[SIDE * row + token], &x[token], &w);
            }
        }
    }
    let rest = count * LANES..columns;
    if !rest.is_empty() {
        for row in 0..SIDE {
            let w = load(isa, &padded(&w[row][rest.clone()], 0.0));
            for token in 0..SIDE {
                let x = load(isa, &padded(&x[token][rest.clone()], 0.0));
                multiply_add(isa, &mut lanes[SIDE * row + token], &x, &w);
            }
        }
    }
    let mut out = [0.0; AREA];
    for i in 0..AREA {
        out[i] = finish(isa, &lanes[i]);
    }
    out
}
