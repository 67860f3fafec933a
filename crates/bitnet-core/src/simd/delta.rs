//! The gated delta rule: the recurrence of a gated delta net, for one head and some tokens.
//!
//! A head's state is a matrix S of `keys × columns`. For each token with key k, query q (scaled already), value v, decay d and
//! rate β:
//!
//! `S ← d·S; m = Sᵀk; S ← S + k·(β·(v − m))ᵀ; o = Sᵀq`
//!
//! Columns do not depend on each other, so that blocks of [`COLUMNS`] of them run through all tokens while they are near. Sums over
//! the keys run in the order of the keys, lanes over columns; nothing is fused. The bits do not depend on how tokens are divided.

use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp};

/// Columns of a block of the state, which lies together: `[block][key][column]`. The last block may have fewer.
pub(crate) const COLUMNS: usize = 64;
/// Registers of columns that run together.
const REGISTERS: usize = 4;

/// One head of the rows of a span.
pub(crate) struct Delta<'a> {
    /// `[tokens, keys]`, rows `stride` numbers apart.
    pub(crate) queries: &'a [f32],
    /// As the queries.
    pub(crate) keys: &'a [f32],
    /// `[tokens, columns]`, rows `stride` numbers apart.
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
    /// Decay and rate of each token.
    pub(crate) gates: &'a [[f32; 2]],
    /// Keys and columns.
    pub(crate) shape: [usize; 2],
    /// The state before the tokens, in blocks of columns.
    pub(crate) before: &'a [f32],
    /// Becomes the state behind them.
    pub(crate) behind: &'a mut [f32],
    /// Becomes the outputs, `[tokens, columns]`.
    pub(crate) out: &'a mut [f32],
}

impl SimdOp for Delta<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let [keys, columns] = self.shape;
        let head = Head {
            queries: self.queries,
            keys: self.keys,
            values: self.values,
            stride: self.stride,
            gates: self.gates,
            shape: self.shape,
        };
        self.behind.copy_from_slice(self.before);
        let width = isa.f32().len();
        for first in (0..columns).step_by(COLUMNS) {
            let count = COLUMNS.min(columns - first);
            let state = &mut self.behind[first * keys..][..count * keys];
            let mut column = 0;
            while column < count {
                let place = Place {
                    first: first + column,
                    column,
                    stride: count,
                };
                column += match count - column {
                    left if left >= REGISTERS * width => {
                        run::<I, REGISTERS>(isa, &head, place, state, self.out);
                        REGISTERS * width
                    }
                    left if left >= width => {
                        run::<I, 1>(isa, &head, place, state, self.out);
                        width
                    }
                    _ => {
                        run_column(&head, place, state, self.out);
                        1
                    }
                };
            }
        }
    }
}

/// What all columns of a head share.
struct Head<'a> {
    queries: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
    stride: usize,
    gates: &'a [[f32; 2]],
    shape: [usize; 2],
}

/// Some columns: of the head, and within their block, whose rows have `stride` of them.
#[derive(Clone, Copy)]
struct Place {
    first: usize,
    column: usize,
    stride: usize,
}

#[inline(always)]
fn run<I: Isa, const R: usize>(
    isa: I,
    head: &Head<'_>,
    place: Place,
    state: &mut [f32],
    out: &mut [f32],
) {
    let ops = isa.f32();
    let width = ops.len();
    let [count, columns] = head.shape;
    for (token, &[decay, rate]) in head.gates.iter().enumerate() {
        let keys = &head.keys[token * head.stride..][..count];
        let queries = &head.queries[token * head.stride..][..count];
        let (decay, rate) = (ops.splat(decay), ops.splat(rate));
        let mut sums = [ops.zero(); R];
        for (key, row) in keys.iter().zip(state.chunks_exact_mut(place.stride)) {
            let key = ops.splat(*key);
            let row = row[place.column..][..R * width].chunks_exact_mut(width);
            for (sum, row) in sums.iter_mut().zip(row) {
                let s = ops.mul(decay, ops.load(row));
                ops.store(s, row);
                *sum = ops.add(*sum, ops.mul(s, key));
            }
        }
        let values = &head.values[token * head.stride + place.first..][..R * width];
        let mut updates = [ops.zero(); R];
        for ((update, sum), value) in updates.iter_mut().zip(sums).zip(values.chunks_exact(width)) {
            *update = ops.mul(rate, ops.sub(ops.load(value), sum));
        }
        let mut sums = [ops.zero(); R];
        let rows = state.chunks_exact_mut(place.stride);
        for ((key, query), row) in keys.iter().zip(queries).zip(rows) {
            let (key, query) = (ops.splat(*key), ops.splat(*query));
            let row = row[place.column..][..R * width].chunks_exact_mut(width);
            for ((sum, update), row) in sums.iter_mut().zip(updates).zip(row) {
                let s = ops.add(ops.load(row), ops.mul(key, update));
                ops.store(s, row);
                *sum = ops.add(*sum, ops.mul(s, query));
            }
        }
        let out = &mut out[token * columns + place.first..][..R * width];
        for (sum, out) in sums.into_iter().zip(out.chunks_exact_mut(width)) {
            ops.store(sum, out);
        }
    }
}

