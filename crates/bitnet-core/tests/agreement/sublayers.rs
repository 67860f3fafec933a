//! Sublayers, embeddings and heads of every kernel set.

use super::{Numbers, TERNARY, at_most, backends, bits, table, ternary};
use bitnet_core::cpu::CpuBackend;
use bitnet_core::{
    Activations, AttentionHeads, AttentionWeights, Backend, Batch, FeedForwardWeights, Gate,
    GatedWeights, Input, LmHeadMode, MixerWeights, NormWeights, OutputRequest, Pending, Projection,
    Rope, RopePairs, Span, VocabularyWeights, WeightMatrix,
};
use bitnet_quant::{Format, I2sLayout};
use proptest::prelude::*;

fn norm(weight: Vec<f32>, eps: f32) -> NormWeights {
    NormWeights {
        name: "norm".into(),
        weight,
        eps,
    }
}

/// A vocabulary that embeds the rows of `x`.
fn vocabulary(x: WeightMatrix, head: Option<WeightMatrix>) -> VocabularyWeights {
    VocabularyWeights {
        embedding_scale: 1.0,
        embedding_rotation: None,
        head_rotation: None,
        activations: bitnet_core::Activations::F32,
        norm: norm(vec![0.7; x.cols()], 1e-5),
        embedding: x,
        head,
        mode: LmHeadMode::Full,
    }
}

/// Logits after each of some tokens.
fn logits(backend: &CpuBackend, weights: &VocabularyWeights, tokens: &[u32]) -> Vec<f32> {
    let (embedding, head) = backend
        .load_vocabulary(weights.clone())
        .expect("a vocabulary");
    let mut state = backend.state(&[], tokens.len(), None).expect("a state");
    let mut batch = Batch::new(vec![Span {
        input: Input::Tokens(tokens),
        state: &mut state,
        outputs: OutputRequest::Logits { rows: tokens.len() },
    }])
    .expect("a batch");
    let x = backend.embed(&embedding, &mut batch).expect("rows");
    let outputs = backend.outputs(x, &head, &mut batch).and_then(Pending::now);
    outputs.expect("outputs").remove(0).into_logits()
}

/// Rows of `width` columns behind `zeros` zeros, where a sublayer's result appears with all its bits.
fn rows_behind_zeros(
    numbers: &mut Numbers,
    tokens: usize,
    zeros: usize,
    width: usize,
) -> WeightMatrix {
    let mut x = Vec::new();
    for _ in 0..tokens {
        x.extend(vec![0.0; zeros]);
        x.extend(numbers.floats(width));
    }
    table(&x, zeros + width, Format::F32)
}

/// The rows of `x` after a mixer, `step` tokens at a time.
fn mixed(backend: &CpuBackend, x: &WeightMatrix, weights: &MixerWeights, step: usize) -> Vec<f32> {
    let (embedding, _) = backend
        .load_vocabulary(vocabulary(x.clone(), None))
        .expect("a vocabulary");
    let mixer = backend.load_mixer(weights.clone()).expect("a mixer");
    let tokens: Vec<u32> = (0..x.rows() as u32).collect();
    let mut state = backend
        .state(&[weights.state()], tokens.len(), None)
        .expect("a state");
    let mut found = Vec::new();
    let (_, head) = backend
        .load_vocabulary(vocabulary(x.clone(), None))
        .expect("a vocabulary");
    for tokens in tokens.chunks(step) {
        let mut batch = Batch::new(vec![Span {
            input: Input::Tokens(tokens),
            state: &mut state,
            outputs: OutputRequest::Hidden { rows: tokens.len() },
        }])
        .expect("a batch");
        let mut x = backend.embed(&embedding, &mut batch).expect("rows");
        backend.mixer(&mut x, &mixer, 0, &mut batch).expect("mixed");
        found.extend_from_slice(x.values());
        let outputs = backend.outputs(x, &head, &mut batch);
        assert!(outputs.and_then(Pending::now).is_ok());
    }
    found
}

