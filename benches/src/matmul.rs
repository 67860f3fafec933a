//! Matrix products: our kernels beside candle's f32 product on the same CPU, with the same threads.

use crate::comparison::{Comparison, Contender, Timed};
use crate::inputs;
use anyhow::{Context, Result};
use bitnet_core::cpu::{CpuBackend, Isa};
use bitnet_core::{Activations, Backend, Bytes, HybridMemoryPool, WeightMatrix};
use bitnet_quant::{Format, I2sLayout};
use bitnet_tensor::BitNetTensor;
use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};
use std::sync::Arc;
use std::time::Instant;

/// A product `[tokens, cols] × [cols, rows]`.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    /// Rows of the left matrix.
    pub tokens: usize,
    /// What is summed over.
    pub cols: usize,
    /// Columns of the result: rows of the weights.
    pub rows: usize,
}

impl Product {
    /// `n × n × n`.
    pub fn square(n: usize) -> Self {
        Self {
            tokens: n,
            cols: n,
            rows: n,
        }
    }

    /// Multiplications, each with an addition.
    pub fn multiplications(self) -> usize {
        self.tokens * self.cols * self.rows
    }
}

impl std::fmt::Display for Product {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}x{}", self.tokens, self.cols, self.rows)
    }
}

/// Ternary weights times int8 activations on each instruction set of this machine and on MLX, and candle's f32 product.
pub fn ternary(product: Product) -> Comparison {
    let mut comparison = Comparison::new(product.to_string()).elements(product.multiplications());
    for isa in Isa::ALL.into_iter().rev() {
        // The scalar kernels are a reference: at these sizes they would take most of the time.
        if isa.is_available() && isa != Isa::Scalar {
            let label = format!("ternary_{isa}");
            comparison = comparison.with(Contender::timed(label, move || ternary_on(isa, product)));
        }
    }
    #[cfg(all(
        feature = "mlx",
        any(all(target_os = "macos", target_arch = "aarch64"), mlx_on_linux)
    ))]
    {
        comparison = comparison.with(crate::mlx::ternary(product));
    }
    for (label, transposed) in [("candle_f32", false), ("candle_f32_transposed", true)] {
        comparison = comparison.with(Contender::new(label, move || candle(product, transposed)));
    }
    comparison
}

/// Ternary weights on `threads` threads, then candle's quantized products, on as many as its environment says. Every
/// contender begins with f32 rows and quantizes them.
pub fn quantized(product: Product, threads: usize) -> Comparison {
    let mut comparison = Comparison::new(product.to_string())
        .elements(product.multiplications())
        .with(Contender::timed("bitnet", move || {
            let backend = CpuBackend::new(Some(threads), None)?;
            let weights = backend.matrix(ternary_matrix(product.rows, product.cols)?)?;
            let rows = rows(&backend, product.tokens, product.cols)?;
            Ok(Box::new(move |times| {
                backend.scope(|| {
                    let begin = Instant::now();
                    for _ in 0..times {
                        let x = backend.norm_quantize(&rows, None, Activations::Int8);
                        let y = x.and_then(|x| backend.matmul(&x, &[&weights]));
                        std::hint::black_box(y).ok();
                    }
                    begin.elapsed()
                })
            }))
        }));
    for (label, dtype) in [
        ("candle Q4_0", GgmlDType::Q4_0),
        ("candle Q8_0", GgmlDType::Q8_0),
    ] {
        comparison = comparison.with(Contender::new(label, move || {
            let Product { tokens, cols, rows } = product;
            let x = Tensor::from_vec(inputs::floats(tokens * cols), (tokens, cols), &Device::Cpu)?;
            let w = Tensor::from_vec(inputs::floats(rows * cols), (rows, cols), &Device::Cpu)?;
            let w = QMatMul::from_qtensor(QTensor::quantize(&w, dtype)?)?;
            Ok(move || w.forward(&x))
        }));
    }
    comparison
}

/// f32 times f32: tensors of ours, MLX, and candle's tensors.
pub fn float(product: Product) -> Comparison {
    let comparison = Comparison::new(product.to_string())
        .elements(product.multiplications())
        .with(Contender::new("tensor_f32", move || {
            let Product { tokens, cols, rows } = product;
            let of = |shape: [usize; 2]| {
                let values = inputs::floats(shape[0] * shape[1]);
                let pool = HybridMemoryPool::global();
                BitNetTensor::from_slice(&values, &shape, &bitnet_core::Device::Cpu, pool)
            };
            let (x, w) = (of([tokens, cols])?, of([cols, rows])?);
            Ok(move || x.matmul(&w))
        }))
        .with(Contender::new("candle_f32", move || candle(product, false)));
    #[cfg(all(
        feature = "mlx",
        any(all(target_os = "macos", target_arch = "aarch64"), mlx_on_linux)
    ))]
    let comparison = comparison.with(crate::mlx::float(product));
    comparison
}

