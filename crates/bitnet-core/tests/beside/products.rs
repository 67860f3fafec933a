//! Matrix products.

use super::harness::*;
use bitnet_core::Activations;
use bitnet_quant::Format;

/// The product of integers that rounding leaves alone, and of that the sum with a residual.
pub(crate) fn exact<B: Look>(
    backend: &B,
    seed: u64,
    format: Format,
    shape: [usize; 4],
) -> [Vec<f32>; 2] {
    let [tokens, cols, rows, more] = shape;
    let mut numbers = Numbers(seed);
    let x = numbers.integers(tokens, cols);
    let matrices = [rows, more, cols].map(|rows| ternary(&mut numbers, format, rows, cols));
    let [one, two, square] = matrices.map(|matrix| backend.matrix(matrix).expect("a matrix"));
    let product = |index: usize| {
        let rows = alone(backend, &x, cols);
        let a = backend
            .norm_quantize(&rows, None, Activations::Int8)
            .expect("activations");
        let mut products = backend.matmul(&a, &[&one, &two, &one]).expect("products");
        backend.look(products.swap_remove(index))
    };
    let mut products = product(0);
    products.extend(product(1));
    products.extend(product(2));
    let mut rows = alone(backend, &x, cols);
    let a = backend
        .norm_quantize(&rows, None, Activations::Int8)
        .expect("activations");
    backend.matmul_add(&a, &square, &mut rows).expect("a sum");
    [products, backend.look(rows)]
}

