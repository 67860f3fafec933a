//! Mixers: rotation, the state and attention.

use super::harness::*;
use bitnet_core::{
    Activations, AttentionHeads, AttentionWeights, Batch, Input, MixerState, MixerWeights,
    OutputRequest, Projection, Rope, RopePairs, Span, WeightMatrix,
};

/// Columns of x that queries, keys and values are made of.
const INPUTS: usize = 24;
/// Layers of a sequence; the second is like the first.
const LAYERS: usize = 2;

fn plain_rope(dims: usize, base: f32) -> Rope {
    Rope {
        pairs: RopePairs::HalfSplit,
        dims,
        base,
        divisors: Vec::new(),
        magnitude: 1.0,
    }
}

/// Attention whose result goes to the columns behind [`INPUTS`]: through `output`, or as it is.
fn weights(
    numbers: &mut Numbers,
    heads: AttentionHeads,
    rope: Rope,
    output: Option<WeightMatrix>,
) -> AttentionWeights {
    let width = heads.query_width();
    let output = output.unwrap_or_else(|| into_columns(INPUTS, width, INPUTS + width));
    let hidden = output.rows();
    // Scores of a few units, so that no position has all the weight.
    let mut matrix = |rows| {
        let matrix = table(
            &numbers.floats(rows * hidden),
            hidden,
            bitnet_quant::Format::F32,
        );
        matrix.with_output_scale(0.35).expect("a finite scale")
    };
    AttentionWeights {
        output_norm: None,
        gated: false,
        heads,
        rope: Some(rope),
        window: None,
        activations: Activations::Int8,
        norm: None,
        query: matrix(width).into(),
        key: matrix(heads.kv_width()).into(),
        value: matrix(heads.kv_width()).into(),
        head_norms: None,
        output: projection(output),
    }
}

/// Rows of random inputs and zeros.
fn inputs(numbers: &mut Numbers, tokens: usize, hidden: usize) -> Vec<f32> {
    let mut x = Vec::new();
    for _ in 0..tokens {
        x.extend(numbers.floats(INPUTS).iter().map(|x| 2.0 * x));
        x.extend(vec![0.0; hidden - INPUTS]);
    }
    x
}

/// Columns behind [`INPUTS`] of a sequence that runs in batches of `steps` tokens.
fn attended<B: Rows>(
    backend: &B,
    weights: &AttentionWeights,
    x: &[f32],
    steps: &[usize],
) -> Vec<f32> {
    let hidden = weights.query.matrix.cols();
    let weights = MixerWeights::Attention(weights.clone());
    let (embedding, head) = backend
        .load_vocabulary(vocabulary(x, hidden))
        .expect("a vocabulary");
    let mixer = backend.load_mixer(weights.clone()).expect("a mixer");
    let ids = ids(x.len() / hidden);
    let layers = [weights.state(); LAYERS];
    let mut state = backend
        .state(&layers, ids.len(), compared(backend))
        .expect("a state");
    let mut found = Vec::new();
    let mut rest = &ids[..];
    for step in steps {
        let (tokens, later) = rest.split_at(*step);
        rest = later;
        // A batch whose rows are read ends there; the same one again becomes part of the sequence.
        for read in [true, false] {
            let outputs = if read {
                OutputRequest::Hidden { rows: *step }
            } else {
                OutputRequest::Nothing
            };
            let mut batch = batch(Input::Tokens(tokens), &mut state, outputs);
            let mut x = backend.embed(&embedding, &mut batch).expect("rows");
            for layer in 0..LAYERS {
                backend
                    .mixer(&mut x, &mixer, layer, &mut batch)
                    .expect("mixed");
            }
            if read {
                found.extend(last_columns(&backend.rows(x), hidden, INPUTS));
            } else {
                let outputs = backend.outputs(x, &head, &mut batch).expect("outputs");
                outputs.now().expect("nothing");
            }
        }
    }
    found
}

