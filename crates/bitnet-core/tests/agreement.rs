//! Every kernel set gives the scalar reference's bits, for any thread count and any batching.

use bitnet_core::cpu::tuning::Crossovers;
use bitnet_core::cpu::{CpuBackend, CpuTable, Isa};
use bitnet_core::{
    Activations, Backend, Bytes, Gate, Heads, Norm, Pending, Rope, RopePairs, WeightMatrix,
};
use bitnet_quant::{Format, I2sLayout};
use proptest::prelude::*;

const TERNARY: [Format; 6] = [
    Format::I2s(I2sLayout::A),
    Format::I2s(I2sLayout::B),
    Format::Tq1_0,
    Format::Tq2_0,
    Format::Q2_0,
    Format::Q2_0Group128,
];

/// Ways to compute: the first one from the bytes of the files, the last one from what it prefers to read.
fn backends() -> Vec<CpuBackend> {
    let mut list = Vec::new();
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        // However small the work: never shared, shared from packed rows, shared from tiles.
        let built_in = Crossovers::built_in(isa);
        let shared = built_in.with_all_parallel_above(0);
        for (threads, crossovers) in [
            (1, built_in),
            (2, built_in),
            (2, shared.with_gemv_max_tokens(99)),
            (3, shared.with_gemv_max_tokens(0)),
        ] {
            let backend = CpuBackend::new(Some(threads), Some(isa)).expect("an available backend");
            let backend = backend.with_base3(false);
            list.push(backend.with_crossovers(crossovers));
        }
    }
    list.push(
        CpuBackend::new(Some(2), None)
            .expect("a backend")
            .with_base3(true),
    );
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

fn table(values: &[f32], cols: usize, format: Format) -> CpuTable {
    let mut data = Vec::new();
    for values in values.chunks(cols) {
        let mut row = vec![0; format.row_bytes(cols).expect("whole blocks")];
        format
            .encode_row(values, 1.0, &mut row)
            .expect("finite values");
        data.extend_from_slice(&row);
    }
    let shape = (values.len() / cols, cols, cols);
    let table = WeightMatrix::new("table", format, shape, 1.0, Bytes::from(data));
    table.expect("a matching size").into()
}

/// Bits of the logits when the identity is the head, so that tests can read hidden rows.
fn read(backend: &CpuBackend, x: &<CpuBackend as Backend>::Hidden, width: usize) -> Vec<u32> {
    let identity: Vec<f32> = (0..width * width)
        .map(|i| f32::from(u8::from(i % width == i / width)))
        .collect();
    let gain = backend.gain(vec![1.0; width]).expect("a gain");
    let norm = Norm {
        gain: &gain,
        eps: 1e-5,
    };
    let head = table(&identity, width, Format::F32);
    let logits = backend.head(x, 0, norm, &head).and_then(Pending::now);
    let logits = logits.expect("logits");
    logits.into_iter().map(f32::to_bits).collect()
}

fn product(
    backend: &CpuBackend,
    matrix: &WeightMatrix,
    x: &[f32],
    activations: Activations,
) -> Vec<u32> {
    let cols = matrix.cols();
    let tokens: Vec<u32> = (0..(x.len() / cols) as u32).collect();
    let rows = backend
        .rows(&table(x, cols, Format::F32), &tokens)
        .expect("rows");
    let a = backend
        .norm_quantize(&rows, None, activations)
        .expect("activations");
    let weights = backend.matrix(matrix.clone()).expect("a matrix");
    let y = backend
        .matmul(&a, &[&weights])
        .expect("a product")
        .remove(0);
    read(backend, &y, matrix.rows())
}

