//! Mixtures of experts against plain loops, and their bits however rows come together.

use super::*;
use crate::cpu::Isa;
use crate::cpu::tuning::Crossovers;
use crate::{Activations, Sublayer};
use bitnet_quant::Format;
use proptest::prelude::*;

fn numbers(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn matrix(format: Format, rows: usize, cols: usize, seed: u64) -> WeightMatrix {
    let mut data = Vec::new();
    for row in numbers(seed, rows * cols).chunks(cols) {
        let mut bytes = vec![0; format.row_bytes(cols).expect("whole blocks")];
        if format.is_ternary() {
            let codes: Vec<i8> = row.iter().map(|x| (x * 1.49).round() as i8).collect();
            let scales = vec![0.11; cols / format.block_len()];
            format
                .encode_codes(&codes, &scales, &mut bytes)
                .expect("codes");
        } else {
            format.encode_row(row, 1.0, &mut bytes).expect("numbers");
        }
        data.extend(bytes);
    }
    let shape = (rows, cols, cols);
    WeightMatrix::new("experts", format, shape, 1.0, data.into()).expect("a matrix")
}

/// A mixture of `count` experts, each `width` wide, over rows of 256.
fn weights(
    format: Format,
    [count, used, width]: [usize; 3],
    activations: Activations,
) -> ExpertsWeights {
    const HIDDEN: usize = 256;
    ExpertsWeights {
        function: Gate::Silu,
        limit: Some(0.75),
        activations,
        norm: None,
        router: matrix(Format::F32, count, HIDDEN, 1),
        used,
        gate: matrix(format, count * width, HIDDEN, 2),
        up: matrix(format, count * width, HIDDEN, 3),
        down: matrix(format, count * HIDDEN, width, 4),
    }
}

/// Rows to which the mixture adds its result.
fn run(backend: &CpuBackend, experts: &Experts, x: &[f32]) -> Vec<f32> {
    let mut rows = Rows::of(&backend.pool, x, 256).expect("rows");
    backend.feed_experts(&mut rows, experts).expect("results");
    rows.values.to_vec()
}

fn decoded(matrix: &WeightMatrix) -> Vec<f32> {
    let mut values = vec![0.0; matrix.rows() * matrix.cols()];
    let rows = values.chunks_mut(matrix.cols()).enumerate();
    for (row, out) in rows {
        let decoded = matrix.format().decode_row(matrix.row(row), 1.0, out);
        decoded.expect("a row");
    }
    values
}

fn dot(x: &[f32], w: &[f32]) -> f64 {
    let products = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
    products.sum()
}

/// Plain loops in f64.
fn plain(weights: &ExpertsWeights, x: &[f32]) -> Vec<f64> {
    let (hidden, width) = (weights.router.cols(), weights.down.cols());
    let [router, gate, up, down] =
        [&weights.router, &weights.gate, &weights.up, &weights.down].map(decoded);
    let limit = weights.limit.map_or(f64::INFINITY, f64::from);
    let mut out = Vec::new();
    for row in x.chunks(hidden) {
        let logits: Vec<f64> = router.chunks(hidden).map(|w| dot(row, w)).collect();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        let chosen = &order[..weights.used];
        let sum: f64 = chosen.iter().map(|expert| logits[*expert].exp()).sum();
        let mut result: Vec<f64> = row.iter().copied().map(f64::from).collect();
        for expert in chosen {
            let own = |matrix: &[f32], rows: usize, cols: usize| {
                matrix[expert * rows * cols..][..rows * cols].to_vec()
            };
            let gates = own(&gate, width, hidden);
            let ups = own(&up, width, hidden);
            let inner = gates
                .chunks(hidden)
                .zip(ups.chunks(hidden))
                .map(|(gate, up)| {
                    let gate = dot(row, gate).min(limit);
                    let up = dot(row, up).clamp(-limit, limit);
                    (gate / (1.0 + (-gate).exp()) * up) as f32
                });
            let inner: Vec<f32> = inner.collect();
            let share = logits[*expert].exp() / sum;
            for (out, w) in result
                .iter_mut()
                .zip(own(&down, hidden, width).chunks(width))
            {
                *out += share * dot(&inner, w);
            }
        }
        out.extend(result);
    }
    out
}

#[test]
fn results_are_those_of_plain_loops() {
    for format in [Format::F32, Format::F16, Format::Q2_0, Format::Q2_0Group128] {
        let weights = weights(format, [5, 3, 128], Activations::F32);
        let x = numbers(9, 20 * 256);
        let expected = plain(&weights, &x);
        let backend = CpuBackend::new(Some(2), None).expect("a backend");
        let experts = backend.experts_of(weights).expect("experts");
        let found = run(&backend, &experts, &x);
        for (found, expected) in found.iter().zip(&expected) {
            assert!(
                (f64::from(*found) - expected).abs() < 1e-5,
                "{format}: {found} {expected}"
            );
        }
    }
}

#[test]
fn bits_do_not_depend_on_company_threads_or_kernels() {
    let x = numbers(5, 700 * 256);
    for (format, width) in [
        (Format::Tq2_0, 256),
        (Format::Tq1_0, 256),
        (Format::Q2_0, 64),
        // Rows of an expert that are no whole run of rows side by side.
        (Format::Ptq1_0, 128),
        (Format::F16, 40),
    ] {
        for activations in [Activations::Int8, Activations::F32] {
            let weights = weights(format, [9, 2, width], activations);
            let mut expected: Option<Vec<u32>> = None;
            for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
                for threads in [1, 3] {
                    let shared = Crossovers::built_in(isa).with_all_parallel_above(0);
                    let backend = CpuBackend::new(Some(threads), Some(isa)).expect("a backend");
                    let backend = backend.with_crossovers(shared);
                    let experts = backend.experts_of(weights.clone()).expect("experts");
                    let rows = match threads {
                        1 => 13,
                        _ => 40,
                    };
                    let whole = run(&backend, &experts, &x[..rows * 256]);
                    let apart = x[..rows * 256]
                        .chunks(256)
                        .flat_map(|x| run(&backend, &experts, x));
                    let whole: Vec<u32> = whole.iter().map(|x| x.to_bits()).collect();
                    assert!(
                        apart.map(f32::to_bits).eq(whole.iter().copied()),
                        "{format}, {isa}"
                    );
                    let expected = expected.get_or_insert_with(|| whole.clone());
                    let same = whole
                        .iter()
                        .zip(&*expected)
                        .all(|(one, other)| one == other);
                    assert!(same, "{format}, {isa}, {threads} threads");
                }
            }
        }
    }
}