pub(crate) fn shapes<B: Rows>(others: &[Other<'_, B>]) {
    let mut numbers = Numbers(21);
    for case in 0..8 {
        let heads = AttentionHeads {
            kv: 1 + numbers.below(3),
            query: 0,
            dim: 2 * (1 + numbers.below(40)),
        };
        let heads = AttentionHeads {
            query: heads.kv * (1 + numbers.below(3)),
            ..heads
        };
        let dims = if case % 3 == 0 {
            heads.dim / 2 / 2 * 2
        } else {
            heads.dim
        };
        let rope = Rope {
            pairs: if case % 2 == 0 {
                RopePairs::HalfSplit
            } else {
                RopePairs::Interleaved
            },
            divisors: if case == 4 {
                vec![2.0; dims / 2]
            } else {
                Vec::new()
            },
            magnitude: [1.0, 1.138_629_4][case / 2 % 2],
            ..plain_rope(dims, 10_000.0)
        };
        // Few and many tokens, and contexts that are split.
        let steps: &[usize] = match case % 4 {
            0 => &[1, 1, 3, 8, 9],
            1 => &[40, 1, 7],
            2 => &[250, 5, 4, 1],
            _ => &[300, 33, 1, 200, 8],
        };
        let mut weights = weights(&mut numbers, heads, rope, None);
        if case % 2 == 0 {
            weights.head_norms = Some([(); 2].map(|()| norm(&numbers.floats(heads.dim))));
        }
        let x = inputs(
            &mut numbers,
            steps.iter().sum(),
            weights.query.matrix.cols(),
        );
        let expected = attended(&cpu(), &weights, &x, steps);
        for other in others {
            let found = attended(other.backend, &weights, &x, steps);
            let what = format!("{}, case {case}, {heads:?}", other.name);
            assert_close(&found, &expected, other.attention, &what);
        }
    }
}

pub(crate) fn wide_heads<B: Rows>(other: &Other<'_, B>) {
    let mut numbers = Numbers(22);
    for (dim, steps) in [(128, &[290, 8, 1, 1][..]), (256, &[70, 2, 1, 1])] {
        let heads = AttentionHeads {
            query: 4,
            kv: 1,
            dim,
        };
        let weights = weights(&mut numbers, heads, plain_rope(dim, 500_000.0), None);
        let x = inputs(
            &mut numbers,
            steps.iter().sum(),
            weights.query.matrix.cols(),
        );
        let found = attended(other.backend, &weights, &x, steps);
        let what = format!("{dim} columns");
        let expected = attended(&cpu(), &weights, &x, steps);
        assert_close(&found, &expected, other.attention, &what);
    }
}

/// Ternary projections of attention, to which split-KV partials may go as they are: one partial, the most, and larger ones.
pub(crate) fn ternary_outputs<B: Rows>(others: &[Other<'_, B>]) {
    let mut numbers = Numbers(24);
    // Whole vectors of four, and not.
    for dim in [32, 26] {
        let heads = AttentionHeads {
            query: 4,
            kv: 2,
            dim,
        };
        for (format, normed) in [(TERNARY[0], false), (TERNARY[4], true)] {
            let output = ternary(&mut numbers, format, INPUTS + 19, 4 * dim);
            let rope = plain_rope(dim, 10_000.0);
            let mut weights = weights(&mut numbers, heads, rope, Some(output));
            if normed {
                weights.output.norm = Some(norm(&numbers.floats(4 * dim)));
            }
            let x = inputs(&mut numbers, 610, INPUTS + 19);
            let steps = &[1, 1, 62, 1, 3, 443, 1, 1, 88, 8, 1];
            let expected = attended(&cpu(), &weights, &x, steps);
            for other in others {
                // A number at a half may round to either side; with keys and values in binary16, more of them do.
                let tolerance = match other.attention {
                    ..1e-3 => 2e-2,
                    ..=3e-3 => 4e-2,
                    _ => 6e-2,
                };
                let what = format!("{}, {format}, {dim} columns", other.name);
                let found = attended(other.backend, &weights, &x, steps);
                assert_close(&found, &expected, tolerance, &what);
            }
        }
    }
}

/// For tests of states.
pub(crate) const FEW_HEADS: MixerState = MixerState::KeysValues(AttentionHeads {
    query: 2,
    kv: 2,
    dim: 64,
});

/// A batch that there is no room for.
pub(crate) fn full_state<B: Rows>(backend: &B) {
    let mut state = backend.state(&[FEW_HEADS], 3, None).expect("a state");
    let span = Span {
        input: Input::Tokens(&[0; 4]),
        state: &mut state,
        outputs: OutputRequest::Nothing,
    };
    let error = Batch::new(vec![span]).map(drop);
    let error = error.expect_err("a full state").to_string();
    assert!(error.contains("at most 3 positions"), "{error}");
}

/// The weights of the last of some tokens.
pub(crate) fn attention_weights<B: Rows>(others: &[Other<'_, B>]) {
    let heads = AttentionHeads {
        query: 4,
        kv: 2,
        dim: 22,
    };
    let mut numbers = Numbers(23);
    let weights = weights(&mut numbers, heads, plain_rope(22, 10_000.0), None);
    let x = inputs(&mut numbers, 19, weights.query.matrix.cols());
    let expected = inspected(&cpu(), &weights, &x);
    assert_eq!(expected.len(), 4 * 19);
    for other in others {
        let found = inspected(other.backend, &weights, &x);
        assert_close(&found, &expected, other.attention, other.name);
    }
}

fn inspected<B: Rows>(backend: &B, weights: &AttentionWeights, x: &[f32]) -> Vec<f32> {
    let hidden = weights.query.matrix.cols();
    let weights = MixerWeights::Attention(weights.clone());
    let (embedding, _) = backend
        .load_vocabulary(vocabulary(x, hidden))
        .expect("a vocabulary");
    let mixer = backend.load_mixer(weights.clone()).expect("a mixer");
    let ids = ids(x.len() / hidden);
    let mut state = backend
        .state(&[weights.state()], ids.len(), compared(backend))
        .expect("a state");
    let mut batch = batch(Input::Tokens(&ids), &mut state, OutputRequest::Nothing);
    let x = backend.embed(&embedding, &mut batch).expect("rows");
    let inspection = backend.inspection().expect("a view into mixers");
    inspection
        .attention_weights(x, &mixer, 0, &mut batch)
        .expect("weights")
}

/// Parts of a mixer that do not fit each other, and a layer that a state does not have.
pub(crate) fn refusals<B: Rows>(backend: &B) {
    let mut numbers = Numbers(25);
    let heads = AttentionHeads {
        query: 2,
        kv: 1,
        dim: 8,
    };
    let fine = weights(&mut numbers, heads, plain_rope(8, 10_000.0), None);
    let hidden = fine.query.matrix.cols();
    let load = |weights| backend.load_mixer(MixerWeights::Attention(weights));
    for (wrong, message) in [
        (
            AttentionWeights {
                output_norm: None,
                gated: false,
                key: columns(0, 7, hidden).into(),
                ..fine.clone()
            },
            "8×40",
        ),
        (
            AttentionWeights {
                output_norm: None,
                gated: false,
                heads: AttentionHeads { kv: 3, ..heads },
                ..fine.clone()
            },
            "kv heads",
        ),
        (
            AttentionWeights {
                output_norm: None,
                gated: false,
                output: Projection {
                    rotation: None,
                    norm: Some(norm(&[1.0; 5])),
                    ..fine.output.clone()
                },
                ..fine.clone()
            },
            "width 16",
        ),
        (
            AttentionWeights {
                output_norm: None,
                gated: false,
                rope: Some(plain_rope(10, 10_000.0)),
                ..fine.clone()
            },
            "at most 8",
        ),
    ] {
        let error = load(wrong).map(drop).expect_err("refused").to_string();
        assert!(error.contains(message), "{error}");
    }
    let mixer = load(fine).expect("a mixer");
    let x = inputs(&mut numbers, 2, hidden);
    let (embedding, _) = backend
        .load_vocabulary(vocabulary(&x, hidden))
        .expect("a vocabulary");
    let layers = [MixerState::KeysValues(heads)];
    let mut state = backend.state(&layers, 2, None).expect("a state");
    let mut batch = batch(Input::Tokens(&[0, 1]), &mut state, OutputRequest::Nothing);
    let mut x = backend.embed(&embedding, &mut batch).expect("rows");
    let error = backend.mixer(&mut x, &mixer, 1, &mut batch);
    let error = error.expect_err("a layer beyond the last").to_string();
    assert!(error.contains("layer 1"), "{error}");
}
