//! Embeddings, and gates.

use super::harness::*;
use bitnet_core::{Activations, Gate, Input};

pub(crate) fn embeddings_are_the_same_numbers<B: Look>(others: &[Other<'_, B>]) {
    let mut numbers = Numbers(11);
    for format in DENSE.into_iter().chain(TERNARY) {
        for cols in [256, 512, 84] {
            let rows = 1 + numbers.below(150);
            let weights = if format.is_ternary() {
                ternary(&mut numbers, format, rows, cols)
            } else {
                table(&numbers.floats(rows * cols), cols, format)
            };
            let ids: Vec<u32> = (0..9).map(|_| numbers.below(rows) as u32).collect();
            let cpu = cpu();
            let expected = embedded(&cpu, &weights, &ids);
            for other in others {
                let found = embedded(other.backend, &weights, &ids);
                let what = format!("{}, {format}, {rows}×{cols}", other.name);
                assert_same(&found, &expected, &what);
            }
        }
    }
}

fn embedded<B: Look>(backend: &B, weights: &bitnet_core::WeightMatrix, ids: &[u32]) -> Vec<f32> {
    let table = backend.table(weights.clone()).expect("a table");
    let cache = backend.cache(1, NO_HEADS, ids.len()).expect("a cache");
    let rows = backend.embed(&table, Input::Tokens(ids), &cache);
    backend.look(rows.expect("rows"))
}

pub(crate) fn tokens_past_the_table_are_refused<B: Look>(gpu: &B) {
    let weights = table(&[1.0; 12], 4, bitnet_quant::Format::F32);
    let weights = gpu.table(weights).expect("a table");
    let cache = gpu.cache(1, NO_HEADS, 8).expect("a cache");
    for (ids, message) in [(&[0, 3][..], "vocabulary"), (&[], "at least one")] {
        let error = gpu.embed(&weights, Input::Tokens(ids), &cache);
        let error = error.err().expect("not embedded").to_string();
        assert!(error.contains(message), "{error}");
    }
    let error = gpu.embed(&weights, Input::Chosen, &cache).err();
    let error = error.expect("nothing chosen");
    assert!(error.to_string().contains("chosen"), "{error}");
}

pub(crate) fn gates_are_close<B: Look>(others: &[Other<'_, B>]) {
    let mut numbers = Numbers(12);
    for case in 0..16 {
        let width = 2 + numbers.below(400);
        let tokens = [1, 3, 5, 70][numbers.below(4)];
        let function = if case % 2 == 0 {
            Gate::Relu2
        } else {
            Gate::Silu
        };
        let with_norm = case % 4 < 2;
        let activations = if case % 3 == 0 {
            Activations::F32
        } else {
            Activations::Int8
        };
        let x: Vec<f32> = numbers.floats(tokens * 2 * width);
        let x: Vec<f32> = x.into_iter().map(|x| 4.0 * x).collect();
        let gains = numbers.floats(width);
        let down = ternary(&mut numbers, TERNARY[case % 6], 19, width);
        let job = Gated {
            x: &x,
            width,
            function,
            gains: with_norm.then_some(&gains[..]),
            activations,
            down: &down,
        };
        let expected = job.run(&cpu());
        for other in others {
            let (name, gpu) = (other.name, other.backend);
            let found = job.run(gpu);
            let what = format!("{name}, case {case}: {tokens}×{width}, {function:?}");
            let tolerance = if activations == Activations::F32 {
                3e-5
            } else {
                0.02
            };
            assert_close(&found, &expected, tolerance, &what);
        }
    }
}

struct Gated<'a> {
    x: &'a [f32],
    width: usize,
    function: Gate,
    gains: Option<&'a [f32]>,
    activations: Activations,
    down: &'a bitnet_core::WeightMatrix,
}

impl Gated<'_> {
    fn run<B: Look>(&self, backend: &B) -> Vec<f32> {
        let cols = 2 * self.width;
        let rows = alone(backend, self.x, cols);
        let mut parts = columns(backend, &rows, cols, &[self.width, self.width]);
        let (up, gate) = (parts.pop().expect("two"), parts.pop().expect("two"));
        let gain = self
            .gains
            .map(|gains| backend.gain(gains.to_vec()).expect("gains"));
        let norm = gain.as_ref().map(norm);
        let a = backend
            .gate_norm_quantize(gate, up, self.function, norm, self.activations)
            .expect("activations");
        let down = backend.matrix(self.down.clone()).expect("a matrix");
        let mut products = backend.matmul(&a, &[&down]).expect("a product");
        backend.look(products.remove(0))
    }
}

/// Gate and up of ternary matrices, which a GPU may multiply and gate at once.
pub(crate) fn gated_products_are_close<B: Look>(others: &[Other<'_, B>]) {
    let mut numbers = Numbers(13);
    for case in 0..12 {
        let (cols, width) = (64 + numbers.below(300), 3 + numbers.below(300));
        let tokens = [1, 4, 5, 66][case % 4];
        let format = TERNARY[case % 6];
        let function = if case % 2 == 0 {
            Gate::Relu2
        } else {
            Gate::Silu
        };
        let x = numbers.integers(tokens, cols);
        let matrices = [width, width].map(|rows| {
            let matrix = ternary(&mut numbers, format, rows, cols);
            matrix.with_output_scale(0.01).expect("a finite scale")
        });
        let down = ternary(&mut numbers, format, 21, width);
        let run = |backend: &dyn Fn() -> Vec<f32>| backend();
        let expected = run(&|| gated_product(&cpu(), &x, cols, &matrices, function, &down));
        for other in others {
            let (name, gpu) = (other.name, other.backend);
            let found = run(&|| gated_product(gpu, &x, cols, &matrices, function, &down));
            let what = format!("{name}, {format}, {tokens}×{cols}×{width}, {function:?}");
            assert_close(&found, &expected, 0.02, &what);
        }
    }
}

fn gated_product<B: Look>(
    backend: &B,
    x: &[f32],
    cols: usize,
    matrices: &[bitnet_core::WeightMatrix; 2],
    function: Gate,
    down: &bitnet_core::WeightMatrix,
) -> Vec<f32> {
    let rows = alone(backend, x, cols);
    let resident =
        |matrix: &bitnet_core::WeightMatrix| backend.matrix(matrix.clone()).expect("a matrix");
    let [gate, up] = matrices.each_ref().map(resident);
    let a = backend
        .norm_quantize(&rows, None, Activations::Int8)
        .expect("activations");
    let mut products = backend.matmul(&a, &[&gate, &up]).expect("products");
    let (up, gate) = (products.pop().expect("two"), products.pop().expect("two"));
    let a = backend
        .gate_norm_quantize(gate, up, function, None, Activations::Int8)
        .expect("activations");
    let mut products = backend.matmul(&a, &[&resident(down)]).expect("a product");
    backend.look(products.remove(0))
}
