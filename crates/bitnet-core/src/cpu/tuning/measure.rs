//! Measures where the CPU backend should change its ways: one thread against all, packed rows against tiles.
//!
//! Both ways of a comparison run in turns, so that a disturbance meets both, and the medians are kept. Inputs are
//! small, made up, and the same on every machine.

use super::crossovers::direct_formats;
use super::{Calibration, Crossovers, Curve, Identity, KernelTimes, Operation, Point};
use crate::batch::Run;
use crate::cpu::activations::Preparation;
use crate::cpu::attention::Attended;
use crate::cpu::{CpuBackend, Isa, Rows};
use crate::device::machine;
use crate::{
    Activations, AttentionHeads, Backend, Gate, MixerState, NormWeights, Result, Snapshots,
    WeightMatrix,
};
use bitnet_quant::Format;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Columns of the matrices and width of the rows.
const WIDTH: usize = 1024;
/// Query heads and their width in the attention that is measured.
const HEADS: AttentionHeads = AttentionHeads {
    query: 8,
    kv: 8,
    dim: 64,
};
/// Samples of each way at each size, unless they take too long.
const SAMPLES: usize = 7;
/// A sample repeats the operation until it takes about so long.
const SAMPLE: Duration = Duration::from_micros(30);
/// The sizes end where one operation on one thread takes longer.
const STOP_ABOVE: Duration = Duration::from_micros(1500);
/// Samples end, if there were three, when a size has taken so long, or when all sizes together took [`BUDGET`].
const MAX_PER_SIZE: Duration = Duration::from_millis(12);
/// What measuring should take.
const BUDGET: Duration = Duration::from_secs(2);

/// Tokens at which packed rows and tiles are compared.
const TOKENS: [usize; 11] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 48, 96];
/// Rows of the matrix for that comparison.
const TOKENS_ROWS: usize = 128;

/// Measures every kernel set of this machine; about two seconds. `progress` is told the steps done and their number.
///
/// # Errors
/// If memory is short or threads cannot be started.
pub fn calibrate(mut progress: impl FnMut(usize, usize)) -> Result<Calibration> {
    let begin = Instant::now();
    let identity = Identity::here();
    let sets = Isa::ALL.into_iter().filter(|isa| isa.is_available());
    let sets: Vec<_> = sets.collect();
    let steps = sets.len() * (Operation::ALL.len() + direct_formats().count());
    let mut done = 0;
    let mut step = || {
        progress(done, steps);
        done += 1;
    };
    let mut kernel_sets = Vec::new();
    for isa in sets {
        let mut bench = Bench::new(isa, begin)?;
        let mut times = KernelTimes {
            kernels: isa.name().to_owned(),
            split: BTreeMap::new(),
            direct: BTreeMap::new(),
        };
        for operation in Operation::ALL {
            step();
            times.split.insert(operation, bench.split(operation)?);
        }
        for format in direct_formats() {
            step();
            times
                .direct
                .insert(format.to_string(), bench.direct(format)?);
        }
        if identity.threads == 1 {
            // One thread against itself: only the times of the kernel sets are of use.
            times
                .split
                .retain(|operation, _| *operation == Operation::TernaryMatmul);
        }
        kernel_sets.push(times);
    }
    progress(steps, steps);
    Ok(Calibration {
        identity,
        seconds: begin.elapsed().as_secs_f64(),
        kernel_sets,
    })
}

/// How many tasks want to run on this machine, if they keep most of its threads busy: no time to measure. `None` too
/// where the system does not tell.
pub fn foreign_load() -> Option<f64> {
    let load = sysinfo::System::load_average().one;
    (load > 0.75 * machine::threads() as f64).then_some(load)
}

struct Bench {
    backend: CpuBackend,
    isa: Isa,
    norm: NormWeights,
    /// When measuring began, all kernel sets together.
    begin: Instant,
}