/// Rows that end where their allocation ends, in groups that fill no register of any width: under AddressSanitizer no kernel may read on.
#[test]
fn rows_of_odd_groups_are_read_to_their_end_only() {
    for format in TERNARY {
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
                    assert_eq!(found, expected, "{format}, {rows} × {cols}, {name}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn ternary_products_agree(
        seed in any::<u64>(),
        which in 0..TERNARY.len(),
        rows in 1usize..23,
        blocks in 1usize..6,
        tokens in 1usize..10,
        wide in any::<bool>(),
    ) {
        let format = TERNARY[which];
        let cols = blocks * format.block_len() * if wide { 5 } else { 1 };
        let mut numbers = Numbers(seed);
        let (matrix, _) = ternary(&mut numbers, format, rows, cols);
        let x = numbers.floats(tokens * cols);
        for activations in [Activations::Int8, Activations::F32] {
            let backends = backends();
            let expected = product(&backends[0], &matrix, &x, activations);
            for backend in &backends[1..] {
                prop_assert_eq!(&product(backend, &matrix, &x, activations), &expected, "{}", backend.describe());
            }
            // Token by token, the same bits.
            let single: Vec<u32> = x.chunks(cols).flat_map(|x| product(&backends[0], &matrix, x, activations)).collect();
            prop_assert_eq!(single, expected);
        }
    }

    #[test]
    fn head_products_agree(
        seed in any::<u64>(), rows in 1usize..40, cols in 1usize..3, tokens in 1usize..6,
        which in 0usize..6,
    ) {
        let format = [Format::F32, Format::F16, Format::Bf16, Format::Q8_0, Format::Q6K, Format::Q4_0][which];
        let cols = cols * 256;
        let mut numbers = Numbers(seed);
        let head = table(&numbers.floats(rows * cols), cols, format);
        let x = table(&numbers.floats(tokens * cols), cols, Format::F32);
        let ids: Vec<u32> = (0..tokens as u32).collect();
        let logits = |backend: &CpuBackend, ids: &[u32]| -> Vec<u32> {
            let gain = backend.gain(vec![0.7; cols]).expect("a gain");
            let norm = Norm { gain: &gain, eps: 1e-5 };
            let rows = backend.rows(&x, ids).expect("rows");
            let logits = backend.head(&rows, 0, norm, &head).and_then(Pending::now);
            let logits = logits.expect("logits");
            logits.into_iter().map(f32::to_bits).collect()
        };
        let backends = backends();
        let expected = logits(&backends[0], &ids);
        for backend in &backends[1..] {
            prop_assert_eq!(&logits(backend, &ids), &expected, "{}", backend.describe());
        }
        let single: Vec<u32> = ids.iter().flat_map(|id| logits(&backends[0], &[*id])).collect();
        prop_assert_eq!(single, expected);
    }

    #[test]
    fn attention_agrees(
        seed in any::<u64>(), groups in 1usize..4, kv in 1usize..3, half in 1usize..40, tokens in 1usize..20,
        interleaved in any::<bool>(), norms in any::<bool>(), scaled in any::<bool>(),
    ) {
        let heads = Heads { query: groups * kv, kv, dim: 2 * half };
        let pairs = if interleaved { RopePairs::Interleaved } else { RopePairs::HalfSplit };
        let magnitude = if scaled { 1.138_629_4 } else { 1.0 };
        let rope = Rope { pairs, dims: heads.dim, base: 10_000.0, divisors: Vec::new(), magnitude };
        let mut numbers = Numbers(seed);
        let widths = [heads.query, kv, kv].map(|n| n * heads.dim);
        let inputs = widths.map(|width| table(&numbers.floats(tokens * width), width, Format::F32));
        let gains = [numbers.floats(heads.dim), numbers.floats(heads.dim)];
        // `steps` tokens at a time.
        let run = |backend: &CpuBackend, steps: usize| -> Vec<u32> {
            let mut cache = backend.cache(1, heads, tokens).expect("a cache");
            let mut result = Vec::new();
            let ids: Vec<u32> = (0..tokens as u32).collect();
            for ids in ids.chunks(steps) {
                let mut rows = inputs.iter().map(|x| backend.rows(x, ids).expect("rows"));
                let (Some(mut q), Some(k), Some(v)) = (rows.next(), rows.next(), rows.next()) else { return result };
                let rotations = backend.rotations(&rope, ids[0] as usize, ids.len()).expect("rotations");
                let head_norms = norms.then_some([Norm { gain: &gains[0], eps: 1e-6 }, Norm { gain: &gains[1], eps: 1e-6 }]);
                backend.rope_append(&mut q, k, v, head_norms, &rotations, &mut cache, 0).expect("appended");
                let out = backend.attention(&q, &cache, 0).expect("attention");
                result.extend(read(backend, &out, widths[0]));
            }
            result
        };
        let backends = backends();
        let expected = run(&backends[0], tokens);
        for backend in &backends {
            for steps in [1, 3, tokens] {
                prop_assert_eq!(&run(backend, steps), &expected, "{} by {}", backend.describe(), steps);
            }
        }
    }

    #[test]
    fn gates_agree(seed in any::<u64>(), width in 1usize..300, tokens in 1usize..7, silu in any::<bool>()) {
        let mut numbers = Numbers(seed);
        let g: Vec<f32> = (0..tokens * width).map(|_| numbers.float() * 30.0).collect();
        let inputs = [table(&g, width, Format::F32), table(&numbers.floats(tokens * width), width, Format::F32)];
        let gain = numbers.floats(width);
        let (identity, _) = ternary(&mut numbers, Format::I2s(I2sLayout::A), 7, width.next_multiple_of(128));
        let weights = WeightMatrix::new("w", identity.format(), (7, width, identity.stored_cols()), 1.0, identity.data().clone()).expect("padded");
        let function = if silu { Gate::Silu } else { Gate::Relu2 };
        let ids: Vec<u32> = (0..tokens as u32).collect();
        let run = |backend: &CpuBackend| -> Vec<u32> {
            let [gate, up] = [0, 1].map(|i| backend.rows(&inputs[i], &ids).expect("rows"));
            let norm = Some(Norm { gain: &gain, eps: 1e-5 });
            let a = backend.gate_norm_quantize(gate, up, function, norm, Activations::Int8).expect("activations");
            let y = backend.matmul(&a, &[&weights]).expect("a product").remove(0);
            read(backend, &y, 7)
        };
        let backends = backends();
        let expected = run(&backends[0]);
        for backend in &backends[1..] {
            prop_assert_eq!(&run(backend), &expected);
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
        let matrix = backend
            .matrix(matrix.expect("a matching size"))
            .expect("a matrix");
        let rows = backend
            .rows(&table(&x, 8, Format::F32), &[0])
            .expect("rows");
        let a = backend
            .norm_quantize(&rows, None, Activations::Int8)
            .expect("activations");
        let y = backend.matmul(&a, &[&matrix]).expect("a product").remove(0);
        // Norming by 1 / rms is undone here.
        let rms = (expected.iter().map(|y| y * y).sum::<f32>() / 4.0 + 1e-5).sqrt();
        for (found, expected) in read(&backend, &y, 4).into_iter().zip(expected) {
            assert!(
                (f32::from_bits(found) * rms - expected).abs() < 1e-5,
                "{}",
                backend.describe()
            );
        }
    }
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
        let bytes: Vec<u8> = [value; 128]
            .into_iter()
            .flat_map(f32::to_le_bytes)
            .collect();
        let x = WeightMatrix::new("x", Format::F32, (1, 128, 128), 1.0, Bytes::from(bytes));
        let x = x.expect("a matching size");
        let mut results = backends().into_iter().map(|backend| {
            let rows = backend.rows(&x.clone().into(), &[0]).expect("rows");
            let a = backend
                .norm_quantize(&rows, None, Activations::Int8)
                .expect("activations");
            let y = backend.matmul(&a, &[&matrix]).expect("a product").remove(0);
            // One NaN is as good as another.
            let canonical = |bits| {
                if f32::from_bits(bits).is_nan() {
                    u32::MAX
                } else {
                    bits
                }
            };
            read(&backend, &y, 5)
                .into_iter()
                .map(canonical)
                .collect::<Vec<_>>()
        });
        let expected = results.next().expect("the scalar reference");
        assert_eq!(expected.len(), 5);
        assert!(results.all(|result| result == expected), "{value}");
    }
}

#[test]
fn bad_weights_are_refused() {
    let backend = CpuBackend::new(Some(2), None).expect("a backend");
    let mut data = vec![0u8; 64 * 100];
    data[64 * 77 + 3] = 0b0000_1100;
    let format = Format::I2s(I2sLayout::A);
    let matrix = WeightMatrix::new("blk.0.attn_q", format, (100, 256, 256), 1.0, data.into());
    let error = backend
        .matrix(matrix.expect("a matching size"))
        .expect_err("code 3")
        .to_string();
    assert!(
        error.contains("blk.0.attn_q") && error.contains("row 77"),
        "{error}"
    );
    let head = Bytes::from([1.0, f32::NAN].map(f32::to_le_bytes).concat());
    let head = WeightMatrix::new("output", Format::F32, (2, 1, 1), 1.0, head);
    assert!(backend.table(head.expect("a matching size")).is_err());
    assert!(backend.gain(vec![1.0, f32::INFINITY]).is_err());
}

#[test]
fn wrong_shapes_are_errors() {
    let backend = CpuBackend::new(Some(1), None).expect("a backend");
    let x = table(&[1.0; 256], 256, Format::F32);
    let rows = backend.rows(&x, &[0]).expect("rows");
    assert!(backend.rows(&x, &[1]).is_err(), "token past the table");
    let a = backend
        .norm_quantize(&rows, None, Activations::Int8)
        .expect("activations");
    let (matrix, _) = ternary(&mut Numbers(1), Format::Tq2_0, 3, 512);
    let error = backend
        .matmul(&a, &[&matrix])
        .expect_err("another width")
        .to_string();
    assert!(error.contains("512") && error.contains("256"), "{error}");
    let gain = vec![1.0; 3];
    assert!(
        backend
            .norm_quantize(
                &rows,
                Some(Norm {
                    gain: &gain,
                    eps: 1e-5
                }),
                Activations::F32
            )
            .is_err()
    );
    assert!(WeightMatrix::new("w", Format::F32, (2, 2, 2), 1.0, Bytes::new()).is_err());
    assert!(WeightMatrix::new("w", Format::F32, (0, 2, 2), 1.0, Bytes::new()).is_err());
    assert!(
        WeightMatrix::new(
            "w",
            Format::F32,
            (1, 1, 1),
            f32::NAN,
            Bytes::from_static(&[0; 4])
        )
        .is_err()
    );
    assert!(CpuBackend::new(Some(0), None).is_err());
    assert!("nonesuch".parse::<Isa>().is_err());
}
