//! Matrix products, which sublayers are made to show in their exact bits.
//!
//! A row of x ends with a 1 and with zeros. The gate picks the 1, of which relu² is 1, so that up comes through as it is,
//! and what is added to zeros is there with all its bits.

use super::harness::*;
use bitnet_core::{
    Activations, AttentionHeads, AttentionWeights, FeedForwardWeights, Gate, GatedWeights, Input,
    MixerWeights, OutputRequest, Rope, RopePairs, WeightMatrix,
};
use bitnet_quant::Format;

/// Rows of `values`, of `cols` columns each, with a 1 and `zeros` zeros behind them.
fn with_one(values: &[f32], cols: usize, zeros: usize) -> Vec<f32> {
    let rows = values.chunks(cols);
    rows.flat_map(|row| row.iter().copied().chain([1.0]).chain(vec![0.0; zeros]))
        .collect()
}

/// A gate of `rows` rows that picks column `one` of `cols`.
fn open_gate(rows: usize, one: usize, cols: usize) -> WeightMatrix {
    picks(rows, cols, (0..rows).map(|row| (row, one)))
}

/// The product of rows, of which each is `values` and a 1 and zeros, with a matrix of all their columns and at most as many
/// rows as there are zeros.
fn up_product<B: Rows>(
    backend: &B,
    matrix: &WeightMatrix,
    values: &[f32],
    activations: Activations,
    norm_weight: Option<&[f32]>,
) -> Vec<f32> {
    let (rows, hidden) = (matrix.rows(), matrix.cols());
    let cols = hidden - 1 - rows;
    let x = with_one(values, cols, rows);
    let weights = GatedWeights {
        output_norm: None,
        function: Gate::Relu2,
        activations,
        norm: norm_weight.map(norm),
        gate: open_gate(rows, cols, hidden).into(),
        up: matrix.clone().into(),
        down: projection(into_columns(cols + 1, rows, hidden)),
    };
    last_columns(&fed(backend, &x, hidden, &[&weights]), hidden, cols + 1)
}

/// The sum of a row, which is `values` and a 1 and zeros, and the product of its values with a matrix that has as many rows
/// as it has columns.
fn down_sum<B: Rows>(
    backend: &B,
    matrix: &WeightMatrix,
    values: &[f32],
    activations: Activations,
    norm_weight: Option<&[f32]>,
) -> Vec<f32> {
    let (hidden, cols) = (matrix.rows(), matrix.cols());
    let x = with_one(values, cols, hidden - cols - 1);
    let mut down = projection(matrix.clone());
    down.norm = norm_weight.map(norm);
    let weights = GatedWeights {
        output_norm: None,
        function: Gate::Relu2,
        activations,
        norm: None,
        gate: open_gate(cols, cols, hidden).into(),
        up: columns(0, cols, hidden).into(),
        down,
    };
    fed(backend, &x, hidden, &[&weights])
}

/// Products of integers that rounding leaves alone: `[tokens, hidden, rows, ffn]` of a matrix `rows × hidden`, and of one
/// `hidden × ffn` that is added to the rows.
pub(crate) fn exact<B: Rows>(
    backend: &B,
    seed: u64,
    format: Format,
    [tokens, hidden, rows, ffn]: [usize; 4],
) -> [Vec<f32>; 2] {
    let mut numbers = Numbers(seed);
    let cols = hidden - 1 - rows;
    let x = numbers.integers(tokens, cols);
    let matrix = ternary(&mut numbers, format, rows, hidden);
    let product = up_product(backend, &matrix, &x, Activations::Int8, None);
    let x = numbers.integers(tokens, ffn);
    let matrix = ternary(&mut numbers, format, hidden, ffn);
    let sum = down_sum(backend, &matrix, &x, Activations::Int8, None);
    [product, sum]
}