#[test]
fn many_rows_run_in_pieces() {
    let x = numbers(6, (MOST_ROWS + 5) * 256);
    let weights = weights(Format::Tq2_0, [4, 2, 256], Activations::Int8);
    let backend = CpuBackend::new(Some(1), None).expect("a backend");
    let experts = backend.experts_of(weights).expect("experts");
    let found = run(&backend, &experts, &x);
    let last = run(&backend, &experts, &x[MOST_ROWS * 256..]);
    assert!(found[MOST_ROWS * 256..] == last[..]);
}

#[test]
fn a_token_reads_what_its_experts_hold() {
    let weights = weights(Format::Tq2_0, [8, 2, 256], Activations::Int8);
    let expert = [&weights.gate, &weights.up, &weights.down].map(|all| all.data().len() / 8);
    let router = weights.router.data().len();
    let backend = CpuBackend::new(Some(1), None).expect("a backend");
    let loaded = backend.feed_forward_of(crate::FeedForwardWeights::Experts(weights));
    let bytes = loaded.expect("experts").bytes();
    assert_eq!(bytes, router + 2 * expert.iter().sum::<usize>());
}

#[test]
fn logits_that_are_no_numbers_are_an_error() {
    let backend = CpuBackend::new(Some(1), None).expect("a backend");
    let experts = weights(Format::Tq2_0, [4, 2, 256], Activations::Int8);
    let experts = backend.experts_of(experts).expect("experts");
    for wrong in [f32::NAN, f32::INFINITY] {
        let mut rows = Rows::of(&backend.pool, &[wrong; 256], 256).expect("rows");
        let error = backend
            .feed_experts(&mut rows, &experts)
            .expect_err("no choice");
        assert!(error.to_string().contains("logit of expert"), "{error}");
    }
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let good = || weights(Format::Tq2_0, [4, 2, 256], Activations::Int8);
    let backend = CpuBackend::new(Some(1), None).expect("a backend");
    for (wrong, expected) in [
        (ExpertsWeights { used: 5, ..good() }, "1 to 4"),
        (ExpertsWeights { used: 0, ..good() }, "1 to 4"),
        (
            ExpertsWeights {
                limit: Some(f32::NAN),
                ..good()
            },
            "limit",
        ),
        (
            ExpertsWeights {
                up: matrix(Format::Tq2_0, 3 * 256, 256, 1),
                ..good()
            },
            "1024×256",
        ),
        (
            ExpertsWeights {
                router: matrix(Format::F32, 5, 256, 1),
                ..good()
            },
            "1280×256",
        ),
    ] {
        let error = backend.experts_of(wrong).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

proptest! {
    #[test]
    fn the_largest_logits_are_chosen_and_of_equal_ones_the_first(
        logits in prop::collection::vec(prop::sample::select(vec![-2.5f32, -1.0, 0.0, 0.5, 0.75, 3.0]), 1..20),
        used in 1usize..8,
    ) {
        let used = used.min(logits.len());
        let mut order: Vec<usize> = (0..logits.len()).collect();
        // A stable sort.
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        let mut chosen = vec![Choice::default(); used];
        choose(&logits, &mut chosen);
        let experts: Vec<usize> = chosen.iter().map(|choice| choice.expert).collect();
        prop_assert_eq!(&experts, &order[..used]);
        let sum: f32 = chosen.iter().map(|choice| choice.weight).sum();
        prop_assert!((sum - 1.0).abs() < 1e-6);
    }
}

#[test]
fn backends_without_mixtures_and_windows_refuse_them_by_name() {
    let experts = weights(Format::Tq2_0, [4, 2, 256], Activations::Int8);
    let refused = crate::FeedForwardWeights::Experts(experts).into_gated("the GPU backends");
    let error = refused.expect_err("refused").to_string();
    assert!(
        error.contains("a mixture of experts (experts)") && error.contains("not on the GPU"),
        "{error}"
    );
    let heads = crate::AttentionHeads {
        query: 1,
        kv: 1,
        dim: 256,
    };
    let matrix = || matrix(Format::Tq2_0, 256, 256, 1).into();
    let attention = crate::AttentionWeights {
        heads,
        rope: None,
        window: Some(8),
        activations: Activations::Int8,
        norm: None,
        gated: false,
        query: matrix(),
        key: matrix(),
        value: matrix(),
        head_norms: None,
        output: matrix(),
        output_norm: None,
    };
    let mixer = crate::MixerWeights::Attention(attention);
    let state = mixer.state();
    assert_eq!(state, crate::MixerState::Window(heads, 8));
    let error = state.keys_values("MLX").expect_err("refused").to_string();
    assert!(
        error.contains("a window") && error.contains("not on MLX"),
        "{error}"
    );
    let error = mixer
        .into_attention("MLX")
        .expect_err("refused")
        .to_string();
    assert!(error.contains("a window of 8 (experts)"), "{error}");
    let error = crate::sublayer::rotating(None, "blk.3.attn_q", "MLX");
    let error = error.expect_err("refused").to_string();
    assert!(
        error.contains("without rotary positions (blk.3.attn_q)"),
        "{error}"
    );
}