/// candle's product; `transposed` takes the weights as a linear layer keeps them, `[rows, cols]`.
fn candle(
    product: Product,
    transposed: bool,
) -> Result<impl FnMut() -> candle_core::Result<Tensor>> {
    let Product { tokens, cols, rows } = product;
    let x = Tensor::from_vec(inputs::floats(tokens * cols), (tokens, cols), &Device::Cpu)?;
    let w = inputs::floats(rows * cols);
    let w = if transposed {
        Tensor::from_vec(w, (rows, cols), &Device::Cpu)?.t()?
    } else {
        Tensor::from_vec(w, (cols, rows), &Device::Cpu)?
    };
    Ok(move || x.matmul(&w))
}

fn ternary_on(isa: Isa, product: Product) -> Result<Timed> {
    let backend = CpuBackend::new(None, Some(isa))?;
    let weights = backend.matrix(ternary_matrix(product.rows, product.cols)?)?;
    in_turns(backend, product.tokens, Arc::new(vec![weights]))
}

/// `tokens` rows of int8 times one of `matrices` after the other, which are alike.
pub(crate) fn in_turns(
    backend: CpuBackend,
    tokens: usize,
    matrices: Arc<Vec<WeightMatrix>>,
) -> Result<Timed> {
    let first = matrices.first().context("no matrix")?;
    let rows = rows(&backend, tokens, first.cols())?;
    let x = backend.norm_quantize(&rows, None, Activations::Int8)?;
    // What works once does so again: the time of an error would be no measurement.
    backend.matmul(&x, &[first])?;
    let mut turn = 0;
    Ok(Box::new(move |times| {
        backend.scope(|| {
            let begin = Instant::now();
            for _ in 0..times {
                let weights = &matrices[turn % matrices.len()];
                std::hint::black_box(backend.matmul(&x, &[weights])).ok();
                turn += 1;
            }
            begin.elapsed()
        })
    }))
}

/// `rows × cols` ternary weights in I2_S, rows padded with zeros to whole blocks.
///
/// # Errors
/// If a dimension is zero.
pub fn ternary_matrix(rows: usize, cols: usize) -> Result<WeightMatrix> {
    let format = Format::I2s(I2sLayout::A);
    let stored = cols.next_multiple_of(format.block_len());
    let row_bytes = format.row_bytes(stored)?;
    let codes = inputs::ternary(rows * cols);
    let mut packed = vec![0; row_bytes * rows];
    let mut padded = vec![0; stored];
    let matrix = codes.chunks_exact(cols);
    for (codes, row) in matrix.zip(packed.chunks_exact_mut(row_bytes)) {
        padded[..cols].copy_from_slice(codes);
        format.encode_codes(&padded, &[], row)?;
    }
    let shape = (rows, cols, stored);
    Ok(WeightMatrix::new(
        "weights",
        format,
        shape,
        1.0,
        Bytes::from(packed),
    )?)
}

/// f32 rows: the backend makes them of an embedding alone, so they are one.
pub(crate) fn rows(
    backend: &CpuBackend,
    tokens: usize,
    cols: usize,
) -> Result<<CpuBackend as Backend>::Hidden> {
    let table = float_table("activations", &inputs::floats(tokens * cols), cols)?;
    let table = backend.table(table)?;
    let count = u32::try_from(tokens).context("more tokens than a model can number")?;
    Ok(backend.rows(&table, &(0..count).collect::<Vec<_>>())?)
}

/// f32 numbers as a file has them, in rows of `cols`.
pub(crate) fn float_table(name: &str, values: &[f32], cols: usize) -> Result<WeightMatrix> {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let shape = (values.len() / cols, cols, cols);
    Ok(WeightMatrix::new(
        name,
        Format::F32,
        shape,
        1.0,
        Bytes::from(bytes),
    )?)
}

/// Backends that this build or machine does not have, each with why.
pub fn missing_backends() -> Vec<String> {
    let mut missing = Vec::new();
    if !bitnet_core::Device::Mlx.is_built() {
        missing.push(bitnet_core::Device::Mlx.not_built().to_string());
    }
    missing
}