pub(crate) fn integers<B: Rows>(others: &[Other<'_, B>]) {
    let mut numbers = Numbers(1);
    for case in 0..3 * TERNARY.len() {
        let format = TERNARY[case % TERNARY.len()];
        let tokens = [1, 2, 4, 5, 9, 64, 67][numbers.below(7)];
        let width = |numbers: &mut Numbers, blocks: usize, fewest: usize| {
            let width = match case / TERNARY.len() {
                // Whole blocks, or padded rows; sometimes no vectors.
                0 => format.block_len() * (1 + numbers.below(blocks)),
                1 => 4 * (1 + numbers.below(150)),
                _ => 1 + numbers.below(300),
            };
            width.max(fewest)
        };
        let ffn = width(&mut numbers, 2, 1);
        let hidden = width(&mut numbers, 5, ffn + 2);
        let rows = 1 + numbers.below(80.min(hidden - 2));
        let shape = [tokens, hidden, rows, ffn];
        let seed = numbers.next();
        let expected = exact(&cpu(), seed, format, shape);
        for other in others {
            let what = format!("{format}, {shape:?}");
            let found = exact(other.backend, seed, format, shape);
            other.assert_products(&found[0], &expected[0], &what);
            other.assert_products(&found[1], &expected[1], &format!("{what}, with a residual"));
        }
    }
}

/// Values of one-token sequences: softmax over one position is 1. Query, key and value are multiplied together.
fn values<B: Rows>(
    backend: &B,
    [query, key, value]: &[WeightMatrix; 3],
    heads: AttentionHeads,
    x: &[f32],
) -> Vec<f32> {
    let (hidden, width) = (query.cols(), heads.query_width());
    let weights = MixerWeights::Attention(AttentionWeights {
        output_norm: None,
        gated: false,
        heads,
        rope: Some(Rope {
            pairs: RopePairs::HalfSplit,
            dims: heads.dim,
            base: 10_000.0,
            divisors: Vec::new(),
            magnitude: 1.0,
        }),
        window: None,
        activations: Activations::Int8,
        norm: None,
        query: query.clone().into(),
        key: key.clone().into(),
        value: value.clone().into(),
        head_norms: None,
        output: projection(into_columns(hidden - width, width, hidden)),
    });
    let (embedding, _) = backend
        .load_vocabulary(vocabulary(x, hidden))
        .expect("a vocabulary");
    let mixer = backend.load_mixer(weights.clone()).expect("a mixer");
    let mut found = Vec::new();
    for id in ids(x.len() / hidden) {
        let mut state = backend
            .state(&[weights.state()], 1, compared(backend))
            .expect("a state");
        let id = [id];
        let outputs = OutputRequest::Hidden { rows: 1 };
        let mut batch = batch(Input::Tokens(&id), &mut state, outputs);
        let mut x = backend.embed(&embedding, &mut batch).expect("rows");
        backend.mixer(&mut x, &mixer, 0, &mut batch).expect("mixed");
        found.extend(last_columns(&backend.rows(x), hidden, hidden - width));
    }
    found
}

pub(crate) fn three_together<B: Rows>(others: &[Other<'_, B>]) {
    let mut numbers = Numbers(8);
    for case in 0..12 {
        let heads = AttentionHeads {
            query: 4,
            kv: [1, 2, 4][case % 3],
            dim: 2 * (1 + numbers.below(16)),
        };
        let width = heads.query_width();
        let (tokens, cols) = (3, 1 + numbers.below(300));
        let hidden = cols + width;
        let integers = numbers.integers(tokens, cols);
        let x: Vec<f32> = integers
            .chunks(cols)
            .flat_map(|row| row.iter().copied().chain(vec![0.0; width]))
            .collect();
        // The same format, or three.
        let format = |which: usize| TERNARY[(case + which * (case / 6)) % TERNARY.len()];
        let matrices = [
            (0, heads.query_width()),
            (1, heads.kv_width()),
            (2, heads.kv_width()),
        ]
        .map(|(which, rows)| ternary(&mut numbers, format(which), rows, hidden));
        let expected = values(&cpu(), &matrices, heads, &x);
        for other in others {
            let found = values(other.backend, &matrices, heads, &x);
            // Values may be kept in binary16.
            let what = format!("{}, case {case}, {heads:?}", other.name);
            assert_close(&found, &expected, other.attention, &what);
        }
    }
}

/// A matrix of many rows, of which a workgroup takes several.
pub(crate) fn tall<B: Rows>(others: &[Other<'_, B>]) {
    let (cols, rows) = (64, 20_003);
    let mut numbers = Numbers(7);
    let x = numbers.integers(2, cols);
    for format in [TERNARY[0], TERNARY[4]] {
        let matrix = ternary(&mut numbers, format, rows, cols);
        let expected = down_sum(&cpu(), &matrix, &x, Activations::Int8, None);
        for other in others {
            let found = down_sum(other.backend, &matrix, &x, Activations::Int8, None);
            other.assert_products(&found, &expected, &format.to_string());
        }
    }
}

/// The largest sums that int8 can give, and those that cancel.
pub(crate) fn extremes<B: Rows>(others: &[Other<'_, B>]) {
    let (hidden, rows) = (6912, 33);
    let cols = hidden - 1 - rows;
    for tokens in [1, 70] {
        let x: Vec<f32> = (0..tokens * cols)
            .map(|i| {
                if i / cols % 2 == 1 && i % 2 == 1 {
                    -127.0
                } else {
                    127.0
                }
            })
            .collect();
        let mut numbers = Numbers(9);
        let matrix = ternary(&mut numbers, TERNARY[0], rows, hidden);
        let expected = up_product(&cpu(), &matrix, &x, Activations::Int8, None);
        for other in others {
            let found = up_product(other.backend, &matrix, &x, Activations::Int8, None);
            other.assert_products(&found, &expected, "products");
        }
    }
}

/// Normed and rounded: a number at a half may round to either side, which moves a product by one step of one column.
pub(crate) fn rounded<B: Rows>(others: &[Other<'_, B>]) {
    let mut numbers = Numbers(2);
    for case in 0..12 {
        let format = TERNARY[case % TERNARY.len()];
        let tokens = [1, 3, 6, 65][numbers.below(4)];
        let cols = 2 + numbers.below(700);
        let rows = 1 + numbers.below(50);
        let x = numbers.floats(tokens * cols);
        let hidden = cols + 1 + rows;
        let weights = numbers.floats(hidden);
        let up = ternary(&mut numbers, format, rows, hidden);
        let down = ternary(&mut numbers, format, hidden, cols);
        let expected = normed(&cpu(), &up, &down, &x, &weights);
        for other in others {
            let found = normed(other.backend, &up, &down, &x, &weights);
            for (which, (found, expected)) in ["up", "down"].iter().zip(found.iter().zip(&expected))
            {
                let what = format!(
                    "{}, {format}, {which}, {tokens}×{cols}, {rows} rows",
                    other.name
                );
                assert_close(found, expected, 0.02, &what);
                // Most are the same numbers but for the last bits.
                let near = |(a, b): &(&f32, &f32)| (*a - *b).abs() <= 1e-5 * b.abs().max(1e-3);
                let far = found
                    .iter()
                    .zip(expected)
                    .filter(|pair| !near(pair))
                    .count();
                assert!(far <= rows.max(found.len() / 20), "{what}: {far} far");
            }
        }
    }
}

/// Products of rows that were normed before up, and before down.
fn normed<B: Rows>(
    backend: &B,
    up: &WeightMatrix,
    down: &WeightMatrix,
    x: &[f32],
    weights: &[f32],
) -> [Vec<f32>; 2] {
    let (int8, cols) = (Activations::Int8, down.cols());
    let sum = down_sum(backend, down, x, int8, Some(&weights[..cols]));
    [
        up_product(backend, up, x, int8, Some(weights)),
        last_columns(&sum, down.rows(), cols + 1),
    ]
}

pub(crate) fn floats<B: Rows>(others: &[Other<'_, B>]) {
    let mut numbers = Numbers(3);
    for case in 0..24 {
        let cols = 1 + numbers.below(600);
        let rows = 1 + numbers.below(70);
        let hidden = cols + 1 + rows;
        let tokens = [1, 2, 7][numbers.below(3)];
        let matrix = if case % 2 == 0 {
            ternary(
                &mut numbers,
                TERNARY[case / 2 % TERNARY.len()],
                rows,
                hidden,
            )
        } else {
            let values = numbers.floats(rows * hidden);
            table(&values, hidden, DENSE[case / 2 % DENSE.len()])
        };
        let matrix = matrix.with_output_scale(1.5).expect("a finite scale");
        let x = numbers.floats(tokens * cols);
        let expected = up_product(&cpu(), &matrix, &x, Activations::F32, None);
        for other in others {
            let found = up_product(other.backend, &matrix, &x, Activations::F32, None);
            let (name, format) = (other.name, matrix.format());
            let what = format!("{name}, {format}, {tokens}×{hidden}, {rows} rows");
            assert_close(&found, &expected, 2e-6 * (hidden as f32).sqrt(), &what);
        }
    }
}

/// Sublayers whose parts do not fit each other, or the rows that they are given.
pub(crate) fn widths<B: Rows>(backend: &B) {
    let mut numbers = Numbers(4);
    let mut matrix = |rows, cols| ternary(&mut numbers, TERNARY[0], rows, cols);
    let weights = GatedWeights {
        output_norm: None,
        function: Gate::Relu2,
        activations: Activations::Int8,
        norm: None,
        gate: matrix(3, 128).into(),
        up: matrix(3, 128).into(),
        down: projection(matrix(128, 3)),
    };
    let load =
        |weights: GatedWeights| backend.load_feed_forward(FeedForwardWeights::Gated(weights));
    let wrong = GatedWeights {
        output_norm: None,
        up: matrix(4, 128).into(),
        ..weights.clone()
    };
    let error = load(wrong)
        .map(drop)
        .expect_err("another height")
        .to_string();
    assert!(
        error.contains("3×128") && error.contains("4×128"),
        "{error}"
    );
    let sublayer = load(weights).expect("a sublayer");
    let (embedding, _) = backend
        .load_vocabulary(vocabulary(&[0.5; 64], 64))
        .expect("a vocabulary");
    let mut state = backend.state(&NO_LAYERS, 1, None).expect("a state");
    let mut batch = batch(Input::Tokens(&[0]), &mut state, OutputRequest::Nothing);
    let mut x = backend.embed(&embedding, &mut batch).expect("rows");
    let error = backend
        .feed_forward(&mut x, &sublayer)
        .expect_err("another width");
    assert!(error.to_string().contains("128"), "{error}");
}

/// A matrix of a format that allows a code 3, +2, has it.
pub(crate) fn code_of_three<B: Rows>(others: &[Other<'_, B>]) {
    let format = Format::Q2_0;
    let mut row = vec![0u8; format.row_bytes(64).expect("a block")];
    row[..2].copy_from_slice(&half_bits(1.0));
    row[2..].fill(0b11_10_01_00);
    let matrix = WeightMatrix::new("w", format, (1, 64, 64), 1.0, row.into());
    let matrix = matrix.expect("a matrix");
    let x = Numbers(5).integers(1, 62);
    let expected = up_product(&cpu(), &matrix, &x, Activations::Int8, None);
    for other in others {
        let found = up_product(other.backend, &matrix, &x, Activations::Int8, None);
        other.assert_products(&found, &expected, "products");
    }
}

fn half_bits(value: f32) -> [u8; 2] {
    let mut bytes = [0; 2];
    Format::F16
        .encode_row(&[value], 1.0, &mut bytes)
        .expect("a half");
    bytes
}
