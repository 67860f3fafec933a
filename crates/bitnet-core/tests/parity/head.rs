//! The head and the likeliest tokens.

use super::harness::*;
use bitnet_core::{
    Backend, Candidate, Input, LmHeadMode, Output, OutputRequest, Pending, SequenceState, Top,
    VocabularyWeights, WeightMatrix,
};
use bitnet_quant::Format;

/// The output of a sequence of tokens, of which each is a row of x.
fn output<B: Backend>(
    backend: &B,
    mode: LmHeadMode,
    weights: &WeightMatrix,
    x: &[f32],
    outputs: OutputRequest<'_>,
) -> Output {
    let (rows, cols) = (weights.rows(), weights.cols());
    let tokens = x.len() / cols;
    // An embedding has as many rows as the head, however few.
    let mut embedding = x.to_vec();
    embedding.resize(rows.max(1) * cols, 0.0);
    let vocabulary = VocabularyWeights {
        embedding_scale: 1.0,
        embedding_rotation: None,
        head_rotation: None,
        activations: bitnet_core::Activations::F32,
        embedding: table(&embedding, cols, Format::F32),
        norm: norm(&vec![0.7; cols]),
        head: Some(weights.clone()),
        mode,
    };
    let (embedding, head) = backend.load_vocabulary(vocabulary).expect("a vocabulary");
    let mut state = backend.state(&NO_LAYERS, tokens, None).expect("a state");
    let ids: Vec<u32> = ids(tokens).iter().map(|id| id % rows as u32).collect();
    let mut batch = batch(Input::Tokens(&ids), &mut state, outputs);
    let x = backend.embed(&embedding, &mut batch).expect("rows");
    let outputs = backend.outputs(x, &head, &mut batch).and_then(Pending::now);
    let mut outputs = outputs.expect("outputs");
    assert_eq!((outputs.len(), state.len()), (1, tokens));
    outputs.remove(0)
}

/// Logits of the rows of x from `first` on.
fn logits<B: Backend>(backend: &B, weights: &WeightMatrix, x: &[f32], first: usize) -> Vec<f32> {
    let rows = x.len() / weights.cols() - first;
    let request = OutputRequest::Logits { rows };
    output(backend, LmHeadMode::Full, weights, x, request).into_logits()
}

