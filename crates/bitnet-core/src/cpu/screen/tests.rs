//! The screened head against the full one: the same tokens and the same bits, whatever the rows.

use super::*;
use crate::cpu::Isa;
use crate::{Activations, Backend, Bytes};
use proptest::prelude::*;

fn backends() -> Vec<CpuBackend> {
    let isas = Isa::ALL.into_iter().filter(|isa| isa.is_available());
    isas.flat_map(|isa| [1, 3].map(|threads| CpuBackend::new(Some(threads), Some(isa)).unwrap()))
        .collect()
}

fn matrix(format: Format, rows: &[Vec<f32>]) -> WeightMatrix {
    let columns = rows[0].len();
    let mut data = Vec::new();
    for values in rows {
        let mut row = vec![0; format.row_bytes(columns).unwrap()];
        format.encode_row(values, 1.0, &mut row).unwrap();
        data.extend_from_slice(&row);
    }
    let shape = (rows.len(), columns, columns);
    WeightMatrix::new("head", format, shape, 1.0, Bytes::from(data)).unwrap()
}

fn rows(backend: &CpuBackend, x: &[f32], width: usize) -> Rows {
    Rows {
        values: backend.pool.buffer_copy(x, Tag::Activation).unwrap(),
        tokens: x.len() / width,
        width,
    }
}

fn bits(answers: &[Vec<Candidate>]) -> Vec<Vec<(u32, u32)>> {
    let bits = |answer: &Vec<Candidate>| {
        let pairs = answer.iter().map(|c| (c.id, c.logit.to_bits()));
        pairs.collect()
    };
    answers.iter().map(bits).collect()
}

/// Compares both heads on every instruction set; gives the logits computed on the last.
fn check(format: Format, table: &[Vec<f32>], x: &[f32], top: &Top<'_>) -> u64 {
    let mut computed = 0;
    for backend in backends() {
        let head = |mode| {
            backend
                .table(matrix(format, table), mode, Activations::F32)
                .unwrap()
        };
        let (full, screened) = (head(LmHeadMode::Full), head(LmHeadMode::Screened));
        let x = rows(&backend, x, table[0].len());
        let tops = vec![*top; x.tokens];
        let expected = backend.candidates(&x, &full, &tops).unwrap();
        let found = backend.candidates(&x, &screened, &tops).unwrap();
        assert_eq!(bits(&found), bits(&expected), "{}", backend.describe());
        computed = screened.shadow.unwrap().logits.into_inner();
    }
    computed
}

/// The span of every row holds its logit.
fn check_spans(format: Format, table: &[Vec<f32>], x: &[f32]) {
    let backend = CpuBackend::new(Some(1), None).unwrap();
    let screened = backend
        .table(
            matrix(format, table),
            LmHeadMode::Screened,
            Activations::F32,
        )
        .unwrap();
    let shadow = screened.shadow.as_ref().unwrap();
    let Some(rounded) = Rounded::new(x).filter(|x| x.fits(shadow)) else {
        return;
    };
    let x = rows(&backend, x, table[0].len());
    let logits = backend.logits(&x, &screened).unwrap();
    let stride = x.width + BOUNDS;
    for (row, logit) in shadow.rows.chunks_exact(stride).zip(logits) {
        let (q, bounds) = row.split_at(x.width);
        let bounds = Bounds::read(bounds);
        let mut sums = [0];
        backend.shadow_sums(row, x.width, std::slice::from_ref(&rounded), &mut sums);
        let [sum] = sums;
        let naive = q.iter().zip(&rounded.p);
        let naive: i64 = naive
            .map(|(q, p)| i64::from(*q as i8) * i64::from(*p))
            .sum();
        assert_eq!(sum, naive);
        let (middle, error) = bounds.span(sum, &rounded);
        let [least, most] = outwards(middle, error);
        assert!(
            (least..=most).contains(&logit),
            "{logit} is not in {least} to {most}"
        );
    }
}

fn weight() -> impl Strategy<Value = f32> {
    prop_oneof![
        12 => -1f32..1.0,
        1 => Just(0.0f32),
        1 => (-40i32..38).prop_map(|e| 10f32.powi(e)),
    ]
}

fn row(columns: usize) -> impl Strategy<Value = Vec<f32>> {
    let scale = prop_oneof![4 => Just(1.0f32), 1 => (-38i32..3).prop_map(|e| 10f32.powi(e))];
    let plain = (prop::collection::vec(-1f32..1.0, columns), scale)
        .prop_map(|(row, scale)| row.into_iter().map(|w| w * scale).collect());
    prop_oneof![
        6 => plain,
        1 => prop::collection::vec(weight(), columns),
        1 => Just(vec![0.0; columns]),
    ]
}

