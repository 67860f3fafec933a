//! The products of one token, and of a prompt, through BitNet b1.58 2B-4T: every shape × format × instruction set.
//!
//! Weights lie in memory as often as it takes to exceed the caches, and are multiplied in turns: a model's layers come
//! from memory too, each only once in a token. So a rate in bytes compares with the read bandwidth of the machine, and
//! [`Kernel::work`] with its [`Roofs`](crate::machine::Roofs).

use crate::comparison::{Comparison, Contender, Timed};
use crate::machine::{self, Work};
use crate::{inputs, matmul};
use anyhow::{Context, Result};
use bitnet_core::cpu::{CpuBackend, Isa};
use bitnet_core::{
    Backend, Batch, Bytes, Input, LmHeadMode, NormWeights, OutputRequest, SequenceState, Span, Top,
    VocabularyWeights, WeightMatrix,
};
use bitnet_quant::{Format, I2sLayout};
use std::hint::black_box;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Width of the model.
const WIDTH: usize = 2560;
/// Tokens of a prompt that are multiplied at once.
pub const PROMPT: usize = 128;
/// Rows of the head that are measured, of 128256: in every format more bytes than caches hold.
const HEAD_ROWS: usize = 32_768;
/// Bytes that the matrices of one benchmark have together.
const WORKING_SET: usize = 128 << 20;
/// Multiply-accumulates that stand for an execution of the int8 limit.
const MACS: usize = 1 << 30;
/// Rows with numbers of their own; further ones repeat them.
const DISTINCT: usize = 1024;

/// Rows and columns of the ternary matrices, and what they project to.
const SHAPES: [(usize, usize, &str); 4] = [
    (640, WIDTH, "key, value"),
    (WIDTH, WIDTH, "query, output"),
    (6912, WIDTH, "gate, up"),
    (WIDTH, 6912, "down"),
];

/// Ternary formats: a scale for a tensor, for 256 elements (twice), for 128 (twice) and for 64. Layout B of I2_S is layout A with shorter
/// runs, and takes the same way through the kernels.
const TERNARY: [Format; 6] = [
    Format::I2s(I2sLayout::A),
    Format::Tq2_0,
    Format::Tq1_0,
    Format::Ptq1_0,
    Format::Q2_0Group128,
    Format::Q2_0,
];

/// Formats of a head, and how it is read.
const HEADS: [(Format, LmHeadMode); 5] = [
    (Format::F16, LmHeadMode::Full),
    (Format::F16, LmHeadMode::Screened),
    (Format::Q8_0, LmHeadMode::Full),
    (Format::Q6K, LmHeadMode::Full),
    (Format::Q4_0, LmHeadMode::Full),
];

/// How much is multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All that a measurement needs.
    Whole,
    /// A few rows: enough to see that it runs.
    Few,
}

/// What the model is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A ternary matrix with one token.
    Decode,
    /// The likeliest token.
    Head,
    /// A ternary matrix with [`PROMPT`] tokens.
    Prefill,
}

impl Stage {
    /// Every stage.
    pub const ALL: [Self; 3] = [Self::Decode, Self::Head, Self::Prefill];

    /// For names of benchmarks.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Head => "head",
            Self::Prefill => "prefill",
        }
    }

    /// What limits its kernels on one thread, as a benchmark to stand beside theirs: reading memory, or multiplying int8
    /// with the instructions of each set.
    pub fn limit(self) -> Comparison {
        let timed = |label: &str, measure: fn(Isa) -> f64, isa| {
            // A measurement repeats itself, and takes the best.
            Contender::timed(label, move || {
                Ok(Box::new(move |times| {
                    Duration::from_secs_f64(times as f64 / measure(isa))
                }))
            })
        };
        if self != Self::Prefill {
            let reads = |_| machine::read_bandwidth(1) / machine::BUFFER as f64;
            let limit = Comparison::new("limit").bytes(machine::BUFFER);
            return limit.with(timed("memory", reads, Isa::Scalar));
        }
        let sets = Isa::ALL.into_iter().rev();
        let sets = sets.filter(|isa| machine::int8_peak_of(*isa, 1).is_some());
        sets.fold(Comparison::new("limit").elements(MACS), |limit, isa| {
            let multiplies = |isa| {
                let peak = machine::int8_peak_of(isa, 1);
                peak.map_or(f64::NAN, |peak| peak.rate / MACS as f64)
            };
            limit.with(timed(isa.name(), multiplies, isa))
        })
    }

    /// Its kernels.
    pub fn kernels(self) -> Vec<Kernel> {
        let ternary = |tokens| {
            let of = move |format| {
                SHAPES.map(|(rows, cols, what)| Kernel {
                    format,
                    rows,
                    cols,
                    what,
                    with: With::Tokens(tokens),
                })
            };
            TERNARY.into_iter().flat_map(of).collect()
        };
        match self {
            Self::Decode => ternary(1),
            Self::Prefill => ternary(PROMPT),
            Self::Head => HEADS
                .map(|(format, mode)| Kernel {
                    format,
                    rows: HEAD_ROWS,
                    cols: WIDTH,
                    what: match mode {
                        LmHeadMode::Screened => "screened",
                        _ => "full",
                    },
                    with: With::Head(mode),
                })
                .into(),
        }
    }
}