pub(crate) fn logits_are_close<B: Rows>(others: &[Other<'_, B>]) {
    let mut numbers = Numbers(31);
    for case in 0..16 {
        let cols = [256, 84, 512, 2560][numbers.below(4)];
        let rows = 1 + numbers.below(300);
        let weights = match case % 8 {
            6 | 7 => ternary(&mut numbers, TERNARY[case / 8], rows, cols),
            which => table(&numbers.floats(rows * cols), cols, DENSE[which]),
        };
        let tokens = 1 + numbers.below(9);
        let first = numbers.below(tokens);
        let x = numbers.floats(tokens * cols);
        let expected = logits(&cpu(), &weights, &x, first);
        for other in others.iter().filter(|other| x.len() < other.batch) {
            let found = logits(other.backend, &weights, &x, first);
            let what = format!("{}, {}, {rows}×{cols}", other.name, weights.format());
            assert_close(&found, &expected, 1e-5, &what);
        }
    }
}

pub(crate) fn nothing_requested<B: Rows>(others: &[Other<'_, B>]) {
    let weights = table(&[1.0; 8], 4, Format::F32);
    let one = Top {
        count: 1,
        also: &[],
    };
    for other in others {
        let run = |request| {
            output(
                other.backend,
                LmHeadMode::Full,
                &weights,
                &[1.0; 8],
                request,
            )
        };
        assert_eq!(run(OutputRequest::Nothing), Output::Nothing);
        let none = OutputRequest::Logits { rows: 0 };
        assert_eq!(run(none), Output::Logits(Vec::new()));
        let none = OutputRequest::Top { rows: 0, top: one };
        assert_eq!(run(none), Output::Top(Vec::new()));
        // This one has to be waited for. A process that ends while Mesa's software driver still compiles crashes in the driver.
        assert_eq!(logits(other.backend, &weights, &[1.0; 8], 1).len(), 2);
    }
}

/// The likeliest tokens after the rows of x.
fn top<B: Backend>(
    backend: &B,
    mode: LmHeadMode,
    weights: &WeightMatrix,
    x: &[f32],
    top: &Top<'_>,
) -> Vec<Vec<Candidate>> {
    let rows = x.len() / weights.cols();
    let request = OutputRequest::Top { rows, top: *top };
    output(backend, mode, weights, x, request).into_top()
}

/// The likeliest tokens are those of the backend's own logits, in every mode.
fn assert_top<B: Rows>(
    others: &[Other<'_, B>],
    weights: &WeightMatrix,
    x: &[f32],
    wanted: &Top<'_>,
) {
    for other in others {
        let (name, gpu) = (other.name, other.backend);
        let logits = logits(gpu, weights, x, 0);
        let expected: Vec<Vec<Candidate>> = logits
            .chunks(weights.rows())
            .map(|logits| wanted.of_logits(logits))
            .collect();
        let found: Vec<_> = LmHeadMode::ALL
            .into_iter()
            .flat_map(|mode| top(gpu, mode, weights, x, wanted))
            .collect();
        assert_eq!(found.len(), LmHeadMode::ALL.len() * expected.len());
        for (found, expected) in found.iter().zip(expected.iter().cycle()) {
            let what = format!(
                "{name}, {} of {} {}, {}",
                wanted.count,
                weights.rows(),
                weights.format(),
                wanted.also.len()
            );
            assert_eq!(found.len(), expected.len(), "{what}");
            for (found, expected) in found.iter().zip(expected) {
                let same = found.logit.to_bits() == expected.logit.to_bits();
                assert!(
                    found.id == expected.id && same,
                    "{what}: {found:?}, expected {expected:?}"
                );
            }
        }
    }
}

pub(crate) fn top_of_logits<B: Rows>(others: &[Other<'_, B>]) {
    let mut numbers = Numbers(32);
    let cols = 8;
    for case in 0..16 {
        let rows = [1, 7, 1023, 1024, 1025, 3000][numbers.below(6)];
        // Few different values: many equals.
        let values: Vec<f32> = (0..rows * cols)
            .map(|_| numbers.below(3) as f32 - 1.0)
            .collect();
        let weights = table(&values, cols, Format::F32);
        let x = numbers.floats([1, 3][case % 2] * cols);
        let also: Vec<u32> = match case % 3 {
            0 => Vec::new(),
            1 => (0..rows as u32 + 3)
                .filter(|_| numbers.below(4) == 0)
                .collect(),
            _ => (0..rows as u32).collect(),
        };
        let count = [1, 1, 2, 40, 256, 257][numbers.below(6)];
        assert_top(others, &weights, &x, &Top { count, also: &also });
    }
}

/// The likeliest of a screened head, where estimates leave one row, many, or all.
pub(crate) fn screened<B: Rows>(others: &[Other<'_, B>]) {
    let mut numbers = Numbers(33);
    let one = Top {
        count: 1,
        also: &[],
    };
    for case in 0..12 {
        let format = [Format::F32, Format::F16, Format::Bf16, Format::Q6K][case % 4];
        let cols = 256 * (1 + numbers.below(2)) - if case % 4 == 3 { 0 } else { case % 7 };
        let rows = 1 + numbers.below(2500);
        let mut values = numbers.floats(rows * cols);
        // Rows that are nearly the same, much larger, much smaller, or one large number among small ones.
        for row in values.chunks_mut(cols).skip(1).step_by(3) {
            match case / 4 {
                0 => row.iter_mut().for_each(|w| *w *= 1e-4),
                1 => row[0] = 60.0,
                _ => {}
            }
        }
        if case / 4 == 2 {
            let first: Vec<f32> = values[..cols].to_vec();
            for (row, at) in values.chunks_mut(cols).zip(0..) {
                row.copy_from_slice(&first);
                row[at % cols] += 1e-3 * (at % 5) as f32;
            }
        }
        let x = numbers.floats(cols);
        assert_top(others, &table(&values, cols, format), &x, &one);
        // Nothing to tell rows apart by.
        assert_top(
            others,
            &table(&values, cols, format),
            &vec![0.0; cols],
            &one,
        );
    }
}

pub(crate) fn zeros<B: Rows>(others: &[Other<'_, B>]) {
    // Rows of +1, −1 and 0 times a zero.
    let weights = table(&[-1.0, 1.0, 0.0, -1.0], 1, Format::F32);
    assert_top(
        others,
        &weights,
        &[0.0],
        &Top {
            count: 3,
            also: &[],
        },
    );
}

pub(crate) fn not_finite<B: Rows>(others: &[Other<'_, B>]) {
    let mut values = vec![0.5; 3000];
    values[1700] = f32::MAX;
    values[1200] = -f32::MAX;
    let weights = table(&values, 2, Format::F32);
    let x = [f32::MAX, 1.0];
    let found = logits(others[0].backend, &weights, &x, 0);
    let first = found.iter().position(|logit| !logit.is_finite());
    let Some(first) = first else {
        // Norms keep x small; make the head do it.
        let weights = weights.with_output_scale(f32::MAX).expect("a finite scale");
        for also in [&[][..], &[600], &[600, 700, 850]] {
            for count in [1, 5] {
                assert_top(others, &weights, &x, &Top { count, also });
            }
        }
        return;
    };
    panic!("logit {first} is not finite already");
}