/// Rows, and copies of some of them that differ in their last bits.
fn head() -> impl Strategy<Value = (Vec<Vec<f32>>, Vec<f32>)> {
    (1usize..140, 1usize..7).prop_flat_map(|(columns, positions)| {
        let rows = prop::collection::vec(row(columns), 1..60);
        let near = prop::collection::vec((any::<prop::sample::Index>(), -3i32..4), 0..30);
        let x = prop_oneof![
            8 => prop::collection::vec(-3f32..3.0, positions * columns),
            1 => prop::collection::vec(weight(), positions * columns),
            1 => Just(vec![0.0; positions * columns]),
        ];
        (rows, near, x).prop_map(|(mut rows, near, x)| {
            for (index, ulps) in near {
                let mut copy = index.get(&rows).clone();
                let place = copy.len() / 2;
                copy[place] = f32::from_bits(copy[place].to_bits().wrapping_add_signed(ulps));
                if copy[place].is_finite() {
                    rows.push(copy);
                }
            }
            (rows, x)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn screening_changes_nothing(
        (table, x) in head(), count in 1usize..50, also in prop::collection::btree_set(0u32..70, 0..6),
        half in any::<bool>(),
    ) {
        let also: Vec<u32> = also.into_iter().collect();
        let fits = table.iter().flatten().all(|w| w.abs() < 60000.0);
        let format = if half && fits { Format::F16 } else { Format::F32 };
        check(format, &table, &x, &Top { count, also: &also });
    }

    #[test]
    fn every_logit_is_within_its_bound((table, x) in head()) {
        check_spans(Format::F32, &table, &x[..table[0].len()]);
    }

    #[test]
    fn quantized_tables_can_be_screened_too(seed in any::<u32>(), count in 1usize..5, which in 0usize..4) {
        let format = [Format::Bf16, Format::Q8_0, Format::Q6K, Format::Q4_0][which];
        let wave = |i: usize| ((seed as usize % 977 + 7919 * i) as f32).sin();
        let table: Vec<Vec<f32>> = (0..40).map(|r| (0..256).map(|c| wave(256 * r + c)).collect()).collect();
        let x: Vec<f32> = (0..512).map(|i| wave(i + 99)).collect();
        check(format, &table, &x, &Top { count, also: &[3] });
    }
}

#[test]
fn hard_rows() {
    let wave: Vec<f32> = (0..200).map(|i| (i as f32 * 0.7).sin()).collect();
    let scaled = |factor: f32| -> Vec<f32> { wave.iter().map(|w| w * factor).collect() };
    let outlier = |at: usize, value: f32| {
        let mut row = wave.clone();
        row[at] = value;
        row
    };
    let mut table = vec![wave.clone(); 5];
    table.extend([
        scaled(0.0),
        scaled(1e-30),
        scaled(1e-40),
        scaled(1e30),
        scaled(-1e30),
    ]);
    table.extend([outlier(3, 1e4), outlier(199, -1e6), outlier(7, 1e-20)]);
    table.extend([vec![f32::MAX; 200], vec![f32::MIN_POSITIVE; 200]]);
    let tiny = scaled(1e-42);
    for x in [
        &wave,
        &scaled(1e-30),
        &tiny,
        &scaled(0.0),
        &outlier(0, 1e9),
        &scaled(1e12),
    ] {
        check_spans(Format::F32, &table, x);
        for count in [1, 2, 5, 6, 100] {
            check(Format::F32, &table, x, &Top { count, also: &[] });
            check(
                Format::F32,
                &table,
                x,
                &Top {
                    count,
                    also: &[0, 5, 14, 1000],
                },
            );
        }
    }
}

#[test]
fn numbers_that_are_none_go_to_the_full_head() {
    let table = vec![vec![1.0; 40]; 3];
    for bad in [f32::NAN, f32::INFINITY, f32::MAX] {
        let mut x = vec![1.0; 40];
        x[17] = bad;
        let backend = CpuBackend::new(Some(1), None).unwrap();
        let head = backend.table(
            matrix(Format::F32, &table),
            LmHeadMode::Screened,
            Activations::F32,
        );
        let x = rows(&backend, &x, 40);
        let found = backend.candidates(
            &x,
            &head.unwrap(),
            &[Top {
                count: 1,
                also: &[],
            }],
        );
        let found = found.unwrap();
        assert_eq!((found[0].len(), found[0][0].id), (1, 0));
        assert_eq!(found[0][0].logit.is_finite(), bad == f32::MAX);
    }
    let bad = WeightMatrix::new(
        "head",
        Format::F32,
        (1, 1, 1),
        1.0,
        Bytes::from(vec![255; 4]),
    );
    let backend = CpuBackend::new(Some(1), None).unwrap();
    assert!(
        backend
            .table(bad.unwrap(), LmHeadMode::Screened, Activations::F32)
            .is_err()
    );
}

#[test]
fn most_of_a_head_is_not_computed() {
    let mut state = 1u32;
    let mut number = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    let table: Vec<Vec<f32>> = (0..2000)
        .map(|_| (0..512).map(|_| number()).collect())
        .collect();
    let x: Vec<f32> = (0..512).map(|_| number()).collect();
    let computed = check(
        Format::F16,
        &table,
        &x,
        &Top {
            count: 1,
            also: &[],
        },
    );
    assert!(computed < 200, "{computed} of 2000");
}

#[test]
fn a_head_that_multiplies_int8_is_not_screened() {
    let backend = CpuBackend::new(Some(1), None).unwrap();
    let values: Vec<Vec<f32>> = (0..5)
        .map(|row| (0..128).map(|i| ((row + i) % 3) as f32 - 1.0).collect())
        .collect();
    let table = |activations| {
        let weights = matrix(Format::Q2_0, &values);
        backend
            .table(weights, LmHeadMode::Screened, activations)
            .unwrap()
    };
    assert!(table(Activations::Int8).shadow.is_none());
    assert!(table(Activations::F32).shadow.is_some());
}
