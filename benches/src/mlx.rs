//! Matrix products on Apple's MLX.

use crate::comparison::{Contender, Timed};
use crate::inputs;
use crate::matmul::{Product, ternary_matrix};
use anyhow::Result;
use bitnet_core::mlx::MlxBackend;
use bitnet_core::{Activations, Backend, Bytes, WeightMatrix};
use bitnet_quant::Format;
use std::time::Instant;

/// Ternary weights times int8 activations.
pub(crate) fn ternary(product: Product) -> Contender {
    Contender::timed("mlx_ternary", move || {
        let weights = ternary_matrix(product.rows, product.cols)?;
        timed(product.tokens, &weights, Activations::Int8)
    })
}

/// f32 times f32.
pub(crate) fn float(product: Product) -> Contender {
    Contender::timed("mlx_f32", move || {
        let Product { tokens, cols, rows } = product;
        let weights = float_table("weights", &inputs::floats(rows * cols), cols)?;
        timed(tokens, &weights, Activations::F32)
    })
}

/// One product after the other, each waited for.
fn timed(tokens: usize, weights: &WeightMatrix, activations: Activations) -> Result<Timed> {
    let backend = MlxBackend::new()?;
    let cols = weights.cols();
    let weights = backend.resident(weights)?;
    let x = backend.prepare_rows(&inputs::floats(tokens * cols), cols, activations)?;
    // What works once does so again: the time of an error would be no measurement.
    backend.multiply_prepared(&x, &weights)?;
    Ok(Box::new(move |times| {
        backend.scope(|| {
            let begin = Instant::now();
            for _ in 0..times {
                std::hint::black_box(backend.multiply_prepared(&x, &weights)).ok();
            }
            begin.elapsed()
        })
    }))
}

/// f32 numbers as a file has them, in rows of `cols`.
fn float_table(name: &str, values: &[f32], cols: usize) -> Result<WeightMatrix> {
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
