//! Mixers: rotation, the state and attention.

use crate::harness::*;
use crate::parity::attention;
use bitnet_core::{Backend, Input, OutputRequest};

#[test]
fn shapes() {
    attention::shapes(&others());
}

#[test]
fn wide_heads() {
    attention::wide_heads(&others()[0]);
}

#[test]
fn ternary_outputs() {
    attention::ternary_outputs(&others());
}

#[test]
fn attention_weights() {
    attention::attention_weights(&others());
}

#[test]
fn refusals() {
    attention::refusals(gpus()[0].1);
}

#[test]
fn full_state() {
    attention::full_state(gpus()[0].1);
}

#[test]
fn state_beyond_a_binding() {
    let (_, small) = split();
    let (embedding, _) = small
        .load_vocabulary(vocabulary(&[1.0; 64], 64))
        .expect("a vocabulary");
    let mut state = small
        .state(&[attention::FEW_HEADS], 4096, None)
        .expect("a state");
    let mut batch = batch(Input::Tokens(&[0; 200]), &mut state, OutputRequest::Nothing);
    let error = small
        .embed(&embedding, &mut batch)
        .expect_err("a small binding");
    assert!(error.to_string().contains("binds at most"), "{error}");
}
