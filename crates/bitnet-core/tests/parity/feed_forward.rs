//! Feed-forward sublayers.

use super::harness::*;
use bitnet_core::{Activations, Gate, GatedWeights, Projection};

const FUNCTIONS: [Gate; 2] = [Gate::Relu2, Gate::Silu];

/// Gates of dense matrices that pick columns, with and without a norm behind them.
pub(crate) fn gates<B: Rows>(others: &[Other<'_, B>]) {
    let mut numbers = Numbers(12);
    for case in 0..16 {
        let width = 2 + numbers.below(400);
        let tokens = [1, 3, 5, 70][numbers.below(4)];
        let function = FUNCTIONS[case % 2];
        let activations = if case % 3 == 0 {
            Activations::F32
        } else {
            Activations::Int8
        };
        let zeros = 19;
        let hidden = 2 * width + zeros;
        let mut x = Vec::new();
        for _ in 0..tokens {
            x.extend(numbers.floats(2 * width).iter().map(|x| 4.0 * x));
            x.extend(vec![0.0; zeros]);
        }
        let weights = GatedWeights {
            output_norm: None,
            function,
            activations,
            norm: None,
            gate: columns(0, width, hidden).into(),
            up: columns(width, width, hidden).into(),
            down: Projection {
                rotation: None,
                norm: (case % 4 < 2).then(|| norm(&numbers.floats(width))),
                matrix: ternary(&mut numbers, TERNARY[case % TERNARY.len()], hidden, width),
            },
        };
        let run = |x: Vec<f32>| last_columns(&x, hidden, 2 * width);
        let expected = run(fed(&cpu(), &x, hidden, &[&weights]));
        for other in others {
            let found = run(fed(other.backend, &x, hidden, &[&weights]));
            let what = format!(
                "{}, case {case}: {tokens}×{width}, {function:?}",
                other.name
            );
            let tolerance = if activations == Activations::F32 {
                3e-5
            } else {
                0.02
            };
            assert_close(&found, &expected, tolerance, &what);
        }
    }
}

/// Gate and up of ternary matrices, which a GPU multiplies and gates in one kernel.
pub(crate) fn ternary_gates<B: Rows>(others: &[Other<'_, B>]) {
    let mut numbers = Numbers(13);
    for case in 0..12 {
        let (cols, width) = (64 + numbers.below(300), 3 + numbers.below(300));
        let tokens = [1, 4, 5, 66][case % 4];
        let format = TERNARY[case % TERNARY.len()];
        let function = FUNCTIONS[case % 2];
        let (zeros, integers) = (21, numbers.integers(tokens, cols));
        let hidden = cols + zeros;
        let rows = integers.chunks(cols);
        let x: Vec<f32> = rows
            .flat_map(|row| row.iter().copied().chain(vec![0.0; zeros]))
            .collect();
        let [gate, up] = [(); 2].map(|()| {
            let matrix = ternary(&mut numbers, format, width, hidden);
            matrix.with_output_scale(0.01).expect("a finite scale")
        });
        let weights = GatedWeights {
            output_norm: None,
            function,
            activations: Activations::Int8,
            norm: None,
            gate: gate.into(),
            up: up.into(),
            down: projection(ternary(&mut numbers, format, hidden, width)),
        };
        let run = |x: Vec<f32>| last_columns(&x, hidden, cols);
        let expected = run(fed(&cpu(), &x, hidden, &[&weights]));
        for other in others {
            let found = run(fed(other.backend, &x, hidden, &[&weights]));
            let what = format!(
                "{}, {format}, {tokens}×{hidden}×{width}, {function:?}",
                other.name
            );
            assert_close(&found, &expected, 0.02, &what);
        }
    }
}
