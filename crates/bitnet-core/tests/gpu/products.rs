//! Matrix products.

use crate::beside::products;
use crate::harness::*;

#[test]
fn integers_are_exact() {
    products::integers_are_exact(&others());
}

#[test]
fn a_matrix_in_pieces_is_exact() {
    let mut numbers = Numbers(6);
    for format in [TERNARY[0], TERNARY[3], TERNARY[4]] {
        // 400 bytes a row and more: some hundred rows in a binding.
        for shape in [[1, 1600, 450, 230], [5, 1600, 300, 1]] {
            let seed = numbers.next();
            let expected = products::exact(&cpu(), seed, format, shape);
            let (name, gpu) = split();
            let found = products::exact(gpu, seed, format, shape);
            let what = format!("{name}, {format}, {shape:?}");
            assert_same(&found[0], &expected[0], &what);
            assert_same(&found[1], &expected[1], &format!("{what}, with a residual"));
        }
    }
}

#[test]
fn a_tall_matrix_is_exact() {
    products::a_tall_matrix_is_exact(&others());
}

#[test]
fn extremes_do_not_overflow() {
    products::extremes_do_not_overflow(&others());
}

#[test]
fn rounded_products_are_close() {
    products::rounded_products_are_close(&others());
}

#[test]
fn floats_are_close() {
    products::floats_are_close(&others());
}

#[test]
fn widths_that_differ_are_refused() {
    products::widths_that_differ_are_refused(gpus()[0].1);
}

#[test]
fn a_code_of_three_counts_two() {
    products::a_code_of_three_counts_two(&others());
}
