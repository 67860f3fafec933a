//! Embeddings, and feed-forward sublayers.

use crate::harness::*;
use crate::parity::{embedding, feed_forward};

#[test]
fn embeddings() {
    embedding::rows(&others_and_split());
}

#[test]
fn refused_tokens() {
    embedding::refusals(gpus()[0].1);
}

#[test]
fn gates() {
    feed_forward::gates(&others());
}

#[test]
fn ternary_gates() {
    feed_forward::ternary_gates(&others());
}