impl Bench {
    fn new(isa: Isa, begin: Instant) -> Result<Self> {
        Ok(Self {
            // Each format's own bytes are to be measured.
            backend: CpuBackend::new(None, Some(isa))?.with_base3(false),
            isa,
            norm: NormWeights {
                name: "calibration".into(),
                weight: vec![1.0; WIDTH],
                eps: 1e-5,
            },
            begin,
        })
    }

    /// The operation on one thread and on all, at growing work.
    fn split(&mut self, operation: Operation) -> Result<Curve> {
        let built_in = Crossovers::built_in(self.isa);
        let ways = [u64::MAX, 0].map(|from| built_in.with_all_parallel_above(from));
        let mut points = Vec::new();
        for step in 0..10 {
            let (unit, count) = match operation {
                Operation::TernaryMatmul | Operation::DenseMatmul => (WIDTH, 4 << step),
                Operation::Attention => (HEADS.query * HEADS.dim, 8 << step),
                Operation::Norm | Operation::Elementwise => (WIDTH, 2 << step),
            };
            let [small, large] = match operation {
                Operation::TernaryMatmul => {
                    let format = Format::I2s(bitnet_quant::I2sLayout::A);
                    self.product(ways, format, Activations::Int8, count, 1)?
                }
                Operation::DenseMatmul => {
                    self.product(ways, Format::F16, Activations::F32, count, 1)?
                }
                Operation::Attention => self.attention(ways, count)?,
                Operation::Norm => self.norm(ways, count)?,
                Operation::Elementwise => self.gate(ways, count)?,
            };
            let size = unit * count;
            points.push(point(size, small, large));
            if small > STOP_ABOVE {
                break;
            }
        }
        Ok(Curve { points })
    }

    /// Packed rows and tiles on one thread, at growing numbers of tokens.
    fn direct(&mut self, format: Format) -> Result<Curve> {
        let alone = Crossovers::built_in(self.isa).with_all_parallel_above(u64::MAX);
        let ways = [
            alone.with_gemv_max_tokens(usize::MAX),
            alone.with_gemv_max_tokens(0),
        ];
        let activations = if format.is_ternary() {
            Activations::Int8
        } else {
            Activations::F32
        };
        let mut points = Vec::new();
        for tokens in TOKENS {
            let [small, large] = self.product(ways, format, activations, TOKENS_ROWS, tokens)?;
            points.push(point(tokens, small, large));
            if small > STOP_ABOVE {
                break;
            }
        }
        Ok(Curve { points })
    }

    fn product(
        &mut self,
        ways: [Crossovers; 2],
        format: Format,
        activations: Activations,
        rows: usize,
        tokens: usize,
    ) -> Result<[Duration; 2]> {
        let weights = self.backend.resident(matrix(format, rows, WIDTH)?)?;
        let x = self.rows(tokens, WIDTH)?;
        let x = self.backend.activation(x, activations)?;
        self.compare(ways, |backend| {
            black_box(backend.linear(&x, [&weights])?);
            Ok(())
        })
    }

    fn attention(&mut self, ways: [Crossovers; 2], positions: usize) -> Result<[Duration; 2]> {
        let width = HEADS.query_width();
        let layers = [MixerState::KeysValues(HEADS)];
        let mut state = self.backend.state(&layers, positions, None)?;
        let (k, v) = (self.rows(positions, width)?, self.rows(positions, width)?);
        let all = 0..positions;
        self.backend
            .write_layer(&mut state, 0, k.range(all.clone()), v.range(all))?;
        let spans = [Attended {
            keys_values: state.layer(0)?,
            run: Run {
                rows: 0..1,
                first: positions - 1,
            },
        }];
        let q = self.rows(1, width)?;
        self.compare(ways, |backend| {
            black_box(backend.attend(&q, HEADS, &spans)?);
            Ok(())
        })
    }

    fn norm(&mut self, ways: [Crossovers; 2], tokens: usize) -> Result<[Duration; 2]> {
        let x = self.rows(tokens, WIDTH)?;
        let norm = self.norm.clone();
        self.compare(ways, |backend| {
            black_box(backend.prepare(&x, Preparation::norm(Some(&norm)))?);
            Ok(())
        })
    }

