//! Every kernel set gives the scalar reference's bits, for any thread count and any batching.

mod batches;
mod model;
mod refusals;
mod sublayers;

use bitnet_core::cpu::tuning::Crossovers;
use bitnet_core::cpu::{CpuBackend, Isa};
use bitnet_core::{Activations, Backend, Bytes, WeightMatrix};
use bitnet_quant::{Format, I2sLayout, quantize_absmax_i8};
use proptest::prelude::*;
use proptest::sample::select;
use std::sync::LazyLock;

/// All ternary formats.
static TERNARY: LazyLock<Vec<Format>> = LazyLock::new(|| {
    let all = Format::ALL.iter().copied();
    all.filter(|format| format.is_ternary()).collect()
});

/// Ways to compute: the first one from the bytes of the files, the last one from what it prefers to read.
fn backends() -> Vec<CpuBackend> {
    let mut list = Vec::new();
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        // However small the work: never shared, shared from packed rows, shared from tiles.
        let built_in = Crossovers::built_in(isa);
        let shared = built_in.with_all_parallel_above(0);
        for (threads, crossovers, interleaved) in [
            (1, built_in, false),
            (2, built_in, false),
            (2, shared.with_gemv_max_tokens(99), false),
            (3, shared.with_gemv_max_tokens(0), false),
            (2, shared.with_gemv_max_tokens(99), true),
            (2, shared.with_gemv_max_tokens(0), true),
        ] {
            let backend = CpuBackend::new(Some(threads), Some(isa)).expect("an available backend");
            let backend = backend.with_base3(false).with_interleaving(interleaved);
            list.push(backend.with_crossovers(crossovers));
        }
    }
    for isa in [Isa::Scalar, Isa::best()] {
        let backend = CpuBackend::new(Some(2), Some(isa)).expect("a backend");
        list.push(backend.with_base3(true).with_interleaving(true));
    }
    list
}

/// A small generator, so that a case is its seed.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
    fn float(&mut self) -> f32 {
        (self.next() % 20_001) as f32 / 10_000.0 - 1.0
    }
    fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.float()).collect()
    }
}

/// A random matrix of `format` and its codes.
fn ternary(
    numbers: &mut Numbers,
    format: Format,
    rows: usize,
    cols: usize,
) -> (WeightMatrix, Vec<i8>) {
    let codes: Vec<i8> = (0..rows * cols)
        .map(|_| (numbers.next() % 3) as i8 - 1)
        .collect();
    let mut data = Vec::new();
    for codes in codes.chunks(cols) {
        let scales = numbers.floats(cols / format.block_len());
        let mut row = vec![0; format.row_bytes(cols).expect("whole blocks")];
        format
            .encode_codes(codes, &scales, &mut row)
            .expect("ternary codes");
        data.extend_from_slice(&row);
    }
    let scale = if matches!(format, Format::I2s(_)) {
        0.37
    } else {
        1.0
    };
    let matrix = WeightMatrix::new("w", format, (rows, cols, cols), scale, Bytes::from(data));
    (matrix.expect("a matching size"), codes)
}

