//! Every sublayer of the MLX backend compared with the CPU's.
#![cfg(all(
    feature = "mlx",
    any(all(target_os = "macos", target_arch = "aarch64"), mlx_on_linux)
))]

mod failures;
mod mixers;
#[path = "../parity/mod.rs"]
#[expect(dead_code, reason = "MLX does not look ahead")]
mod parity;
mod properties;
mod rows;
mod saved;
mod weights;

use bitnet_core::mlx::MlxBackend;
use parity::harness::{Other, Rows};
use parity::model::Model;
use parity::{attention, embedding, feed_forward, head, products, sequences};
use std::sync::LazyLock;

static MLX: LazyLock<MlxBackend> =
    LazyLock::new(|| MlxBackend::new().expect("MLX, which `cargo xtask setup` installs"));

impl Rows for MlxBackend {
    fn rows(&self, x: Self::Hidden) -> Vec<f32> {
        self.fetch(&x).expect("rows")
    }
}

/// MLX, and how near it comes. Where a scale belongs to a group of columns, it adds the groups up in an order of its own;
/// angles are products of f32.
fn mlx() -> [Other<'static, MlxBackend>; 1] {
    [Other {
        name: "mlx",
        backend: &MLX,
        products: 1e-6,
        attention: 1e-4,
        batch: usize::MAX,
    }]
}

#[test]
fn integers() {
    products::integers(&mlx());
}

#[test]
fn three_together() {
    products::three_together(&mlx());
}

#[test]
fn tall() {
    products::tall(&mlx());
}

#[test]
fn extremes() {
    products::extremes(&mlx());
}

#[test]
fn rounded() {
    products::rounded(&mlx());
}

#[test]
fn floats() {
    products::floats(&mlx());
}

#[test]
fn code_of_three() {
    products::code_of_three(&mlx());
}

#[test]
fn widths() {
    products::widths(&*MLX);
}

#[test]
fn embeddings() {
    embedding::rows(&mlx());
}

#[test]
fn refused_tokens() {
    embedding::refusals(&*MLX);
}

#[test]
fn gates() {
    feed_forward::gates(&mlx());
}

#[test]
fn ternary_gates() {
    feed_forward::ternary_gates(&mlx());
}

#[test]
fn attention_shapes() {
    attention::shapes(&mlx());
}

#[test]
fn ternary_outputs() {
    attention::ternary_outputs(&mlx());
}

#[test]
fn attention_weights() {
    attention::attention_weights(&mlx());
}

#[test]
fn wide_heads() {
    attention::wide_heads(&mlx()[0]);
}

#[test]
fn refused_mixers() {
    attention::refusals(&*MLX);
}

#[test]
fn full_state() {
    attention::full_state(&*MLX);
}

#[test]
fn logits() {
    head::logits_are_close(&mlx());
}

#[test]
fn nothing_requested() {
    head::nothing_requested(&mlx());
}

#[test]
fn top_of_logits() {
    head::top_of_logits(&mlx());
}

#[test]
fn screened() {
    head::screened(&mlx());
}

#[test]
fn zeros() {
    head::zeros(&mlx());
}

#[test]
fn not_finite() {
    head::not_finite(&mlx());
}

#[test]
fn two_threads() {
    let prompts = [&[1, 2, 3][..], &[250, 7, 7, 9, 11, 40]];
    sequences::two_threads(&Model::new(&*MLX), prompts);
}

#[test]
fn rollback() {
    sequences::rollback(&*MLX);
}

#[test]
fn forks() {
    sequences::forks(&*MLX);
}

#[test]
fn several_spans() {
    sequences::several_spans(&*MLX);
}

#[test]
fn small_model() {
    sequences::small_model(&mlx());
}
