//! Embeddings, and gates.

use crate::beside::elementwise;
use crate::harness::*;

#[test]
fn embeddings_are_the_same_numbers() {
    elementwise::embeddings_are_the_same_numbers(&others_and_split());
}

#[test]
fn tokens_past_the_table_are_refused() {
    elementwise::tokens_past_the_table_are_refused(gpus()[0].1);
}

#[test]
fn gates_are_close() {
    elementwise::gates_are_close(&others());
}

#[test]
fn gated_products_are_close() {
    elementwise::gated_products_are_close(&others());
}
