//! Backends under test, random inputs, and comparisons.

use bitnet_core::cpu::CpuBackend;
use bitnet_core::{
    AttentionHeads, Backend, Batch, Bytes, FeedForwardWeights, GatedWeights, Input, KvType,
    LmHeadMode, MixerState, NormWeights, OutputRequest, Projection, SequenceState, Span,
    VocabularyWeights, WeightMatrix,
};
use bitnet_quant::{Format, I2sLayout};

pub(crate) const TERNARY: [Format; 7] = [
    Format::I2s(I2sLayout::A),
    Format::I2s(I2sLayout::B),
    Format::Tq1_0,
    Format::Tq2_0,
    Format::Q2_0,
    Format::Q2_0Group128,
    Format::Ptq1_0,
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

/// A backend that is compared with the CPU's, and how near it comes.
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

/// A backend whose rows can be read in the middle of a batch, which ends there.
pub(crate) trait Rows: Backend {
    fn rows(&self, x: Self::Hidden) -> Vec<f32>;
}

impl Rows for CpuBackend {
    fn rows(&self, x: Self::Hidden) -> Vec<f32> {
        x.values().to_vec()
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

/// State of a layer that nothing runs through.
pub(crate) const NO_LAYERS: [MixerState; 1] = [MixerState::KeysValues(AttentionHeads {
    query: 1,
    kv: 1,
    dim: 2,
})];

pub(crate) fn ids(count: usize) -> Vec<u32> {
    (0..count as u32).collect()
}

pub(crate) fn norm(weight: &[f32]) -> NormWeights {
    NormWeights {
        name: "norm".into(),
        weight: weight.to_vec(),
        eps: 1e-5,
    }
}

/// The part of a sublayer that multiplies by `matrix` alone.
pub(crate) fn projection(matrix: WeightMatrix) -> Projection {
    Projection {
        rotation: None,
        norm: None,
        matrix,
    }
}

/// A vocabulary whose embedding is the rows of `x`, of `cols` columns.
pub(crate) fn vocabulary(x: &[f32], cols: usize) -> VocabularyWeights {
    VocabularyWeights {
        embedding_scale: 1.0,
        embedding_rotation: None,
        head_rotation: None,
        activations: bitnet_core::Activations::F32,
        embedding: table(x, cols, Format::F32),
        norm: norm(&vec![1.0; cols]),
        head: None,
        mode: LmHeadMode::Full,
    }
}

/// A batch of one span.
pub(crate) fn batch<'a, S: SequenceState>(
    input: Input<'a>,
    state: &'a mut S,
    outputs: OutputRequest<'a>,
) -> Batch<'a, S> {
    let span = Span {
        input,
        state,
        outputs,
    };
    Batch::new(vec![span]).expect("a batch")
}

/// The type of keys and values in which backends are compared: f32 where a backend has it.
pub(crate) fn compared<B: Backend>(backend: &B) -> Option<KvType> {
    let mut types = backend.kv_types().iter().copied();
    types.find(|kv| *kv == KvType::F32)
}

/// The rows of `x`, which has `cols` columns, after the feed-forward sublayers.
pub(crate) fn fed<B: Rows>(
    backend: &B,
    x: &[f32],
    cols: usize,
    sublayers: &[&GatedWeights],
) -> Vec<f32> {
    let (embedding, _) = backend
        .load_vocabulary(vocabulary(x, cols))
        .expect("a vocabulary");
    let ids = ids(x.len() / cols);
    let mut state = backend.state(&NO_LAYERS, ids.len(), None).expect("a state");
    let mut batch = batch(Input::Tokens(&ids), &mut state, OutputRequest::Nothing);
    let mut x = backend.embed(&embedding, &mut batch).expect("rows");
    for weights in sublayers {
        let weights = FeedForwardWeights::Gated((*weights).clone());
        let sublayer = backend.load_feed_forward(weights).expect("a sublayer");
        backend.feed_forward(&mut x, &sublayer).expect("fed");
    }
    backend.rows(x)
}

/// A matrix of `rows × cols` that has ones at the places (row, col), and zeros elsewhere.
pub(crate) fn picks(
    rows: usize,
    cols: usize,
    places: impl IntoIterator<Item = (usize, usize)>,
) -> WeightMatrix {
    let mut values = vec![0.0; rows * cols];
    for (row, col) in places {
        values[row * cols + col] = 1.0;
    }
    table(&values, cols, Format::F32)
}

/// A matrix that picks `count` columns from `first` on, of `cols`.
pub(crate) fn columns(first: usize, count: usize, cols: usize) -> WeightMatrix {
    picks(count, cols, (0..count).map(|row| (row, first + row)))
}

/// A matrix whose product of `count` columns goes to the columns from `first` on, of `rows`.
pub(crate) fn into_columns(first: usize, count: usize, rows: usize) -> WeightMatrix {
    picks(rows, count, (0..count).map(|col| (first + col, col)))
}

/// Columns `first..` of the rows of `x`, which has `cols` columns.
pub(crate) fn last_columns(x: &[f32], cols: usize, first: usize) -> Vec<f32> {
    let rows = x.chunks(cols);
    rows.flat_map(|row| &row[first..]).copied().collect()
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
