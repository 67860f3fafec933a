//! Attention on every instruction set against plain loops in the order of the contract, bit for bit.

use super::*;
use crate::cpu::tuning::Crossovers;
use crate::cpu::{CpuState, Isa};
use crate::math::{exp, tree_sum};
use crate::simd::POSITIONS;
use crate::{Backend, KvType, MixerState, SequenceState, Snapshots};
use proptest::prelude::*;

/// Attention of one query to rows of keys and values, `[position][kv head][dim]`, of which a head begins at `first`.
fn plain(
    query: &[f32],
    rows: &[Vec<f32>; 2],
    first: usize,
    stride: usize,
    (positions, window): (usize, usize),
) -> Vec<f32> {
    let dim = query.len();
    let [keys, values] = rows.each_ref().map(|rows| {
        let rows = rows.chunks(stride).take(positions);
        rows.map(|row| &row[first..first + dim]).collect::<Vec<_>>()
    });
    let scale = 1.0 / (dim as f32).sqrt();
    let (mut largest, mut sum, mut out) = (f32::NEG_INFINITY, 0.0, vec![0.0; dim]);
    let blocks = keys.chunks(POSITIONS).zip(values.chunks(POSITIONS));
    for (block, (keys, values)) in blocks.enumerate() {
        let before = positions.saturating_sub(window + block * POSITIONS);
        let (Some(keys), Some(values)) = (keys.get(before..), values.get(before..)) else {
            continue;
        };
        if keys.is_empty() {
            continue;
        }
        let scores = keys.iter().map(|key| {
            let products = query.iter().zip(*key);
            products.fold(0.0, |sum, (q, k)| sum + q * k) * scale
        });
        let scores: Vec<f32> = scores.collect();
        let now = scores.iter().fold(largest, |most, score| most.max(*score));
        let shrink = exp(largest - now);
        let weights: Vec<f32> = scores.iter().map(|score| exp(score - now)).collect();
        let mut lanes = [0.0; 16];
        for (i, weight) in weights.iter().enumerate() {
            lanes[i % 16] += weight;
        }
        sum = sum * shrink + tree_sum(lanes);
        largest = now;
        for (column, out) in out.iter_mut().enumerate() {
            *out *= shrink;
            for (weight, value) in weights.iter().zip(values) {
                *out += weight * value[column];
            }
        }
    }
    out.iter().map(|x| x * (1.0 / sum)).collect()
}

/// Every kernel set, on one thread and on several that share the least work.
fn backends() -> Vec<CpuBackend> {
    let sets = Isa::ALL.into_iter().filter(|isa| isa.is_available());
    sets.flat_map(|isa| {
        let shared = Crossovers::built_in(isa).with_all_parallel_above(0);
        [1, 3].map(|threads| {
            let backend = CpuBackend::new(Some(threads), Some(isa)).unwrap();
            backend.with_crossovers(shared)
        })
    })
    .collect()
}

/// A sequence that has read `before` positions, and attends from `new` others.
#[derive(Debug, Clone)]
struct Case {
    before: usize,
    new: usize,
}

fn case() -> impl Strategy<Value = Case> {
    let before = prop::sample::select(vec![0, 1, 17, 62, 63, 64, 65, 127, 128, 191, 300]);
    let new = prop::sample::select(vec![1, 1, 1, 2, 3, 5, 7, 16, 33, 70]);
    (before, new).prop_map(|(before, new)| Case { before, new })
}

fn numbers(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 22) as f32 - 2.0
    };
    (0..len).map(|_| next()).collect()
}

fn state(
    backend: &CpuBackend,
    heads: AttentionHeads,
    (kv, window): (KvType, Option<usize>),
    case: &Case,
    seed: u64,
) -> CpuState {
    let layers = [match window {
        None => MixerState::KeysValues(heads),
        Some(window) => MixerState::Window(heads, window),
    }];
    let count = case.before + case.new;
    let mut state = backend.state(&layers, 1000, Some(kv)).unwrap();
    let floats = count * heads.kv_width();
    let (keys, values) = (numbers(seed, floats), numbers(seed ^ 77, floats));
    backend.write_layer(&mut state, 0, &keys, &values).unwrap();
    // As a batch of all its rows does behind attention.
    state.advance(count);
    state
}

/// Attention of all cases in one batch, and what plain loops say.
fn check(heads: AttentionHeads, (kv, window): (KvType, Option<usize>), cases: &[Case], seed: u64) {
    let mut expected: Option<Vec<f32>> = None;
    for backend in backends() {
        let states = cases.iter().zip(seed..);
        let states: Vec<CpuState> = states
            .map(|(case, seed)| state(&backend, heads, (kv, window), case, seed))
            .collect();
        let mut spans = Vec::new();
        let mut tokens = 0;
        for (state, case) in states.iter().zip(cases) {
            spans.push(Attended {
                keys_values: state.layer(0).unwrap(),
                run: Run {
                    rows: tokens..tokens + case.new,
                    first: case.before,
                },
            });
            tokens += case.new;
        }
        let width = heads.query_width();
        let queries = numbers(seed ^ 5, tokens * width);
        let q = Rows::of(backend.pool(), &queries, width).unwrap();
        let found = backend.attend(&q, heads, &spans).unwrap();
        let expected = expected.get_or_insert_with(|| {
            let group = heads.query / heads.kv;
            let mut all = Vec::new();
            for (state, Attended { run, .. }) in states.iter().zip(&spans) {
                assert_eq!(state.len(), run.first + run.rows.len());
                let rows = state.rows(0).unwrap();
                for row in run.rows.clone() {
                    let queries = queries[row * width..][..width]
                        .chunks(heads.dim)
                        .enumerate();
                    let positions = run.first + row - run.rows.start + 1;
                    all.extend(queries.flat_map(|(head, query)| {
                        let first = head / group * heads.dim;
                        let seen = (positions, window.unwrap_or(positions));
                        plain(query, &rows, first, heads.kv_width(), seen)
                    }));
                }
            }
            all
        });
        let same = found.values.iter().zip(&*expected);
        let same = same.filter(|(found, expected)| found.to_bits() == expected.to_bits());
        assert_eq!(
            same.count(),
            expected.len(),
            "{}, {heads:?}, {kv}, {window:?}, {cases:?}",
            backend.describe()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn attention_has_the_bits_of_plain_loops(
        kv_heads in 1usize..3,
        group in 1usize..9,
        dim in prop::sample::select(vec![1, 3, 16, 32, 40, 64, 80, 96, 100, 128]),
        kv in prop::sample::select(&KvType::ALL),
        window in prop::option::of(prop::sample::select(vec![1, 2, 5, 63, 64, 65, 100, 128, 200])),
        cases in prop::collection::vec(case(), 1..4),
        seed in any::<u64>(),
    ) {
        let heads = AttentionHeads { query: kv_heads * group, kv: kv_heads, dim };
        check(heads, (kv, window), &cases, seed);
    }
}

#[test]
fn tiles_of_every_size_meet_every_edge_of_a_block() {
    for group in [1, 4, 5] {
        let heads = AttentionHeads {
            query: group,
            kv: 1,
            dim: 32,
        };
        for kv in KvType::ALL {
            let cases = [(0, 1), (0, 130), (63, 2), (64, 100), (120, 9)];
            let cases = cases.map(|(before, new)| Case { before, new });
            for window in [None, Some(3), Some(64), Some(70)] {
                check(heads, (kv, window), &cases, 3);
            }
        }
    }
}