/// A table of `values` in rows of `cols`, which may end within a block.
fn table(values: &[f32], cols: usize, format: Format) -> WeightMatrix {
    let stored = cols.next_multiple_of(format.block_len());
    let mut data = Vec::new();
    for values in values.chunks(cols) {
        let mut padded = values.to_vec();
        padded.resize(stored, 0.0);
        let mut row = vec![0; format.row_bytes(stored).expect("whole blocks")];
        format
            .encode_row(&padded, 1.0, &mut row)
            .expect("finite values");
        data.extend_from_slice(&row);
    }
    let shape = (values.len() / cols, cols, stored);
    WeightMatrix::new("table", format, shape, 1.0, Bytes::from(data)).expect("a matching size")
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The product of the rows of `x` with a matrix that is used where it lies, and with its resident form; both are the same.
fn product(
    backend: &CpuBackend,
    matrix: &WeightMatrix,
    x: &[f32],
    activations: Activations,
) -> Vec<f32> {
    let tokens = x.len() / matrix.cols();
    let mut plain = vec![0.0; tokens * matrix.rows()];
    backend
        .multiply(x, matrix, activations, &mut plain)
        .expect("a product");
    let resident = backend.resident(matrix.clone()).expect("a matrix");
    let prepared = backend
        .prepare_rows(x, matrix.cols(), activations)
        .expect("rows");
    let mut product = vec![0.0; plain.len()];
    backend
        .multiply_prepared(&prepared, &resident, &mut product)
        .expect("a product");
    let same = plain.iter().zip(&product);
    let same = same.filter(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan());
    assert_eq!(same.count(), plain.len(), "{}", backend.describe());
    product
}

/// Rows that end where their allocation ends, in groups that fill no register of any width: under AddressSanitizer no kernel may read on.
#[test]
fn rows_of_odd_groups_are_read_to_their_end_only() {
    for &format in TERNARY.iter() {
        for blocks in [1, 2, 3, 5, 7, 9] {
            for rows in [1, 4, 5] {
                let cols = blocks * format.block_len();
                let mut numbers = Numbers(7);
                let (matrix, _) = ternary(&mut numbers, format, rows, cols);
                let x = numbers.floats(cols);
                let backends = backends();
                let expected = product(&backends[0], &matrix, &x, Activations::Int8);
                for backend in &backends[1..] {
                    let found = product(backend, &matrix, &x, Activations::Int8);
                    let name = backend.describe();
                    let same = bits(&found) == bits(&expected);
                    assert!(same, "{format}, {rows} × {cols}, {name}");
                }
            }
        }
    }
}

/// So many cases, or fewer if `PROPTEST_CASES` says so: an emulated processor takes many times as long for each.
fn at_most(cases: u32) -> ProptestConfig {
    ProptestConfig::with_cases(ProptestConfig::default().cases.min(cases))
}

proptest! {
    #![proptest_config(at_most(48))]

    #[test]
    fn ternary_products_agree(
        seed in any::<u64>(),
        which in 0..TERNARY.len(),
        rows in 1usize..41,
        blocks in 1usize..6,
        tokens in 1usize..10,
        wide in any::<bool>(),
    ) {
        let format = TERNARY[which];
        let cols = blocks * format.block_len() * if wide { 5 } else { 1 };
        let mut numbers = Numbers(seed);
        let (matrix, _) = ternary(&mut numbers, format, rows, cols);
        let x = numbers.floats(tokens * cols);
        for activations in [Activations::Int8, Activations::Int8Groups, Activations::F32] {
            let backends = backends();
            let expected = bits(&product(&backends[0], &matrix, &x, activations));
            for backend in &backends[1..] {
                let found = bits(&product(backend, &matrix, &x, activations));
                prop_assert_eq!(&found, &expected, "{}", backend.describe());
            }
            // Token by token, the same bits.
            let single = x.chunks(cols).flat_map(|x| product(&backends[0], &matrix, x, activations));
            prop_assert_eq!(bits(&single.collect::<Vec<f32>>()), expected);
        }
    }
}

proptest! {
    #![proptest_config(at_most(48))]

    /// Bytes that no encoder writes: base-3 bytes that stand for no number, and 2-bit codes 3, which are +2.
    #[test]
    fn any_bytes_multiply_as_they_decode(
        seed in any::<u64>(),
        (format, scale_at) in select(&[
            (Format::Tq1_0, 52),
            (Format::Ptq1_0, 26),
            (Format::Q2_0, 0),
            (Format::Q2_0Group128, 0),
        ]),
        rows in 1usize..36,
        blocks in 1usize..8,
        tokens in 1usize..4,
    ) {
        let mut numbers = Numbers(seed);
        let cols = blocks * format.block_len();
        let (matrix, _) = ternary(&mut numbers, format, rows, cols);
        let mut data = matrix.data().to_vec();
        for block in data.chunks_mut(format.block_bytes()) {
            for (at, byte) in block.iter_mut().enumerate() {
                if !(scale_at..scale_at + 2).contains(&at) {
                    *byte = numbers.next() as u8;
                }
            }
        }
        let matrix = WeightMatrix::new("w", format, (rows, cols, cols), 1.0, data.into());
        let matrix = matrix.expect("a matching size");
        // Whole numbers that rounding leaves alone.
        let mut x: Vec<f32> = (0..tokens * cols).map(|_| numbers.below(255) as f32 - 127.0).collect();
        x.chunks_mut(cols).for_each(|x| x[0] = 127.0);
        let mut expected = Vec::new();
        let (mut codes, mut scales) = (vec![0; cols], vec![0.0; blocks]);
        for x in x.chunks(cols) {
            for row in matrix.row_range(0, rows) {
                format.decode_codes(row, &mut codes).expect("codes");
                format.block_scales(row, &mut scales).expect("scales");
                let groups = codes.chunks(format.block_len()).zip(x.chunks(format.block_len()));
                expected.push(groups.zip(&scales).fold(0.0, |total, ((codes, x), d)| {
                    let products = codes.iter().zip(x).map(|(c, x)| i32::from(*c) * *x as i32);
                    total + products.sum::<i32>() as f32 * d
                }));
            }
        }
        for backend in backends() {
            let found = product(&backend, &matrix, &x, Activations::Int8);
            prop_assert_eq!(&found, &expected, "{}, {}", format, backend.describe());
        }
    }
}

#[test]
fn a_ternary_product_is_the_documented_one() {
    // Four rows of eight codes, padded with zero weights to a block.
    let t = |i: usize| ((7 * i + i / 5) % 3) as i8 - 1;
    let format = Format::I2s(I2sLayout::A);
    let mut data = Vec::new();
    for row in 0..4 {
        let mut codes = [0i8; 128];
        (0..8).for_each(|i| codes[i] = t(8 * row + i));
        let mut bytes = [0; 32];
        format
            .encode_codes(&codes, &[], &mut bytes)
            .expect("ternary codes");
        data.extend_from_slice(&bytes);
    }
    let x = [0.5, -1.0, 0.25, 0.125, -0.75, 2.0, -2.0, 1.0];
    let expected = [-2.055_118f32, -6.779_528, -5.267_716, 5.834_646];
    for backend in backends() {
        let matrix = WeightMatrix::new("w", format, (4, 8, 128), 1.5, Bytes::from(data.clone()));
        let matrix = matrix.expect("a matching size");
        let found = product(&backend, &matrix, &x, Activations::Int8);
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{}", backend.describe());
        }
    }
}