/// The rows of `x` after a feed-forward sublayer.
fn fed(backend: &CpuBackend, x: &WeightMatrix, weights: &GatedWeights, step: usize) -> Vec<f32> {
    let (embedding, _) = backend
        .load_vocabulary(vocabulary(x.clone(), None))
        .expect("a vocabulary");
    let weights = FeedForwardWeights::Gated(weights.clone());
    let feed_forward = backend.load_feed_forward(weights).expect("a sublayer");
    let tokens: Vec<u32> = (0..x.rows() as u32).collect();
    let mut found = Vec::new();
    for tokens in tokens.chunks(step) {
        let mut state = backend.state(&[], tokens.len(), None).expect("a state");
        let mut batch = Batch::new(vec![Span {
            input: Input::Tokens(tokens),
            state: &mut state,
            outputs: OutputRequest::Nothing,
        }])
        .expect("a batch");
        let mut x = backend.embed(&embedding, &mut batch).expect("rows");
        backend.feed_forward(&mut x, &feed_forward).expect("fed");
        found.extend_from_slice(x.values());
    }
    found
}

fn floats(numbers: &mut Numbers, rows: usize, cols: usize) -> WeightMatrix {
    table(&numbers.floats(rows * cols), cols, Format::F32)
}

/// The identity of `width` on top of zeros, `rows` rows in all.
fn identity(rows: usize, width: usize) -> WeightMatrix {
    let values = (0..rows * width).map(|i| f32::from(u8::from(i / width == i % width)));
    table(&values.collect::<Vec<f32>>(), width, Format::F32)
}

/// A matrix of a ternary format whose rows end within a block.
fn padded(numbers: &mut Numbers, format: Format, rows: usize, cols: usize) -> WeightMatrix {
    let stored = cols.next_multiple_of(format.block_len());
    let codes: Vec<i8> = (0..rows * stored)
        .map(|i| {
            if i % stored < cols {
                numbers.below(3) as i8 - 1
            } else {
                0
            }
        })
        .collect();
    let (whole, _) = ternary(numbers, format, 1, stored);
    let mut data = Vec::new();
    for codes in codes.chunks(stored) {
        let scales = numbers.floats(stored / format.block_len());
        let mut row = vec![0; whole.row_bytes()];
        format
            .encode_codes(codes, &scales, &mut row)
            .expect("ternary codes");
        data.extend_from_slice(&row);
    }
    let shape = (rows, cols, stored);
    WeightMatrix::new("w", format, shape, whole.scale(), data.into()).expect("a matching size")
}

