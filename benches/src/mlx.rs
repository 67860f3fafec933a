//! Matrix products on Apple's MLX, as logits of a head: a lookup and a norm of the rows come with them.

use crate::comparison::{Contender, Timed};
use crate::inputs;
use crate::matmul::{Product, ternary_matrix};
use anyhow::{Context, Result};
use bitnet_core::mlx::MlxBackend;
use bitnet_core::{
    Backend, Batch, Bytes, HeadMode, Input, NormWeights, OutputRequest, SequenceState, Span,
    VocabularyWeights, WeightMatrix,
};
use bitnet_quant::Format;
use std::time::Instant;

/// Ternary weights times f32 activations.
pub(crate) fn ternary(product: Product) -> Contender {
    Contender::timed("mlx_ternary", move || {
        let weights = ternary_matrix(product.rows, product.cols)?;
        timed(product.tokens, weights)
    })
}

/// f32 times f32.
pub(crate) fn float(product: Product) -> Contender {
    Contender::timed("mlx_f32", move || {
        let Product { tokens, cols, rows } = product;
        let weights = float_table("weights", &inputs::floats(rows * cols), cols)?;
        timed(tokens, weights)
    })
}

/// One product after the other, each waited for.
fn timed(tokens: usize, weights: WeightMatrix) -> Result<Timed> {
    let backend = MlxBackend::new()?;
    let (rows, cols) = (weights.rows(), weights.cols());
    let (embedding, head) = backend.load_vocabulary(VocabularyWeights {
        embedding: float_table("activations", &inputs::floats(rows * cols), cols)?,
        norm: NormWeights {
            name: "norm".into(),
            weight: vec![1.0; cols],
            eps: 1e-5,
        },
        head: Some(weights),
        mode: HeadMode::Full,
    })?;
    let mut state = backend.state(&[], tokens)?;
    let ids = (0..tokens).map(|token| u32::try_from(token % rows));
    let ids: Vec<u32> = ids
        .collect::<Result<_, _>>()
        .context("more tokens than a model can number")?;
    let mut multiply = move |backend: &MlxBackend| {
        let mut batch = Batch::new(vec![Span {
            input: Input::Tokens(&ids),
            state: &mut state,
            outputs: OutputRequest::Logits { rows: tokens },
        }])?;
        let x = backend.embed(&embedding, &mut batch)?;
        let outputs = backend.outputs(x, &head, &mut batch)?.now();
        state.truncate(0);
        outputs
    };
    // A product that works once does so again: the time of an error would be no measurement.
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