    fn gate(&mut self, ways: [Crossovers; 2], tokens: usize) -> Result<[Duration; 2]> {
        let (gate, up) = (self.rows(tokens, WIDTH)?, self.rows(tokens, WIDTH)?);
        self.compare(ways, |backend| {
            let pool = backend.pool();
            let (gate, up) = (gate.copy(pool)?, up.copy(pool)?);
            let result = backend.gate(gate, &up, Gate::Silu, Preparation::norm(None));
            black_box(result?);
            Ok(())
        })
    }

    /// `tokens` rows of small numbers.
    fn rows(&self, tokens: usize, width: usize) -> Result<Rows> {
        let number = |i: usize| ((i % width) * 7 + (i % width) / 5) % 11;
        let values: Vec<f32> = (0..tokens * width)
            .map(|i| number(i) as f32 / 8.0 - 0.6)
            .collect();
        Rows::of(self.backend.pool(), &values, width)
    }

    /// Median times of `work` with each of two sets of crossovers, in turns.
    fn compare(
        &mut self,
        ways: [Crossovers; 2],
        work: impl Fn(&CpuBackend) -> Result<()> + Sync,
    ) -> Result<[Duration; 2]> {
        let begin = Instant::now();
        let run = |backend: &mut CpuBackend, way: usize, times: u32| -> Result<Duration> {
            backend.set_crossovers(ways[way]);
            let backend = &*backend;
            backend.scope(|| {
                let begin = Instant::now();
                for _ in 0..times {
                    work(backend)?;
                }
                Ok(begin.elapsed() / times)
            })
        };
        let mut repeat = [1; 2];
        for (way, repeat) in repeat.iter_mut().enumerate() {
            run(&mut self.backend, way, 1)?;
            let once = run(&mut self.backend, way, 2)?.as_nanos().max(1);
            *repeat = (SAMPLE.as_nanos() / once).clamp(1, 100) as u32;
        }
        let mut turns = [Vec::new(), Vec::new()];
        for turn in 0..SAMPLES {
            for way in 0..2 {
                // The first of a pair may find a colder cache: take turns at that, too.
                let way = (way + turn) % 2;
                turns[way].push(run(&mut self.backend, way, repeat[way])?);
            }
            let hurry = begin.elapsed() > MAX_PER_SIZE || self.begin.elapsed() > BUDGET;
            if turn >= 2 && hurry {
                break;
            }
        }
        Ok(turns.map(|mut times| {
            times.sort_unstable();
            times.get(times.len() / 2).copied().unwrap_or_default()
        }))
    }
}

fn point(size: usize, small: Duration, large: Duration) -> Point {
    // A clock may be too coarse to see a short time.
    let ns = |time: Duration| (time.as_nanos() as f64).max(1.0);
    Point {
        size: size as u64,
        small_ns: ns(small),
        large_ns: ns(large),
    }
}

/// A made-up matrix: codes or values repeat with a long period.
fn matrix(format: Format, rows: usize, cols: usize) -> Result<WeightMatrix> {
    let mut row = vec![0; format.row_bytes(cols)?];
    let mut data = Vec::with_capacity(rows.saturating_mul(row.len()));
    for first in 0..rows {
        let number = |i: usize| (i * 7 + i / 5 + first * 3) % 11;
        if format.is_ternary() {
            let codes: Vec<i8> = (0..cols).map(|i| (number(i) % 3) as i8 - 1).collect();
            let scales = vec![1.0; cols / format.block_len()];
            format.encode_codes(&codes, &scales, &mut row)?;
        } else {
            let values: Vec<f32> = (0..cols).map(|i| number(i) as f32 / 8.0 - 0.6).collect();
            format.encode_row(&values, 1.0, &mut row)?;
        }
        data.extend_from_slice(&row);
    }
    WeightMatrix::new("calibration", format, (rows, cols, cols), 1.0, data.into())
}