/// What a matrix is multiplied with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum With {
    /// So many rows of int8.
    Tokens(usize),
    /// One row of floats, as a head.
    Head(LmHeadMode),
}

/// One kernel on one shape.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// Of the weights.
    pub format: Format,
    /// Of the weights.
    pub rows: usize,
    /// What is summed over.
    pub cols: usize,
    /// What it is in the model.
    pub what: &'static str,
    with: With,
}

/// Matrices that several contenders multiply, made by the first.
type Shared = Arc<Mutex<Option<Arc<Vec<WeightMatrix>>>>>;

impl Kernel {
    /// `I2_S 640x2560`; how the head is read, where it is one.
    pub fn name(&self) -> String {
        let format = match self.format {
            Format::Q2_0Group128 => "PQ2_0".to_owned(),
            format => format.to_string(),
        };
        match self.with {
            With::Tokens(_) => format!("{format} {}x{}", self.rows, self.cols),
            With::Head(_) => format!("{format} {}", self.what),
        }
    }

    /// What one execution takes. A screened head reads a byte for each element; that, and hardly more.
    ///
    /// # Errors
    /// If a row is no whole number of blocks.
    pub fn work(&self) -> Result<Work> {
        let elements = self.rows * self.cols;
        let packed = self.format.row_bytes(self.cols)? * self.rows;
        Ok(match self.with {
            With::Tokens(tokens) => Work {
                bytes: packed,
                macs: elements * tokens,
            },
            With::Head(mode) => Work {
                bytes: match mode {
                    LmHeadMode::Screened => elements,
                    _ => packed,
                },
                // They are not of int8.
                macs: 0,
            },
        })
    }

    /// Whether `isa` is to be measured on it. The scalar kernels are a reference: one shape shows what they do.
    pub fn is_for(&self, isa: Isa) -> bool {
        let small = self.rows == SHAPES[0].0;
        isa.is_available() && (isa != Isa::Scalar || small)
    }

    /// The kernel on one thread with every instruction set, the best first, and on each of `more` threads with the best.
    ///
    /// # Errors
    /// If a row is no whole number of blocks.
    pub fn comparison(&self, extent: Extent, more: &[usize]) -> Result<Comparison> {
        let kernel = match extent {
            Extent::Whole => *self,
            Extent::Few => Self {
                rows: self.rows.min(64),
                ..*self
            },
        };
        let work = self.work()?;
        let comparison = Comparison::new(self.name());
        let mut comparison = match self.with {
            With::Tokens(2..) => comparison.elements(work.macs),
            _ => comparison.bytes(work.bytes),
        };
        let matrices = Shared::default();
        let single = Isa::ALL.into_iter().rev().map(|isa| (isa, 1));
        let more = more.iter().map(|threads| (Isa::best(), *threads));
        for (isa, threads) in single.chain(more) {
            if self.is_for(isa) {
                let matrices = matrices.clone();
                let contender = Contender::timed(label(isa, threads), move || {
                    let backend = CpuBackend::new(Some(threads), Some(isa))?;
                    kernel.prepare(backend, kernel.shared(&matrices, extent)?)
                });
                comparison = comparison.with(contender);
            }
        }
        Ok(comparison)
    }

    fn prepare(&self, backend: CpuBackend, matrices: Arc<Vec<WeightMatrix>>) -> Result<Timed> {
        match self.with {
            With::Tokens(tokens) => {
                // In the form in which a model's matrices are multiplied.
                let resident = matrices
                    .iter()
                    .map(|matrix| backend.resident(matrix.clone()));
                let resident = resident.collect::<bitnet_core::Result<Vec<_>>>()?;
                matmul::in_turns(backend, tokens, Arc::new(resident))
            }
            With::Head(mode) => head(backend, mode, &matrices),
        }
    }

