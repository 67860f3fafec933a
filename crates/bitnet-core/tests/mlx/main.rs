//! Every operation of the MLX backend beside the CPU's.
#![cfg(all(
    feature = "mlx",
    any(all(target_os = "macos", target_arch = "aarch64"), mlx_on_linux)
))]

#[path = "../beside/mod.rs"]
mod beside;
mod failures;
mod properties;
mod saved;
mod weights;

use beside::harness::{Look, Other};
use beside::{attention, elementwise, head, products, sessions};
use bitnet_core::mlx::MlxBackend;
use std::sync::LazyLock;

static MLX: LazyLock<MlxBackend> =
    LazyLock::new(|| MlxBackend::new().expect("MLX, which `cargo xtask setup` installs"));

impl Look for MlxBackend {
    fn look(&self, rows: Self::Hidden) -> Vec<f32> {
        self.fetch(&rows).expect("rows")
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
fn integers_are_exact() {
    products::integers_are_exact(&mlx());
}

#[test]
fn a_tall_matrix_is_exact() {
    products::a_tall_matrix_is_exact(&mlx());
}

#[test]
fn extremes_do_not_overflow() {
    products::extremes_do_not_overflow(&mlx());
}

#[test]
fn rounded_products_are_close() {
    products::rounded_products_are_close(&mlx());
}

#[test]
fn floats_are_close() {
    products::floats_are_close(&mlx());
}

#[test]
fn widths_that_differ_are_refused() {
    products::widths_that_differ_are_refused(&*MLX);
}

#[test]
fn a_code_of_three_counts_two() {
    products::a_code_of_three_counts_two(&mlx());
}

#[test]
fn embeddings_are_the_same_numbers() {
    elementwise::embeddings_are_the_same_numbers(&mlx());
}

#[test]
fn tokens_past_the_table_are_refused() {
    elementwise::tokens_past_the_table_are_refused(&*MLX);
}

#[test]
fn gates_are_close() {
    elementwise::gates_are_close(&mlx());
}

#[test]
fn gated_products_are_close() {
    elementwise::gated_products_are_close(&mlx());
}

#[test]
fn attention_is_close() {
    attention::attention_is_close(&mlx());
}

#[test]
fn a_wide_head_is_close() {
    attention::a_wide_head_is_close(&mlx()[0]);
}

#[test]
fn attention_that_is_multiplied_is_close() {
    attention::attention_that_is_multiplied_is_close(&mlx());
}

#[test]
fn weights_of_attention_are_close() {
    attention::weights_of_attention_are_close(&mlx());
}

#[test]
fn a_full_cache_says_so() {
    attention::a_full_cache_says_so(&*MLX);
}

#[test]
fn logits_are_close() {
    head::logits_are_close(&mlx());
}

#[test]
fn no_row_has_no_logits() {
    head::no_row_has_no_logits(&mlx());
}

#[test]
fn the_likeliest_are_those_of_the_logits() {
    head::the_likeliest_are_those_of_the_logits(&mlx());
}

#[test]
fn a_screened_head_finds_the_likeliest() {
    head::a_screened_head_finds_the_likeliest(&mlx());
}

#[test]
fn both_zeros_are_equal() {
    head::both_zeros_are_equal(&mlx());
}

#[test]
fn what_is_not_finite_is_told_first() {
    head::what_is_not_finite_is_told_first(&mlx());
}

#[test]
fn sessions_do_not_meet() {
    let model = sessions::Model::new(&*MLX);
    let prompts = [&[1, 2, 3][..], &[250, 7, 7, 9, 11, 40]];
    sessions::two_threads_do_not_meet(&*MLX, &model, prompts);
}

#[test]
fn what_was_forgotten_does_not_count() {
    sessions::what_was_forgotten_does_not_count(&*MLX);
}

#[test]
fn a_small_model_is_close_to_the_cpus() {
    sessions::a_small_model_is_close_to_the_cpus(&mlx());
}
