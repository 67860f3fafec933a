//! Matrix products.

use crate::harness::*;
use crate::parity::products;

#[test]
fn integers() {
    products::integers(&others());
}

#[test]
fn three_together() {
    products::three_together(&others());
}

#[test]
fn sharded_matrices() {
    let mut numbers = Numbers(6);
    for format in [TERNARY[0], TERNARY[3], TERNARY[4]] {
        // 400 bytes a row and more: some hundred rows in a binding.
        for shape in [[1, 1600, 450, 230], [5, 1600, 300, 500]] {
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
fn tall() {
    products::tall(&others());
}

#[test]
fn extremes() {
    products::extremes(&others());
}

#[test]
fn rounded() {
    products::rounded(&others());
}

#[test]
fn floats() {
    products::floats(&others());
}

#[test]
fn widths() {
    products::widths(gpus()[0].1);
}

#[test]
fn code_of_three() {
    products::code_of_three(&others());
}