#[test]
fn groups_of_activations_are_rounded_by_scales_of_their_own() {
    let (rows, cols) = (5, 3 * 256);
    let mut numbers = Numbers(3);
    let (matrix, _) = ternary(&mut numbers, Format::Q2_0Group128, rows, cols);
    let mut x = numbers.floats(2 * cols);
    // An outlier, which coarsens its group alone.
    x[300] = 40.0;
    let mut rounded = x.clone();
    for group in rounded.chunks_mut(Activations::GROUP) {
        let mut q = [0; Activations::GROUP];
        let scale = quantize_absmax_i8(group, &mut q).expect("finite numbers");
        let back = q.map(|q| f32::from(q) / scale);
        group.copy_from_slice(&back);
    }
    for backend in backends() {
        let found = product(&backend, &matrix, &x, Activations::Int8Groups);
        let expected = product(&backend, &matrix, &rounded, Activations::F32);
        assert_eq!(bits(&found), bits(&expected), "{}", backend.describe());
    }
    // Matrices of other formats multiply what is not rounded.
    let dense = table(&numbers.floats(rows * cols), cols, Format::F16);
    let backend = &backends()[0];
    let found = product(backend, &dense, &x, Activations::Int8Groups);
    let expected = product(backend, &dense, &x, Activations::F32);
    assert_eq!(bits(&found), bits(&expected));
}

#[test]
fn hostile_activations_agree_too() {
    let mut numbers = Numbers(7);
    let (matrix, _) = ternary(&mut numbers, Format::I2s(I2sLayout::A), 5, 128);
    for value in [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        0.0,
        1e-40,
    ] {
        // One NaN is as good as another.
        let canonical = |value: f32| {
            if value.is_nan() {
                u32::MAX
            } else {
                value.to_bits()
            }
        };
        let mut results = backends().into_iter().map(|backend| {
            let found = product(&backend, &matrix, &[value; 128], Activations::Int8);
            found.into_iter().map(canonical).collect::<Vec<_>>()
        });
        let expected = results.next().expect("the scalar reference");
        assert_eq!(expected.len(), 5);
        assert!(results.all(|result| result == expected), "{value}");
    }
}
