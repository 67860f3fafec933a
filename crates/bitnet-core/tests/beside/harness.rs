//! What is compared, random inputs, and steps written once for all backends.

use bitnet_core::cpu::CpuBackend;
use bitnet_core::{Activations, Backend, Bytes, Heads, Input, Norm, WeightMatrix};
use bitnet_quant::{Format, I2sLayout};

pub(crate) const TERNARY: [Format; 6] = [
    Format::I2s(I2sLayout::A),
    Format::I2s(I2sLayout::B),
    Format::Tq1_0,
    Format::Tq2_0,
    Format::Q2_0,
    Format::Q2_0Group128,
];

pub(crate) const DENSE: [Format; 6] = [
    Format::F32,
    Format::F16,
    Format::Bf16,
    Format::Q8_0,
    Format::Q6K,
    Format::Q4_0,
];

pub(crate) fn cpu() -> CpuBackend {
    CpuBackend::new(Some(1), None).expect("a CPU")
}

/// A backend beside the CPU's, and how near it comes.
pub(crate) struct Other<'a, B> {
    pub(crate) name: &'a str,
    pub(crate) backend: &'a B,
    /// By how much a product of whole numbers may differ, in parts of the largest: 0 for the same bits.
    pub(crate) products: f32,
    /// By how much what attention gives may differ, in parts of the largest.
    pub(crate) attention: f32,
    /// The most numbers of a batch.
    pub(crate) batch: usize,
}

impl<B> Other<'_, B> {
    /// Panics unless products of whole numbers are as near as promised.
    pub(crate) fn assert_products(&self, found: &[f32], expected: &[f32], what: &str) {
        let what = format!("{}, {what}", self.name);
        if self.products == 0.0 {
            assert_same(found, expected, &what);
        } else {
            assert_close(found, expected, self.products, &what);
        }
    }
}

/// A backend whose rows can be looked at.
pub(crate) trait Look: Backend {
    fn look(&self, rows: Self::Hidden) -> Vec<f32>;
}

impl Look for CpuBackend {
    fn look(&self, rows: Self::Hidden) -> Vec<f32> {
        rows.values().to_vec()
    }
}

/// A small generator, so that a case is its seed.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
    pub(crate) fn float(&mut self) -> f32 {
        (self.next() % 20_001) as f32 / 10_000.0 - 1.0
    }
    pub(crate) fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.float()).collect()
    }
    /// Whole numbers from −127 to 127, in every row of `cols` at least one of the largest: rounding leaves them alone.
    pub(crate) fn integers(&mut self, rows: usize, cols: usize) -> Vec<f32> {
        let mut list: Vec<f32> = (0..rows * cols)
            .map(|_| self.below(255) as f32 - 127.0)
            .collect();
        for row in list.chunks_mut(cols) {
            row[self.below(cols)] = if self.below(2) == 0 { 127.0 } else { -127.0 };
        }
        list
    }
}

/// A random matrix of a ternary format; rows are stored in whole blocks.
pub(crate) fn ternary(
    numbers: &mut Numbers,
    format: Format,
    rows: usize,
    cols: usize,
) -> WeightMatrix {
    let stored = cols.next_multiple_of(format.block_len());
    let mut data = Vec::new();
    for _ in 0..rows {
        let codes: Vec<i8> = (0..stored)
            .map(|c| {
                if c < cols {
                    numbers.below(3) as i8 - 1
                } else {
                    0
                }
            })
            .collect();
        let scales = numbers.floats(stored / format.block_len());
        let mut row = vec![0; format.row_bytes(stored).expect("whole blocks")];
        format
            .encode_codes(&codes, &scales, &mut row)
            .expect("ternary codes");
        data.extend_from_slice(&row);
    }
    let scale = if matches!(format, Format::I2s(_)) {
        0.37
    } else {
        1.0
    };
    WeightMatrix::new("w", format, (rows, cols, stored), scale, Bytes::from(data))
        .expect("a matching size")
}

/// A table of `values`; rows are stored in whole blocks.
pub(crate) fn table(values: &[f32], cols: usize, format: Format) -> WeightMatrix {
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

/// One head of one column: for batches that attend to nothing.
pub(crate) const NO_HEADS: Heads = Heads {
    query: 1,
    kv: 1,
    dim: 2,
};

pub(crate) fn ids(count: usize) -> Vec<u32> {
    (0..count as u32).collect()
}

/// The rows of x, which has `cols` columns, as a batch for `cache`.
pub(crate) fn batch<B: Backend>(
    backend: &B,
    x: &[f32],
    cols: usize,
    cache: &B::Cache,
) -> B::Hidden {
    let weights = backend.table(table(x, cols, Format::F32)).expect("a table");
    let ids = ids(x.len() / cols);
    backend
        .embed(&weights, Input::Tokens(&ids), cache)
        .expect("rows")
}

/// A batch of its own.
pub(crate) fn alone<B: Backend>(backend: &B, x: &[f32], cols: usize) -> B::Hidden {
    let cache = backend.cache(1, NO_HEADS, x.len() / cols).expect("a cache");
    batch(backend, x, cols, &cache)
}

/// Runs of neighbouring columns of the rows of `x`, each as rows of their own.
pub(crate) fn columns<B: Backend>(
    backend: &B,
    x: &B::Hidden,
    cols: usize,
    widths: &[usize],
) -> Vec<B::Hidden> {
    let mut first = 0;
    let matrices: Vec<B::Matrix> = widths
        .iter()
        .map(|width| {
            let picks =
                (0..width * cols).map(|i| f32::from(u8::from(i % cols == first + i / cols)));
            let picks: Vec<f32> = picks.collect();
            first += width;
            backend
                .matrix(table(&picks, cols, Format::F32))
                .expect("a matrix")
        })
        .collect();
    let a = backend
        .norm_quantize(x, None, Activations::F32)
        .expect("activations");
    let matrices: Vec<&B::Matrix> = matrices.iter().collect();
    backend.matmul(&a, &matrices).expect("columns")
}

pub(crate) fn norm<G>(gain: &G) -> Norm<'_, G> {
    Norm { gain, eps: 1e-5 }
}

/// Panics unless all numbers are within `tolerance` times the largest expected one, of each other.
pub(crate) fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-30f32, |most, x| most.max(x.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - expected).abs();
        assert!(
            difference <= tolerance * largest,
            "{what}: number {index} is {found}, expected {expected}, of up to {largest}"
        );
    }
}

/// Panics unless all numbers are the same, but for the signs of zeros.
pub(crate) fn assert_same(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            found.to_bits() == expected.to_bits() || (*found == 0.0 && *expected == 0.0),
            "{what}: number {index} is {found}, expected {expected}"
        );
    }
}