pub(crate) fn integers_are_exact<B: Look>(others: &[Other<'_, B>]) {
    let mut numbers = Numbers(1);
    for case in 0..18 {
        let format = TERNARY[case % TERNARY.len()];
        let tokens = [1, 2, 4, 5, 9, 64, 67][numbers.below(7)];
        let cols = match case / 6 {
            // Whole blocks, or padded rows; sometimes no vectors.
            0 => format.block_len() * (1 + numbers.below(5)),
            1 => 4 * (1 + numbers.below(150)),
            _ => 1 + numbers.below(300),
        };
        let shape = [tokens, cols, 1 + numbers.below(80), 1 + numbers.below(9)];
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

/// So many rows that a team takes several.
pub(crate) fn a_tall_matrix_is_exact<B: Look>(others: &[Other<'_, B>]) {
    let (cols, rows) = (64, 20_003);
    let mut numbers = Numbers(7);
    let x = numbers.integers(2, cols);
    for format in [TERNARY[0], TERNARY[4]] {
        let matrix = ternary(&mut numbers, format, rows, cols);
        let expected = plain_product(&cpu(), &matrix, &x, Activations::Int8);
        for other in others {
            let found = plain_product(other.backend, &matrix, &x, Activations::Int8);
            other.assert_products(&found, &expected, &format.to_string());
        }
    }
}

/// The largest sums that int8 can give, and those that cancel.
pub(crate) fn extremes_do_not_overflow<B: Look>(others: &[Other<'_, B>]) {
    for tokens in [1, 70] {
        let cols = 6912;
        let x: Vec<f32> = (0..tokens * cols)
            .map(|i| {
                if i / cols % 2 == 1 && i % 2 == 1 {
                    -127.0
                } else {
                    127.0
                }
            })
            .collect();
        let run = |backend: &dyn Fn(&[f32]) -> Vec<f32>| backend(&x);
        let mut numbers = Numbers(9);
        let matrix = ternary(&mut numbers, TERNARY[0], 33, cols);
        let expected = run(&|x| plain_product(&cpu(), &matrix, x, Activations::Int8));
        for other in others {
            let gpu = other.backend;
            let found = run(&|x| plain_product(gpu, &matrix, x, Activations::Int8));
            other.assert_products(&found, &expected, "products");
        }
    }
}

fn plain_product<B: Look>(
    backend: &B,
    matrix: &bitnet_core::WeightMatrix,
    x: &[f32],
    activations: Activations,
) -> Vec<f32> {
    let rows = alone(backend, x, matrix.cols());
    let weights = backend.matrix(matrix.clone()).expect("a matrix");
    let a = backend
        .norm_quantize(&rows, None, activations)
        .expect("activations");
    let mut products = backend.matmul(&a, &[&weights]).expect("a product");
    backend.look(products.remove(0))
}

/// Normed and rounded: a number at a half may round to either side, which moves a product by one step of one column.
pub(crate) fn rounded_products_are_close<B: Look>(others: &[Other<'_, B>]) {
    let mut numbers = Numbers(2);
    for case in 0..12 {
        let format = TERNARY[case % TERNARY.len()];
        let tokens = [1, 3, 6, 65][numbers.below(4)];
        let cols = 2 + numbers.below(700);
        let rows = 1 + numbers.below(50);
        let x = numbers.floats(tokens * cols);
        let gains = numbers.floats(cols);
        let matrix = ternary(&mut numbers, format, rows, cols);
        let run = |backend: &dyn Fn() -> Vec<f32>| backend();
        let expected = run(&|| normed_product(&cpu(), &matrix, &x, &gains));
        for other in others {
            let (name, gpu) = (other.name, other.backend);
            let found = run(&|| normed_product(gpu, &matrix, &x, &gains));
            let what = format!("{name}, {format}, {tokens}×{cols}, {rows} rows");
            assert_close(&found, &expected, 0.02, &what);
            let off = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
            // Most are the same numbers but for the last bits.
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * b.abs().max(1e-3);
            let far = found
                .iter()
                .zip(&expected)
                .filter(|pair| !near(*pair))
                .count();
            assert!(
                far <= rows.max(found.len() / 20),
                "{what}: {far} of {off} far"
            );
        }
    }
}

fn normed_product<B: Look>(
    backend: &B,
    matrix: &bitnet_core::WeightMatrix,
    x: &[f32],
    gains: &[f32],
) -> Vec<f32> {
    let rows = alone(backend, x, matrix.cols());
    let gain = backend.gain(gains.to_vec()).expect("gains");
    let weights = backend.matrix(matrix.clone()).expect("a matrix");
    let a = backend
        .norm_quantize(&rows, Some(norm(&gain)), Activations::Int8)
        .expect("activations");
    let mut products = backend.matmul(&a, &[&weights]).expect("a product");
    backend.look(products.remove(0))
}

pub(crate) fn floats_are_close<B: Look>(others: &[Other<'_, B>]) {
    let mut numbers = Numbers(3);
    for case in 0..24 {
        let cols = 1 + numbers.below(600);
        let rows = 1 + numbers.below(70);
        let tokens = [1, 2, 7][numbers.below(3)];
        let matrix = if case % 2 == 0 {
            ternary(&mut numbers, TERNARY[case / 2 % TERNARY.len()], rows, cols)
        } else {
            let values = numbers.floats(rows * cols);
            table(&values, cols, DENSE[case / 2 % DENSE.len()])
        };
        let matrix = matrix.with_output_scale(1.5).expect("a finite scale");
        let x = numbers.floats(tokens * cols);
        let expected = plain_product(&cpu(), &matrix, &x, Activations::F32);
        for other in others {
            let (name, gpu) = (other.name, other.backend);
            let found = plain_product(gpu, &matrix, &x, Activations::F32);
            let what = format!("{name}, {}, {tokens}×{cols}, {rows} rows", matrix.format());
            assert_close(&found, &expected, 2e-6 * (cols as f32).sqrt(), &what);
        }
    }
}

pub(crate) fn widths_that_differ_are_refused<B: Look>(gpu: &B) {
    let mut numbers = Numbers(4);
    let matrix = ternary(&mut numbers, TERNARY[0], 3, 128);
    let weights = gpu.matrix(matrix).expect("a matrix");
    let rows = alone(gpu, &numbers.floats(64), 64);
    let a = gpu
        .norm_quantize(&rows, None, Activations::Int8)
        .expect("activations");
    let error = gpu.matmul(&a, &[&weights]).err().expect("another width");
    assert!(error.to_string().contains("128"), "{error}");
}

/// A matrix of a format that allows a code 3, +2, has it.
pub(crate) fn a_code_of_three_counts_two<B: Look>(others: &[Other<'_, B>]) {
    let format = Format::Q2_0;
    let mut row = vec![0u8; format.row_bytes(64).expect("a block")];
    row[..2].copy_from_slice(&half_bits(1.0));
    row[2..].fill(0b11_10_01_00);
    let matrix = bitnet_core::WeightMatrix::new("w", format, (1, 64, 64), 1.0, row.into());
    let matrix = matrix.expect("a matrix");
    let x = Numbers(5).integers(1, 64);
    let expected = plain_product(&cpu(), &matrix, &x, Activations::Int8);
    for other in others {
        let gpu = other.backend;
        let found = plain_product(gpu, &matrix, &x, Activations::Int8);
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