    fn shared(&self, shared: &Shared, extent: Extent) -> Result<Arc<Vec<WeightMatrix>>> {
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(matrices) = &*shared {
            return Ok(Arc::clone(matrices));
        }
        let packed = self.packed()?;
        let count = match (extent, self.with) {
            (Extent::Whole, With::Tokens(_)) => WORKING_SET.div_ceil(packed.len()),
            // One head exceeds the caches.
            _ => 1,
        };
        let shape = (self.rows, self.cols, self.cols);
        let matrices = (0..count)
            .map(|_| {
                let data = Bytes::from(packed.clone());
                WeightMatrix::new("weights", self.format, shape, 1.0, data)
            })
            .collect::<bitnet_core::Result<Vec<_>>>()?;
        Ok(Arc::clone(shared.insert(Arc::new(matrices))))
    }

    /// The bytes of the matrix.
    fn packed(&self) -> Result<Vec<u8>> {
        let distinct = self.rows.min(DISTINCT);
        let row_bytes = self.format.row_bytes(self.cols)?;
        let mut packed = vec![0; row_bytes * distinct];
        let values = if self.format.is_ternary() {
            let codes = inputs::ternary(self.cols * distinct);
            codes.into_iter().map(f32::from).collect()
        } else {
            inputs::floats(self.cols * distinct)
        };
        let rows = values.chunks_exact(self.cols);
        for (values, row) in rows.zip(packed.chunks_exact_mut(row_bytes)) {
            self.format.encode_row(values, 1.0, row)?;
        }
        let all = packed.iter().copied().cycle();
        Ok(all.take(row_bytes * self.rows).collect())
    }
}

/// What the contender of an instruction set is called.
pub fn label(isa: Isa, threads: usize) -> String {
    match threads {
        1 => isa.to_string(),
        threads => format!("{isa} {threads}t"),
    }
}

/// The likeliest token by a head that is read as `mode` says: a row of the table, norm, logits of all rows or of those that
/// matter, choice.
fn head(backend: CpuBackend, mode: LmHeadMode, matrices: &[WeightMatrix]) -> Result<Timed> {
    let embedding = matrices.first().cloned().context("no matrix")?;
    let norm = NormWeights {
        name: "norm".into(),
        weight: vec![1.0; embedding.cols()],
        eps: 1e-5,
    };
    let (embedding, head) = backend.load_vocabulary(VocabularyWeights {
        embedding_scale: 1.0,
        embedding_rotation: None,
        head_rotation: None,
        activations: bitnet_core::Activations::F32,
        embedding,
        norm,
        head: None,
        mode,
    })?;
    let mut state = backend.state(&[], 1, None)?;
    let mut next = move |backend: &CpuBackend| {
        let top = Top {
            count: 1,
            also: &[],
        };
        let mut batch = Batch::new(vec![Span {
            input: Input::Tokens(&[0]),
            state: &mut state,
            outputs: OutputRequest::Top { rows: 1, top },
        }])?;
        let x = backend.embed(&embedding, &mut batch)?;
        let outputs = backend.outputs(x, &head, &mut batch)?.now();
        state.truncate(0);
        outputs
    };
    next(&backend)?;
    Ok(Box::new(move |times| {
        backend.scope(|| {
            let begin = Instant::now();
            for _ in 0..times {
                black_box(next(&backend)).ok();
            }
            begin.elapsed()
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_runs_on_a_few_rows() -> Result<()> {
        for kernel in Stage::ALL.into_iter().flat_map(Stage::kernels) {
            // The shapes differ in size alone.
            if kernel.rows == WIDTH {
                continue;
            }
            let comparison = kernel.comparison(Extent::Few, &[2])?;
            assert!(comparison.contenders.len() >= 2, "{}", comparison.name);
            for contender in &comparison.contenders {
                contender.prepare()?(1);
            }
        }
        Ok(())
    }

    #[test]
    fn work_is_that_of_the_files_bytes() -> Result<()> {
        let stages = Stage::ALL.map(|stage| stage.kernels());
        let works = |stage: usize| {
            stages[stage]
                .iter()
                .map(Kernel::work)
                .collect::<Result<Vec<_>>>()
        };
        let (decode, head, prefill) = (works(0)?, works(1)?, works(2)?);
        assert_eq!(
            decode[0],
            Work {
                bytes: 640 * 2560 / 4,
                macs: 640 * 2560
            }
        );
        assert_eq!(prefill[0].macs, PROMPT * decode[0].macs);
        assert_eq!(head[0].bytes, 2 * head[1].bytes);
        Ok(())
    }
}