/// [`run`] of one column.
fn run_column(head: &Head<'_>, place: Place, state: &mut [f32], out: &mut [f32]) {
    let [count, columns] = head.shape;
    for (token, &[decay, rate]) in head.gates.iter().enumerate() {
        let keys = &head.keys[token * head.stride..][..count];
        let queries = &head.queries[token * head.stride..][..count];
        let column = || (0..count).map(|key| key * place.stride + place.column);
        let mut sum = 0.0;
        for (key, at) in keys.iter().zip(column()) {
            state[at] *= decay;
            sum += state[at] * key;
        }
        let update = rate * (head.values[token * head.stride + place.first] - sum);
        let mut sum = 0.0;
        for ((key, query), at) in keys.iter().zip(queries).zip(column()) {
            state[at] += key * update;
            sum += state[at] * query;
        }
        out[token * columns + place.first] = sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Inputs {
        shape: [usize; 2],
        queries: Vec<f32>,
        keys: Vec<f32>,
        values: Vec<f32>,
        gates: Vec<[f32; 2]>,
    }

    impl Inputs {
        fn run(&self, tokens: std::ops::Range<usize>, state: &mut Vec<f32>) -> Vec<f32> {
            let [keys, columns] = self.shape;
            let mut out = vec![f32::NAN; tokens.len() * columns];
            let mut behind = vec![f32::NAN; state.len()];
            let stride = 2 * keys + columns;
            let mut rows = Vec::new();
            for token in tokens.clone() {
                rows.extend_from_slice(&self.queries[token * keys..][..keys]);
                rows.extend_from_slice(&self.keys[token * keys..][..keys]);
                rows.extend_from_slice(&self.values[token * columns..][..columns]);
            }
            rows.extend(vec![f32::NAN; stride]);
            Delta {
                queries: &rows,
                keys: &rows[keys..],
                values: &rows[2 * keys..],
                stride,
                gates: &self.gates[tokens],
                shape: self.shape,
                before: state,
                behind: &mut behind,
                out: &mut out,
            }
            .dispatch();
            *state = behind;
            out
        }

        /// Every column by itself, the state as a matrix.
        fn reference(&self, tokens: std::ops::Range<usize>, state: &mut [f32]) -> Vec<f32> {
            let [keys, columns] = self.shape;
            let mut out = vec![0.0; tokens.len() * columns];
            for (row, token) in tokens.enumerate() {
                let [decay, rate] = self.gates[token];
                for column in 0..columns {
                    let block = column / COLUMNS * COLUMNS;
                    let stride = COLUMNS.min(columns - block);
                    let at = |key: usize| block * keys + key * stride + column - block;
                    let mut sum = 0.0;
                    for key in 0..keys {
                        state[at(key)] *= decay;
                        sum += state[at(key)] * self.keys[token * keys + key];
                    }
                    let update = rate * (self.values[token * columns + column] - sum);
                    let mut sum = 0.0;
                    for key in 0..keys {
                        state[at(key)] += self.keys[token * keys + key] * update;
                        sum += state[at(key)] * self.queries[token * keys + key];
                    }
                    out[row * columns + column] = sum;
                }
            }
            out
        }
    }

    #[test]
    fn known_values() {
        let scale = 1.0 / 2.0f32.sqrt();
        let inputs = Inputs {
            shape: [2, 2],
            queries: vec![0.6 * scale, 0.8 * scale, scale, 0.0],
            keys: vec![0.8, 0.6, 0.6, -0.8],
            values: vec![1.0, 2.0, -1.0, 0.5],
            gates: vec![[0.9, 0.5], [0.5, 0.25]],
        };
        let mut state = vec![0.0; 4];
        let first = inputs.run(0..1, &mut state);
        let close = |found: &[f32], expected: &[f32]| {
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "{found} {expected}");
            }
        };
        close(&state, &[0.4, 0.8, 0.3, 0.6]);
        close(&first, &[0.339_411, 0.678_823]);
        let second = inputs.run(1..2, &mut state);
        close(&state, &[0.05, 0.475, 0.35, 0.2]);
        close(&second, &[0.035_355, 0.335_876]);
    }

    proptest! {
        #[test]
        fn bits_do_not_depend_on_the_cut(
            keys in 1usize..40,
            columns in 1usize..150,
            tokens in 1usize..9,
            cut in 0usize..9,
            seed: u64,
        ) {
            let mut random = seed | 1;
            let mut number = || {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 40) as f32 / 8_388_608.0 - 1.0
            };
            let mut numbers = |count: usize| (0..count).map(|_| number()).collect::<Vec<_>>();
            let inputs = Inputs {
                shape: [keys, columns],
                queries: numbers(tokens * keys),
                keys: numbers(tokens * keys),
                values: numbers(tokens * columns),
                gates: numbers(2 * tokens).chunks_exact(2).map(|pair| [pair[0].abs(), pair[1].abs()]).collect(),
            };
            let start = numbers(keys * columns);
            let mut expected_state = start.clone();
            let expected = inputs.reference(0..tokens, &mut expected_state);
            let mut state = start;
            let cut = cut.min(tokens);
            let mut found = inputs.run(0..cut, &mut state);
            found.extend(inputs.run(cut..tokens, &mut state));
            let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&found), bits(&expected));
            prop_assert_eq!(bits(&state), bits(&expected_state));
        }
    }
}
