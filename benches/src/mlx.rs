//! Matrix products on Apple's MLX.

use crate::comparison::{Contender, Timed};
use crate::inputs;
use crate::matmul::{Product, float_table, ternary_matrix};
use anyhow::{Context, Result};
use bitnet_core::mlx::MlxBackend;
use bitnet_core::{Activations, Backend, Heads, Input, WeightMatrix};
use std::time::Instant;

/// Ternary weights times int8 activations.
pub(crate) fn ternary(product: Product) -> Contender {
    Contender::timed("mlx_ternary", move || {
        let weights = ternary_matrix(product.rows, product.cols)?;
        timed(product.tokens, weights, Activations::Int8)
    })
}

/// f32 times f32.
pub(crate) fn float(product: Product) -> Contender {
    Contender::timed("mlx_f32", move || {
        let Product { tokens, cols, rows } = product;
        let weights = float_table("weights", &inputs::floats(rows * cols), cols)?;
        timed(tokens, weights, Activations::F32)
    })
}

/// One product after the other, each waited for.
fn timed(tokens: usize, weights: WeightMatrix, activations: Activations) -> Result<Timed> {
    let backend = MlxBackend::new()?;
    let cols = weights.cols();
    let weights = backend.matrix(weights)?;
    let table = float_table("activations", &inputs::floats(tokens * cols), cols)?;
    let table = backend.table(table)?;
    let one = Heads {
        query: 1,
        kv: 1,
        dim: 1,
    };
    let cache = backend.cache(1, one, tokens)?;
    let count = u32::try_from(tokens).context("more tokens than a model can number")?;
    let ids: Vec<u32> = (0..count).collect();
    let rows = backend.embed(&table, Input::Tokens(&ids), &cache)?;
    let x = backend.norm_quantize(&rows, None, activations)?;
    let multiply = move |backend: &MlxBackend| {
        let mut products = backend.matmul(&x, &[&weights])?;
        products.pop().map_or(Ok(()), |y| backend.run(y))
    };
    // What works once does so again: the time of an error would be no measurement.
    multiply(&backend)?;
    Ok(Box::new(move |times| {
        backend.scope(|| {
            let begin = Instant::now();
            for _ in 0..times {
                std::hint::black_box(multiply(&backend)).ok();
            }
            begin.elapsed()
        })
    }))
}