proptest! {
    #![proptest_config(at_most(48))]

    #[test]
    fn head_products_agree(
        seed in any::<u64>(), rows in 6usize..40, cols in 1usize..3, tokens in 1usize..6,
        which in 0usize..6,
    ) {
        let format = [Format::F32, Format::F16, Format::Bf16, Format::Q8_0, Format::Q6K, Format::Q4_0][which];
        let cols = cols * 256;
        let mut numbers = Numbers(seed);
        let head = table(&numbers.floats(rows * cols), cols, format);
        let x = table(&numbers.floats(rows * cols), cols, Format::F32);
        let ids: Vec<u32> = (0..tokens as u32).collect();
        let weights = vocabulary(x, Some(head));
        let backends = backends();
        let expected = bits(&logits(&backends[0], &weights, &ids));
        for backend in &backends[1..] {
            prop_assert_eq!(&bits(&logits(backend, &weights, &ids)), &expected, "{}", backend.describe());
        }
        let single = ids.iter().flat_map(|id| logits(&backends[0], &weights, &[*id]));
        prop_assert_eq!(bits(&single.collect::<Vec<f32>>()), expected);
    }

    /// Embedding and head at once, however their rows lie.
    #[test]
    fn ternary_tables_agree(
        seed in any::<u64>(), rows in 6usize..70, blocks in 1usize..3, tokens in 1usize..6, which in 0..TERNARY.len(),
    ) {
        let format = TERNARY[which];
        let mut numbers = Numbers(seed);
        let (shared, _) = ternary(&mut numbers, format, rows, blocks * format.block_len());
        let ids: Vec<u32> = (0..tokens).map(|_| numbers.below(rows) as u32).collect();
        for activations in [Activations::Int8, Activations::Int8Groups, Activations::F32] {
            let weights = VocabularyWeights { activations, ..vocabulary(shared.clone(), None) };
            let backends = backends();
            let expected = bits(&logits(&backends[0], &weights, &ids));
            for backend in &backends[1..] {
                prop_assert_eq!(&bits(&logits(backend, &weights, &ids)), &expected, "{}", backend.describe());
            }
        }
    }

    #[test]
    fn attention_agrees(
        seed in any::<u64>(), groups in 1usize..4, kv in 1usize..3, half in 1usize..40, tokens in 1usize..20,
        interleaved in any::<bool>(), norms in any::<bool>(), scaled in any::<bool>(),
    ) {
        let heads = AttentionHeads { query: groups * kv, kv, dim: 2 * half };
        let pairs = if interleaved { RopePairs::Interleaved } else { RopePairs::HalfSplit };
        let magnitude = if scaled { 1.138_629_4 } else { 1.0 };
        let mut numbers = Numbers(seed);
        let x = rows_behind_zeros(&mut numbers, tokens, heads.query_width(), 16);
        let hidden = x.cols();
        let head_norms = [(); 2].map(|()| norm(numbers.floats(heads.dim), 1e-6));
        let [query, key, value] = [heads.query_width(), heads.kv_width(), heads.kv_width()]
            .map(|width| Projection::from(floats(&mut numbers, width, hidden)));
        let weights = MixerWeights::Attention(AttentionWeights {
            output_norm: None,
            gated: false,
            heads,
            rope: Some(Rope { pairs, dims: heads.dim, base: 10_000.0, divisors: Vec::new(), magnitude }),
            window: None,
            activations: Activations::Int8,
            norm: None,
            query,
            key,
            value,
            head_norms: norms.then_some(head_norms),
            output: Projection { rotation: None, norm: None, matrix: identity(hidden, heads.query_width()) },
        });
        let backends = backends();
        let expected = bits(&mixed(&backends[0], &x, &weights, tokens));
        for backend in &backends {
            for step in [1, 3, tokens] {
                let found = bits(&mixed(backend, &x, &weights, step));
                prop_assert_eq!(&found, &expected, "{} by {}", backend.describe(), step);
            }
        }
    }

    #[test]
    fn gates_agree(
        seed in any::<u64>(), width in 1usize..300, tokens in 1usize..7, silu in any::<bool>(),
        normed in any::<bool>(),
    ) {
        let mut numbers = Numbers(seed);
        let x = rows_behind_zeros(&mut numbers, tokens, 7, 16);
        let hidden = x.cols();
        let gate = floats(&mut numbers, width, hidden).with_output_scale(30.0).expect("a finite scale");
        let weights = GatedWeights {
            output_norm: None,
            function: if silu { Gate::Silu } else { Gate::Relu2 },
            activations: Activations::Int8,
            norm: None,
            gate: gate.into(),
            up: floats(&mut numbers, width, hidden).into(),
            down: Projection {
                rotation: None,
                norm: normed.then(|| norm(numbers.floats(width), 1e-5)),
                matrix: padded(&mut numbers, Format::I2s(I2sLayout::A), hidden, width),
            },
        };
        let backends = backends();
        let expected = bits(&fed(&backends[0], &x, &weights, tokens));
        for backend in &backends[1..] {
            prop_assert_eq!(&bits(&fed(backend, &x, &weights, tokens)), &expected, "{}", backend.describe());
        }
    }

    /// All parts ternary, normed and rounded, as models have them.
    #[test]
    fn ternary_sublayers_agree(
        seed in any::<u64>(), which in 0..TERNARY.len(), hidden in 1usize..200, width in 1usize..200,
        tokens in 1usize..9, int8 in any::<bool>(), own_norms in any::<bool>(),
    ) {
        let format = TERNARY[which];
        let mut numbers = Numbers(seed);
        let x = rows_behind_zeros(&mut numbers, tokens, 0, hidden);
        let [gate_norm, output_norm] = [(); 2].map(|()| {
            let weight = numbers.floats(hidden);
            own_norms.then(|| norm(weight, 1e-5))
        });
        let weights = GatedWeights {
            output_norm,
            function: if own_norms { Gate::Gelu } else { Gate::Relu2 },
            activations: if int8 { Activations::Int8 } else { Activations::F32 },
            norm: Some(norm(numbers.floats(hidden), 1e-5)),
            gate: Projection {
                rotation: None,
                norm: gate_norm,
                matrix: padded(&mut numbers, format, width, hidden),
            },
            up: padded(&mut numbers, format, width, hidden).into(),
            down: Projection {
                rotation: None,
                norm: Some(norm(numbers.floats(width), 1e-5)),
                matrix: padded(&mut numbers, format, hidden, width),
            },
        };
        let backends = backends();
        let expected = bits(&fed(&backends[0], &x, &weights, tokens));
        for backend in &backends {
            for step in [1, tokens] {
                let found = bits(&fed(backend, &x, &weights, step));
                prop_assert_eq!(&found, &expected, "{} by {}", backend.describe(), step);
            }
        }
    }
}
